"""What two processes over gloo compute of their shares is what one process computes of all rows."""

import multiprocessing
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fuse_examples.imaging.oai_example.objectives.dino_loss import DINOLoss
from fuse_examples.imaging.oai_example.objectives.koleo import koleo_loss
from fuse_examples.imaging.oai_example.objectives.sinkhorn import sinkhorn_knopp

SHARES = {"uneven": (2, 6), "none in one": (8, 0)}
"""Rows of each process."""


def rows(n: int, size: int, seed: int) -> Tensor:
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def neighbours() -> Tensor:
    """Features of which rows 0 and 5, 1 and 6, 2 and 4 lie close together, and rows 3 and 7 are one."""
    features = rows(8, 6, seed=1)
    features[7] = features[3]
    for one, other in ((0, 5), (1, 6), (2, 4)):
        features[other] = features[one] + 0.05 * rows(1, 6, seed=one)[0]
    return features


def koleo(features: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and its gradient."""
    leaf = features.clone().requires_grad_()
    loss = koleo_loss(leaf)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def centre(logits: Tensor) -> Tensor:
    loss = DINOLoss(logits.shape[-1], center_momentum=0.5).double()
    loss.update_center(logits[None])
    return loss.center


def computed(rank: int, *shares: int) -> dict[str, Any]:
    """Everything of one process's share of eight rows."""
    features, logits = (of_all.split(list(shares))[rank] for of_all in (neighbours(), rows(8, 7, seed=2)))
    return {"koleo": koleo(features), "sinkhorn": sinkhorn_knopp(logits, 0.2), "centre": centre(logits)}


def work(rank: int, shares: tuple[int, int], folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    group = weakref.ref(torch.distributed.group.WORLD)
    found = computed(rank, *shares)
    torch.distributed.destroy_process_group()
    torch.save(found | {"group is gone": group() is None}, folder / f"{rank}.pt")


@pytest.fixture(scope="module", params=SHARES)
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes has computed."""
    folder, spawn = tmp_path_factory.mktemp("processes"), multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=work, args=(rank, SHARES[request.param], folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_koleo_compares_the_rows_of_both(two: list[dict[str, Any]]) -> None:
    loss, gradient = computed(0, 8)["koleo"]
    losses, gradients = zip(*(found["koleo"] for found in two), strict=True)
    torch.testing.assert_close(torch.stack(losses).mean(), loss, rtol=1e-12, atol=0)
    # A process's backward pass adds what the losses of all say of its rows; the mean over processes is what training steps by.
    torch.testing.assert_close(torch.cat(gradients) / 2, gradient, rtol=1e-12, atol=1e-14)


def test_rows_have_their_nearest_in_the_other_process() -> None:
    """Else the test above would show nothing."""
    alone = torch.stack([koleo(share)[0] for share in neighbours().split(SHARES["uneven"])]).mean()
    assert abs(float(alone - koleo(neighbours())[0])) > 0.5


def test_sinkhorn_balances_the_rows_of_both(two: list[dict[str, Any]]) -> None:
    torch.testing.assert_close(torch.cat([found["sinkhorn"] for found in two]), computed(0, 8)["sinkhorn"], rtol=1e-12, atol=1e-14)


def test_the_centre_is_the_mean_of_the_rows_of_both(two: list[dict[str, Any]]) -> None:
    for found in two:
        torch.testing.assert_close(found["centre"], computed(0, 8)["centre"], rtol=1e-12, atol=1e-14)


def test_nothing_keeps_the_group_when_it_is_left(two: list[dict[str, Any]]) -> None:
    """Its threads would run into the end of the process, which then aborts in a few of a hundred runs."""
    assert all(found["group is gone"] for found in two)
