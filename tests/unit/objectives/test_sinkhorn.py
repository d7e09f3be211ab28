"""Sinkhorn-Knopp centring against the paper's algorithm, written once more in float64 NumPy with loops."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.objectives.dino_loss import DINOLoss
from fuse_examples.imaging.oai_example.objectives.sinkhorn import sinkhorn_knopp

Array = NDArray[np.float64]


def paper(logits: Array, temperature: float, n_iterations: int) -> Array:
    """Algorithm of arXiv 2006.09882: Q is prototypes x samples, of total mass 1; its columns are multiplied by their number at the end."""
    q = np.exp(logits / temperature).T
    q = q / q.sum()
    n_prototypes, n_samples = q.shape
    for _ in range(n_iterations):
        for k in range(n_prototypes):
            q[k] = q[k] / q[k].sum() / n_prototypes
        for b in range(n_samples):
            q[:, b] = q[:, b] / q[:, b].sum() / n_samples
    return (q * n_samples).T


@pytest.mark.parametrize(("n", "k"), [(1, 2), (2, 7), (8, 3), (5, 64), (16, 1024)])
@pytest.mark.parametrize("temperature", [0.02, 0.04, 0.07, 1.0])
@pytest.mark.parametrize("n_iterations", [1, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_the_papers_algorithm(n: int, k: int, temperature: float, n_iterations: int, dtype: torch.dtype) -> None:
    logits = np.random.default_rng(n * 100 + k).uniform(-1, 1, (n, k)).astype(np.float32).astype(float)
    result = sinkhorn_knopp(torch.from_numpy(logits).to(dtype), temperature, n_iterations)
    assert result.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    np.testing.assert_allclose(result.numpy(), paper(logits, temperature, n_iterations), rtol=tolerance, atol=1e-14)


def test_autocast_takes_nothing_from_it() -> None:
    logits = np.random.default_rng(0).uniform(-1, 1, (4, 9)).astype(np.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = sinkhorn_knopp(torch.from_numpy(logits), 0.02)
    np.testing.assert_allclose(result.numpy(), paper(logits.astype(float), 0.02, 3), rtol=1e-6, atol=1e-14)


def test_rows_are_distributions_and_all_prototypes_are_used_alike() -> None:
    logits = torch.randn(64, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + torch.tensor([3.0] + [0.0] * 7)
    result = sinkhorn_knopp(logits, 0.5, n_iterations=50)
    torch.testing.assert_close(result.sum(dim=1), torch.ones(64, dtype=torch.float64))
    torch.testing.assert_close(result.mean(dim=0), torch.full((8,), 1 / 8, dtype=torch.float64), rtol=1e-3, atol=0)


def test_logits_whose_exponentials_no_number_holds_are_balanced_all_the_same() -> None:
    """By exponentials the second row and the last two prototypes would have no mass at all, and nothing could be scaled."""
    logits = torch.tensor([[300.0, -300.0, 0.0], [100.0, 100.0, -50.0]])
    result = sinkhorn_knopp(logits, 0.01, n_iterations=1)
    # Prototypes 1 and 3 are the first row's but for exp(-20 000) and exp(-5 000), prototype 2 is the second row's.
    torch.testing.assert_close(result, torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]))


@pytest.mark.parametrize(("temperature", "n_iterations"), [(0.0, 3), (-1.0, 3), (0.1, 0)])
def test_values_without_meaning_are_refused(temperature: float, n_iterations: int) -> None:
    with pytest.raises(ValueError, match="temperature must be positive and n_iterations 1 or more"):
        sinkhorn_knopp(torch.zeros(2, 3), temperature, n_iterations)


def test_the_loss_balances_all_views_together_and_ignores_its_centre() -> None:
    rng = np.random.default_rng(3)
    teacher, student = rng.uniform(-1, 1, (2, 4, 9)), rng.uniform(-1, 1, (3, 4, 9))
    loss = DINOLoss(9, 0.1, centering="sinkhorn")
    loss.update_center(torch.from_numpy(teacher))
    targets = paper(teacher.reshape(8, 9), 0.05, 3).reshape(2, 4, 9)
    logarithms = student / 0.1 - np.log(np.exp(student / 0.1).sum(axis=-1, keepdims=True))
    pairs = [-(targets[t] * logarithms[s]).sum(axis=-1) for t in range(2) for s in range(3) if s != t]
    assert loss(torch.from_numpy(student), torch.from_numpy(teacher), 0.05).item() == pytest.approx(np.mean(pairs), rel=1e-10)
    single = loss(torch.from_numpy(student).float(), torch.from_numpy(teacher).float(), 0.05)
    assert single.item() == pytest.approx(np.mean(pairs), rel=1e-6)


def test_an_unknown_way_of_centring_is_refused() -> None:
    with pytest.raises(ValueError, match="centering must be one of moving_average, sinkhorn, not 'none'"):
        DINOLoss(4, centering="none")  # type: ignore[arg-type]  # what a caller might pass
