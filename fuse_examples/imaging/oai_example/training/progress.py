"""How far a run is and whether it waits for data: bars on a terminal, one line per epoch in the log."""

import logging
import sys
import time
from collections import deque
from typing import Any, TextIO

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

from fuse_examples.imaging.oai_example.training.epoch_loop import EpochLoop
from fuse_examples.imaging.oai_example.training.history import EpochHistory

log = logging.getLogger(__name__)

WINDOW = 50
"""Batches over which the share of waiting is taken."""


def progress_callbacks(history: EpochHistory, stream: TextIO | None = None) -> list[Callback]:
    """Return the callbacks that tell of progress, to stand behind `history`; a bar only where `stream` (standard error) is a terminal."""
    stream = sys.stderr if stream is None else stream
    watch: list[Callback] = [DataWait(), EpochLines(history)]
    return [*watch, Bars(stream)] if stream.isatty() else watch


class DataWait(Callback):
    """Logs `train/data_wait`, the share of training time spent waiting for batches (0 to 1, last 50 batches), and `train/learning_rate`.

    Validation counts neither as waiting nor as work.
    """

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._waited_before = 0.0
        self._began = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Work on a batch begins."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Work on a batch ends; log the share."""
        loop = trainer.fit_loop.epoch_loop
        waited = loop.data_wait if isinstance(loop, EpochLoop) else 0.0
        self._recent.append((waited - self._waited_before, time.perf_counter() - self._began))
        self._waited_before = waited
        pl_module.log("train/data_wait", self.share, prog_bar=True, batch_size=1)
        pl_module.log("train/learning_rate", float(trainer.optimizers[0].param_groups[0]["lr"]), batch_size=1)

    @property
    def share(self) -> float:
        """Waiting over waiting and work, of the last batches."""
        waiting = sum(pair[0] for pair in self._recent)
        whole = waiting + sum(pair[1] for pair in self._recent)
        return waiting / whole if whole else 0.0


class EpochLines(Checkpoint):
    """Writes a line to the log after each epoch: its number, time and the metrics that are marked for the progress bar.

    Of what is logged in each step the line gives the mean over the epoch, as `history.csv` does; Lightning's own figure is the last step's.
    It is Lightning's `Checkpoint` so that it comes after the history.

    Args:
        history: has this epoch's row when the epoch ends.
    """

    def __init__(self, history: EpochHistory) -> None:
        self._history = history

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock."""
        self._began = time.perf_counter()

    _began: float | None = None
    _validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that this epoch has validation figures."""
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the line. An epoch that was resumed in its middle has no time of its own."""
        took = "" if self._began is None else f"  {time.perf_counter() - self._began:.1f} s"
        self._began = None
        shown = {name: value for name, value in trainer.progress_bar_metrics.items() if not name.endswith("_step")}
        if not self._validated:  # Lightning goes on showing the figures of the last validation
            shown = {name: value for name, value in shown.items() if not name.startswith("val/")}
        self._validated = False
        means = self._history.rows[-1]
        figures = "".join(f"  {name.removesuffix('_epoch')} {means.get(name, float(value)):.4g}" for name, value in sorted(shown.items()))
        log.info("epoch %d/%s%s%s", trainer.current_epoch + 1, trainer.max_epochs, took, figures)


class Bars(TQDMProgressBar):
    """Lightning's bars on standard error, which leaves standard output to results; they vanish when an epoch's line is written."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def _bar(self, description: str, position: int = 0) -> Tqdm:
        return Tqdm(
            desc=description,
            position=position,
            disable=self.is_disabled,
            leave=False,
            dynamic_ncols=True,
            file=self._stream,
            smoothing=0,
            bar_format=self.BAR_FORMAT,
        )

    def init_train_tqdm(self) -> Tqdm:
        """The bar of a training epoch."""
        return self._bar("Training")

    def init_validation_tqdm(self) -> Tqdm:
        """The bar of a validation, below the training bar."""
        return self._bar("Validation", position=1)

    def init_test_tqdm(self) -> Tqdm:
        """The bar of a test."""
        return self._bar("Testing")

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Count epochs from 1, as the log and the configuration do."""
        super().on_train_epoch_start(trainer, *_)
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """The figures behind the bar; Lightning's "v_num" is the run folder's name here and left out."""
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        return items
