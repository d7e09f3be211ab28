"""Lightning's loop over the batches of an epoch, with two additions: a hook between optimiser steps, and the time spent waiting for data.

Lightning calls a callback's `on_train_batch_end` before the LightningModule's. A checkpoint written there would miss what the task does
after a step (a teacher's moving average, say), and a resumed run would never do it. `on_step_boundary` comes when everything that belongs
to a batch is done, the gradients are spent, and the next batch has not been asked for.
"""

import time
from typing import Any, Protocol, runtime_checkable

import pytorch_lightning as pl
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop


@runtime_checkable
class StepBoundaryCallback(Protocol):
    """A callback that wants to be called between two optimiser steps of one epoch (not after the last: see `on_train_epoch_end`)."""

    def on_step_boundary(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Do what must see the state of the run between two steps; may raise to end the run."""


class EpochLoop(_TrainingEpochLoop):
    """`_TrainingEpochLoop` that calls `on_step_boundary` and adds up `data_wait`, the seconds spent waiting for batches."""

    data_wait = 0.0
    _asked_at = 0.0

    def on_advance_end(self, data_fetcher: Any) -> None:
        """Finish a batch as Lightning does (validation, counters), then call the step boundary's callbacks."""
        super().on_advance_end(data_fetcher)
        if self._should_accumulate() or self._num_ready_batches_reached():
            return
        for callback in self.trainer.callbacks:
            if isinstance(callback, StepBoundaryCallback):
                callback.on_step_boundary(self.trainer, self.trainer.lightning_module)

    def _on_before_fetch(self) -> None:
        super()._on_before_fetch()
        self._asked_at = time.perf_counter()

    def _on_after_fetch(self) -> None:
        self.data_wait += time.perf_counter() - self._asked_at
        super()._on_after_fetch()


def install_epoch_loop(trainer: pl.Trainer) -> EpochLoop:
    """Put an `EpochLoop` in the place of the trainer's own; to be called before `fit`."""
    own = trainer.fit_loop.epoch_loop
    loop = EpochLoop(trainer, min_steps=own.min_steps, max_steps=own.max_steps)
    trainer.fit_loop.epoch_loop = loop
    return loop
