"""The table of epochs: means over batches, figures of validation, and what a resumed run makes of it."""

import csv
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from tiny import TinyTask, tiny_run

from fuse_examples.imaging.oai_example.training.history import EpochHistory, read_history
from fuse_examples.imaging.oai_example.training.interruption import Interrupted, Interruption


class Counting(TinyTask):
    """Logs the number of the batch in each, and a figure at the end of each epoch, after the callbacks' turn."""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.log("train/number", float(self.global_step))
        return super().training_step(batch, batch_idx)

    def on_train_epoch_end(self) -> None:
        self.log("dino/rank", 10.0 + self.current_epoch)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_row_per_epoch_with_means_of_batches_and_the_epochs_own_figures(tmp_path: Path) -> None:
    tiny_run(tmp_path, Counting([0.2, 0.7, float("nan")]), n_epochs=3, callbacks=[EpochHistory(tmp_path)])
    rows = rows_of(tmp_path)
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "3"), ("2", "6"), ("3", "9")]
    assert [float(row["train/number"]) for row in rows] == [1.0, 4.0, 7.0]  # means of 0, 1, 2 and so on
    assert [row["val/score"] for row in rows] == ["0.2", "0.7", ""]
    assert [float(row["dino/rank"]) for row in rows] == [10.0, 11.0, 12.0]
    assert read_history(tmp_path / "history.csv")[2].keys().isdisjoint({"val/score"})
    assert read_history(tmp_path / "nothing.csv") == []


def test_means_are_over_the_batches_that_logged_a_finite_number(tmp_path: Path) -> None:
    class Sometimes(TinyTask):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            if batch_idx != 1:
                self.log("train/even", float(self.global_step))
            self.log("train/damaged", float("nan") if batch_idx == 2 else float(self.global_step))
            self.log("train/never", float("inf"))
            return super().training_step(batch, batch_idx)

    tiny_run(tmp_path, Sometimes([0.2, 0.7]), n_epochs=2, callbacks=[EpochHistory(tmp_path)])
    rows = rows_of(tmp_path)
    assert [float(row["train/even"]) for row in rows] == [1.0, 4.0]
    assert [float(row["train/damaged"]) for row in rows] == [0.5, 3.5]
    assert [row["train/never"] for row in rows] == ["", ""]


def test_an_epoch_without_validation_has_no_figures_of_the_one_before(tmp_path: Path) -> None:
    tiny_run(tmp_path, Counting([0.0, 0.7, 0.0, 0.5]), n_epochs=4, validate_every_n_epochs=2, callbacks=[EpochHistory(tmp_path)])
    assert [row["val/score"] for row in rows_of(tmp_path)] == ["", "0.7", "", "0.5"]


@pytest.mark.parametrize("stop", [2, 3, 4])  # within, at the end and at the beginning of an epoch
def test_a_run_that_was_stopped_and_went_on_elsewhere_has_the_same_table(tmp_path: Path, stop: int) -> None:
    class Stopped(Counting):
        def on_train_batch_start(self, batch: torch.Tensor, batch_idx: int) -> None:
            if self.global_step == stop - 1:
                interruption.requested = 15

    torch.manual_seed(0)
    tiny_run(tmp_path / "whole", Counting([0.2, 0.7]), n_epochs=2, callbacks=[EpochHistory(tmp_path / "whole")])
    interruption = Interruption()
    torch.manual_seed(0)
    with pytest.raises(Interrupted):
        tiny_run(tmp_path / "a", Stopped([0.2, 0.7]), n_epochs=2, interruption=interruption, callbacks=[EpochHistory(tmp_path / "a")])
    last = tmp_path / "a" / "checkpoints" / "last.ckpt"
    tiny_run(tmp_path / "b", Counting([0.2, 0.7]), n_epochs=2, resume_from=last, callbacks=[EpochHistory(tmp_path / "b")])
    whole, resumed = rows_of(tmp_path / "whole"), rows_of(tmp_path / "b")
    assert [row.keys() for row in whole] == [row.keys() for row in resumed]
    if stop == 3:
        assert whole == resumed
    assert [(row["epoch"], row["step"], row["dino/rank"]) for row in whole] == [
        (row["epoch"], row["step"], row["dino/rank"]) for row in resumed
    ]
