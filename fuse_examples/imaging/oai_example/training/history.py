"""What each epoch of a run has shown, in one table beside its checkpoints: `history.csv`, which reports draw learning curves from."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from fuse_examples.imaging.oai_example.training.safe_files import write_text

HISTORY = "history.csv"
FIRST_COLUMNS = ("epoch", "step")


class EpochHistory(Checkpoint):
    """Callback that adds a row to `history.csv` after each epoch: everything that was logged in it, by its logged name.

    What is logged in batches or steps is given as its mean over those of the epoch in which it was logged, and was a finite number: a
    damaged volume does not take an epoch's figures away. Rows travel in checkpoints, so that a resumed run goes on
    with those of the state it resumes, also in another folder. Of several processes the first one's figures are written.

    Being Lightning's `Checkpoint`, it comes after the LightningModule at the end of an epoch; it has to stand before the writer of
    checkpoints, whose files then hold this epoch's row.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / HISTORY
        self.rows: list[dict[str, float]] = []
        self._totals: dict[str, Tensor | float] = {}
        self._counts: dict[str, Tensor | float] = {}
        self._before: Mapping[str, Any] = {}
        self._latest: Mapping[str, Any] = {}

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note what was logged before: Lightning goes on showing it."""
        self._before = dict(trainer.callback_metrics)
        self._totals, self._counts, self._latest = {}, {}, self._before

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add up the batch's figures where they are; a GPU need not wait for them."""
        logged = trainer.callback_metrics  # gathered anew at each call
        for name, value in self._new(logged).items():
            if not _is_one(value, self._latest.get(name)):
                is_finite = value.detach().isfinite()
                self._totals[name] = self._totals.get(name, 0.0) + torch.where(is_finite, value.detach(), 0.0)
                self._counts[name] = self._counts.get(name, 0.0) + is_finite.float()
        self._latest = dict(logged)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row and write the table."""
        figures = {name: float(value) for name, value in self._new(trainer.callback_metrics).items()}
        figures |= {name: _mean(float(total), float(self._counts[name])) for name, total in self._totals.items()}
        self.rows.append({"epoch": trainer.current_epoch + 1, "step": trainer.global_step, **figures})
        self._totals, self._counts = {}, {}
        if trainer.is_global_zero:
            write_text(self.path, table_text(self.rows))

    def state_dict(self) -> dict[str, Any]:
        """Return the rows, and what the epoch in progress has added up."""
        totals, counts = ({name: float(one) for name, one in kept.items()} for kept in (self._totals, self._counts))
        return {"rows": [dict(row) for row in self.rows], "totals": totals, "counts": counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the rows of a checkpoint; those of earlier versions have one number of batches for all figures."""
        self.rows, self._totals = state_dict["rows"], dict(state_dict["totals"])
        self._counts = dict(state_dict["counts"]) if "counts" in state_dict else dict.fromkeys(self._totals, state_dict["n_batches"])

    def _new(self, logged: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What has been logged since the epoch began. A figure that is logged anew is another object, whatever its value."""
        return {name: value for name, value in logged.items() if value is not self._before.get(name)}


def _is_one(value: Tensor, before: Tensor | None) -> bool:
    """Whether a figure of this batch is still that of an earlier one, which Lightning goes on showing: the same memory, held by both."""
    return before is not None and value.data_ptr() == before.data_ptr()


def _mean(total: float, count: float) -> float:
    return total / count if count else math.nan


def table_text(rows: Sequence[Mapping[str, float]]) -> str:
    """Return the table as CSV text: a column for each name that any row has, an empty cell where an epoch has no such figure."""
    names = sorted({name for row in rows for name in row} - set(FIRST_COLUMNS))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FIRST_COLUMNS, *names])
    for row in rows:
        cells = ["" if (value := row.get(name)) is None or value != value else f"{value:.6g}" for name in names]
        writer.writerow([*(int(row[name]) for name in FIRST_COLUMNS), *cells])
    return text.getvalue()


def read_history(path: Path) -> list[dict[str, float]]:
    """Read the rows of a `history.csv`; a row lacks the figures whose cells are empty. None of them where there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]
