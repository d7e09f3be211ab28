"""The loaders of a run: shuffled training views in a resumable order, and whole cases one at a time."""

from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from fuse_examples.imaging.oai_example.data.loading import build_loader
from fuse_examples.imaging.oai_example.data.sampler import EpochSampler, ResumableOrder


class VolumeDataModule(ResumableOrder, pl.LightningDataModule):
    """Training and evaluation sets of one run.

    Args:
        train: items by `SampleKey`, collated to batches; None where the run does not train.
        evaluation: validation cases in training, test cases in a test; items by `SampleKey`, one at a time.
        batch_size: training samples per step and device.
        n_workers: processes that make samples; the samples do not depend on it.
        seed: the run's seed, from which the order is drawn.
    """

    def __init__(self, train: Dataset[Any] | None, evaluation: Dataset[Any] | None, batch_size: int, n_workers: int, seed: int) -> None:
        super().__init__()
        self.train, self.evaluation = train, evaluation
        self.batch_size, self.n_workers, self.seed = batch_size, n_workers, seed

    def train_dataloader(self) -> DataLoader[Any]:
        """Augmented views in the order of (seed, epoch)."""
        sampler = self.train_sampler(_length(self.train), self.batch_size, self.seed)
        assert self.train is not None
        return build_loader(self.train, sampler, n_workers=self.n_workers)

    def val_dataloader(self) -> DataLoader[Any]:
        """Whole cases in the order of the CSV."""
        return self._cases()

    def predict_dataloader(self) -> DataLoader[Any]:
        """Whole cases in the order of the CSV."""
        return self._cases()

    def _cases(self) -> DataLoader[Any]:
        sampler = EpochSampler(_length(self.evaluation), 1, self.seed, shuffle=False)
        assert self.evaluation is not None
        return build_loader(self.evaluation, sampler, n_workers=self.n_workers, collate=_only_item)


def _length(dataset: Dataset[Any] | None) -> int:
    return len(dataset) if dataset is not None else 0  # type: ignore[arg-type]  # torch's Dataset promises no length, ours have one


def _only_item(items: list[Any]) -> Any:
    return items[0]
