"""The loader around a dataset: the same batches with any number of workers, and workers that leave signals to the main process."""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from fuse_examples.imaging.oai_example.data.sampler import EpochSampler
from fuse_examples.imaging.oai_example.errors import DataError, UserError


def build_loader(
    dataset: Any,
    sampler: EpochSampler,
    *,
    n_workers: int,
    collate: Callable[[list[Any]], Any] | None = None,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Return a loader of `dataset` in the order of `sampler`; `dataset[SampleKey]` must depend on the key alone.

    The loader has a generator of its own: each epoch draws a seed for the workers, which would otherwise come out of the run's random
    numbers and make them depend on `n_workers`.
    """
    return DataLoader(
        _Forwarding(dataset),
        batch_sampler=sampler,
        num_workers=n_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        persistent_workers=n_workers > 0,
        worker_init_fn=shield_worker,
        generator=torch.Generator().manual_seed(sampler.seed),
    )


class ForwardedError(DataError):
    """A mistake that a worker met. torch rebuilds it in the main process from the worker's traceback, of which only the message is kept."""

    def __init__(self, text: str) -> None:
        super().__init__(text.rpartition(f"{type(self).__name__}: ")[2].rstrip("\n"))


class _Forwarding(Dataset[Any]):
    """The dataset, whose mistakes reach the main process as they were worded."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._dataset[key]
        except UserError as error:
            if get_worker_info() is None:
                raise
            raise ForwardedError(str(error)) from None


def shield_worker(worker_id: int) -> None:
    """Make a loader's worker deaf to Ctrl-C, and to SIGTERM from anyone but its parent; a `worker_init_fn`.

    A terminal sends Ctrl-C to every process of its group, and SLURM sends SIGTERM to every process of a step. A worker that died of it
    would take the run with it before its checkpoint is written. The main process ends its workers itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS
        return
    # Blocked and awaited in a thread, because only this way tells who sent it. Threads started later inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_leave_when_parent_says_so, args=(os.getppid(),), daemon=True).start()


def _leave_when_parent_says_so(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
