"""The order in which a run sees its rows: a function of (seed, epoch) alone, so that it can be taken up again anywhere.

Batches are lists of `SampleKey`, which become the dataset's index: a dataset draws from (seed, key.epoch, key.row, view) and needs no
state of a worker. `ResumableOrder` keeps the position of a data module in Lightning's checkpoints.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from fuse_examples.imaging.oai_example.errors import DataError


class SampleKey(NamedTuple):
    """What a dataset is indexed with.

    `row` counts the rows of the split from 0; `epoch` is 0 throughout evaluation; `repeat` counts how often the row came before in this
    epoch, where rows are drawn with replacement.
    """

    epoch: int
    row: int
    repeat: int = 0


class Position(NamedTuple):
    """How far training has come: whole epochs done and, in the epoch after them, batches done."""

    epoch: int
    batch: int


START = Position(0, 0)


class EpochSampler(Sampler[list[SampleKey]]):
    """Batch sampler whose order is a function of (seed, epoch), with a start offset and a share per rank.

    The k-th batches of all ranks together are the k-th global batch of `batch_size * world_size` rows. The last, smaller one is kept and
    dealt out evenly; where it has fewer rows than there are ranks, rows repeat, because a rank without a batch would leave the others
    waiting.

    Args:
        n_rows: rows of the split.
        batch_size: rows of a batch on one rank.
        seed: the run's seed.
        shuffle: False gives the rows in order and keys of epoch 0, so that evaluation draws the same in every epoch.
        position: where to begin; batches before it are left out of the first epoch.
        rank: this process.
        world_size: number of processes.
        weights: chance of each row relative to the others, (n_rows,); an epoch then draws `n_rows` rows with replacement.
        n_batches: batches of an epoch, however many rows there are: pass after pass over the rows is cut into epochs of this length. The
            keys then hold the pass in place of the epoch, so that no view comes twice. None: an epoch is one pass.
    """

    def __init__(
        self,
        n_rows: int,
        batch_size: int,
        seed: int,
        *,
        shuffle: bool = True,
        position: Position = START,
        rank: int = 0,
        world_size: int = 1,
        weights: NDArray[np.float64] | None = None,
        n_batches: int | None = None,
    ) -> None:
        self.n_batches = n_batches
        self.weights = None if weights is None else weights / weights.sum()
        self.n_rows, self.batch_size, self.seed, self.shuffle = n_rows, batch_size, seed, shuffle
        self.position = position
        self.rank, self.world_size = rank, world_size

    @property
    def sampler(self) -> "EpochSampler":
        """This object: Lightning calls `set_epoch` on a loader's `batch_sampler.sampler`, not on its batch sampler."""
        return self

    @property
    def global_batch(self) -> int:
        """Rows of one batch over all ranks."""
        return self.batch_size * self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch at its first batch; the epoch a run was resumed in keeps its offset."""
        if epoch != self.position.epoch:
            self.position = Position(epoch, 0)

    def keys(self, epoch: int) -> list[SampleKey]:
        """The samples of `epoch` in their order, those of all ranks."""
        if self.n_batches is None:
            return self._pass(epoch)
        length = self.n_batches * self.global_batch
        first, start = divmod(epoch * length, self.n_rows)
        last = -(-(start + length) // self.n_rows)
        return [key for number in range(first, first + last) for key in self._pass(number)][start : start + length]

    def _pass(self, number: int) -> list[SampleKey]:
        """Every row once, or as many rows drawn by their weights."""
        if not self.shuffle:
            return [SampleKey(0, row) for row in range(self.n_rows)]
        draw = np.random.default_rng([self.seed, number])
        if self.weights is None:
            return [SampleKey(number, row) for row in draw.permutation(self.n_rows).tolist()]
        rows = draw.choice(self.n_rows, size=self.n_rows, p=self.weights)
        return [SampleKey(number, row, repeat) for row, repeat in zip(rows.tolist(), _repeats(rows).tolist(), strict=True)]

    def batch(self, keys: list[SampleKey], index: int) -> list[SampleKey]:
        """This rank's share of the global batch number `index` of an epoch's keys."""
        share = keys[index * self.global_batch : (index + 1) * self.global_batch]
        if len(share) < self.world_size:
            share = (share * self.world_size)[: self.world_size]
        return share[self.rank :: self.world_size]

    def __iter__(self) -> Iterator[list[SampleKey]]:
        # Drawn up now and not at the first `next`: the position may move on while a loader's workers still read ahead.
        epoch, start = self.position
        keys = self.keys(epoch)
        return iter([self.batch(keys, index) for index in range(start, len(self))])

    def __len__(self) -> int:
        """Batches of a whole epoch, whatever the offset: Lightning compares it with the batches done since the epoch began."""
        return -(-self.n_rows // self.global_batch) if self.n_batches is None else self.n_batches


def _repeats(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each entry's value stands before it, (n,)."""
    places = np.argsort(order, kind="stable")
    _, starts, counts = np.unique(order[places], return_index=True, return_counts=True)
    repeats = np.empty(len(order), dtype=np.int64)
    repeats[places] = np.arange(len(order)) - np.repeat(starts, counts)
    return repeats


class ResumableOrder:
    """Mixin for a `LightningDataModule` (name it first): its training order continues where a checkpoint stopped.

    Build the training loader's batch sampler with `train_sampler`; Lightning then calls `state_dict` and `load_state_dict`.
    """

    trainer: Any
    _resumed: dict[str, int] | None = None
    _train_sampler: EpochSampler | None = None

    def train_sampler(
        self, n_rows: int, batch_size: int, seed: int, weights: NDArray[np.float64] | None = None, n_batches: int | None = None
    ) -> EpochSampler:
        """Return the sampler of the training loader, at the checkpoint's position when the run is resumed.

        Raises:
            DataError: the run stopped in the middle of an epoch, and the number of rows or the batch is no longer the same.
        """
        rank, world_size = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        sampler = EpochSampler(n_rows, batch_size, seed, rank=rank, world_size=world_size, weights=weights, n_batches=n_batches)
        if self._resumed is not None:
            sampler.position = _checked_position(self._resumed, sampler)
        self._train_sampler = sampler
        return sampler

    def state_dict(self) -> dict[str, int]:
        """Return the position in the training order and what it depends on; plain integers."""
        sampler = self._train_sampler
        if sampler is None or self.trainer is None:
            return {}
        loop = self.trainer.fit_loop
        epochs = loop.epoch_progress.current
        # Between two epochs the batch counter still stands at the end of the one that is done.
        batch = loop.epoch_loop.batch_progress.current.completed if epochs.ready > epochs.processed else 0
        return {
            "epoch": epochs.processed,
            "batch": batch,
            "n_rows": sampler.n_rows,
            "global_batch": sampler.global_batch,
            "seed": sampler.seed,
        }

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Take over a position; `train_sampler` applies it."""
        self._resumed = dict(state_dict)


def _checked_position(state: dict[str, int], sampler: EpochSampler) -> Position:
    position = Position(state["epoch"], state["batch"])
    then = (state["n_rows"], state["global_batch"], state["seed"])
    now = (sampler.n_rows, sampler.global_batch, sampler.seed)
    if position.batch and then != now:
        raise DataError(
            f"The checkpoint stopped after batch {position.batch} of epoch {position.epoch + 1}, with {then[0]} training rows, batches of "
            f"{then[1]} over all devices and seed {then[2]}; now there are {now[0]} rows, batches of {now[1]} and seed {now[2]}, and the "
            "rest of that epoch cannot be seen as it would have been. Use the same rows, batch size, seed and number of devices, or "
            "resume from a checkpoint of the end of an epoch."
        )
    return position
