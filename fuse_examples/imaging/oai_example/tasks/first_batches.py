"""The batches that normalisation statistics are measured on before a run's first step."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

STATISTICS_VOLUMES = 128
"""How many volumes, or patches, normalisation statistics are measured on."""


def first_batches(trainer: pl.Trainer, device: torch.device, count: Callable[[dict[str, Any]], int]) -> Iterator[dict[str, Any]]:
    """Batches of the first epoch, on the device, until they hold `STATISTICS_VOLUMES`; `count` says how many a batch holds."""
    loader = trainer.train_dataloader
    assert loader is not None
    batches: Iterable[dict[str, Any]] = loader
    if isinstance(loader, DataLoader) and loader.batch_sampler is not None:
        # Made here: workers that persist serve one iterator, and training has taken it.
        batches = (loader.collate_fn([loader.dataset[index] for index in indices]) for indices in loader.batch_sampler)
    n_volumes = 0
    for batch in islice(batches, int(trainer.num_training_batches)):
        yield trainer.strategy.batch_to_device(batch, device)
        n_volumes += count(batch)
        if n_volumes >= STATISTICS_VOLUMES:
            return
