"""The loader around a dataset: the same batches with any number of workers, and workers that leave signals to the main process."""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from fuse_examples.imaging.oai_example.data.sampler import EpochSampler


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
        dataset,
        batch_sampler=sampler,
        num_workers=n_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        persistent_workers=n_workers > 0,
        worker_init_fn=shield_worker,
        generator=torch.Generator().manual_seed(sampler.seed),
    )


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
