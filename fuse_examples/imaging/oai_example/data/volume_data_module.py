"""The loaders of a run: shuffled training views in a resumable order, and what is evaluated in the order of the table."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from fuse_examples.imaging.oai_example.data.loading import build_loader
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.sampler import EpochSampler, ResumableOrder, SampleKey
from fuse_examples.imaging.oai_example.data.view import make_views


class VolumeDataset(Protocol):
    """Samples made from stored volumes, one per `SampleKey`."""

    @property
    def volumes(self) -> tuple[CaseVolumes, ...]:
        """The cases that samples are made from."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: SampleKey) -> Any: ...


class VolumeDataModule(ResumableOrder, pl.LightningDataModule):
    """Training and evaluation sets of one run.

    Args:
        train: items by `SampleKey`, collated to batches; None where the run does not train.
        evaluation: validation items in training, test items in a test, by `SampleKey`; None where there are none.
        batch_size: training samples per step and device.
        n_workers: processes that make samples; the samples do not depend on it.
        seed: the run's seed, from which the order is drawn.
        collate: how items become a batch; None stacks tensors.
        evaluation_batch_size: None hands items on as they are, one at a time.
        sample_weights: chance of each training item relative to the others, (n,); None takes each once in an epoch.
        batches_per_epoch: batches of a training epoch; None for one pass over the items.
    """

    def __init__(
        self,
        train: VolumeDataset | None,
        evaluation: VolumeDataset | None,
        batch_size: int,
        n_workers: int,
        seed: int,
        *,
        collate: Callable[[list[Any]], Any] | None = None,
        evaluation_batch_size: int | None = None,
        sample_weights: NDArray[np.float64] | None = None,
        batches_per_epoch: int | None = None,
    ) -> None:
        super().__init__()
        self.train, self.evaluation = train, evaluation
        self.batch_size, self.n_workers, self.seed = batch_size, n_workers, seed
        self.collate, self.evaluation_batch_size = collate, evaluation_batch_size
        self.sample_weights, self.batches_per_epoch = sample_weights, batches_per_epoch

    @property
    def training_volumes(self) -> tuple[CaseVolumes, ...]:
        """The cases of the training set."""
        return self.train.volumes if self.train is not None else ()

    @property
    def volumes(self) -> tuple[CaseVolumes, ...]:
        """All cases."""
        return (*self.training_volumes, *(self.evaluation.volumes if self.evaluation is not None else ()))

    def train_dataloader(self) -> DataLoader[Any]:
        """Augmented views in the order of (seed, epoch)."""
        assert self.train is not None
        sampler = self.train_sampler(len(self.train), self.batch_size, self.seed, self.sample_weights, self.batches_per_epoch)
        return build_loader(self.train, sampler, n_workers=self.n_workers, collate=self.collate)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """What is validated on, in the order of the table; an empty list, Lightning's way to say that there is nothing."""
        return [] if self.evaluation is None else self._in_order(self.evaluation)

    def predict_dataloader(self) -> DataLoader[Any]:
        """What is tested, in the order of the table."""
        assert self.evaluation is not None
        return self._in_order(self.evaluation)

    def shared_dataloader(self, rank: int, world_size: int) -> tuple[DataLoader[Any], list[int]]:
        """This process's share of what `predict_dataloader` gives, and the rows of the table that it holds, in their order.

        Where there are fewer rows than processes, some hold the same ones.
        """
        assert self.evaluation is not None
        loader = self._in_order(self.evaluation, rank, world_size)
        return loader, [key.row for keys in loader.batch_sampler for key in keys]  # type: ignore[union-attr]  # an EpochSampler

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Make the views that were left to the device."""
        return make_views(batch)

    def _in_order(self, dataset: VolumeDataset, rank: int = 0, world_size: int = 1) -> DataLoader[Any]:
        size = self.evaluation_batch_size or 1
        sampler = EpochSampler(len(dataset), size, self.seed, shuffle=False, rank=rank, world_size=world_size)
        collate = _only_item if self.evaluation_batch_size is None else self.collate
        return build_loader(dataset, sampler, n_workers=self.n_workers, collate=collate)


def _only_item(items: list[Any]) -> Any:
    return items[0]
