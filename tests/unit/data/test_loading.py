"""Loaders: the same batches with any number of workers; workers that outlive signals meant for the main process."""

import os
import signal
import time

import pytest
import torch
from torch.utils.data import Dataset, get_worker_info

from fuse_examples.imaging.oai_example.data.loading import build_loader
from fuse_examples.imaging.oai_example.data.sampler import EpochSampler, SampleKey
from fuse_examples.imaging.oai_example.errors import DataError


class Keys(Dataset):
    def __getitem__(self, key: SampleKey) -> torch.Tensor:
        return torch.tensor([key.epoch, key.row, 0 if get_worker_info() is None else os.getpid()])


def read(n_workers: int) -> list[list[list[int]]]:
    sampler = EpochSampler(7, 2, 3)
    loader = build_loader(Keys(), sampler, n_workers=n_workers)
    before = torch.get_rng_state()
    epochs = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        epochs += [batch[:, :2].tolist() for batch in loader]
    assert torch.equal(torch.get_rng_state(), before)
    return epochs


def test_batches_and_the_random_state_do_not_depend_on_workers() -> None:
    assert read(0) == read(2)


def test_workers_ignore_signals_from_others_and_leave_when_the_loader_does() -> None:
    loader = build_loader(Keys(), EpochSampler(400, 1, 0), n_workers=1)
    batches = iter(loader)
    worker = int(next(batches)[0, 2])
    # From another process, as a terminal or SLURM sends them.
    for name in ("INT", "TERM"):
        assert os.system(f"kill -{name} {worker}") == 0
    assert {int(batch[0, 2]) for batch in batches} == {worker}
    os.kill(worker, signal.SIGTERM)  # from its parent: the loader's own way of ending it
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and os.waitpid(worker, os.WNOHANG)[0] == 0:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{worker}")


class Vanished(Dataset):
    def __getitem__(self, key: SampleKey) -> torch.Tensor:
        raise DataError(["scans/7: does not exist.", "scans/7: a second remark."])


@pytest.mark.parametrize("n_workers", [0, 1])
def test_a_mistake_in_a_worker_reaches_the_user_as_it_was_worded(n_workers: int) -> None:
    with pytest.raises(DataError) as error:
        next(iter(build_loader(Vanished(), EpochSampler(4, 1, 0), n_workers=n_workers)))
    assert str(error.value) == "scans/7: does not exist.\nscans/7: a second remark."
