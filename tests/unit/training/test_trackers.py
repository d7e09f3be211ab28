"""Curves: each scalar once, in the run's folder, also after a resume."""

import logging
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import TinyTask, tiny_run
from torch.utils.data import DataLoader

from fuse_examples.imaging.oai_example.training.history import EpochHistory
from fuse_examples.imaging.oai_example.training.progress import DataWait, EpochLines, progress_callbacks
from fuse_examples.imaging.oai_example.training.trackers import RunTensorBoard, log_image


def curves(folder: Path) -> dict[str, list[int]]:
    """Steps of each scalar as TensorBoard shows them."""
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_scalars_arrive_once_in_the_run_folder_and_nothing_else_does(tmp_path: Path) -> None:
    tiny_run(tmp_path, TinyTask([1, 2]), n_epochs=2, loggers=[RunTensorBoard(tmp_path)], callbacks=[DataWait()], log_every_n_steps=1)
    steps = list(range(6))
    assert curves(tmp_path) == {
        "train/loss": steps, "train/data_wait": steps, "train/learning_rate": steps, "val/score": [2, 5], "val/other": [2, 5],
    }  # fmt: skip
    names = {path.name.split(".")[0] for path in tmp_path.iterdir()}
    assert names == {"events", "checkpoints", "val_metrics"}


def test_what_a_killed_run_logged_after_its_checkpoint_is_replaced(tmp_path: Path) -> None:
    first = RunTensorBoard(tmp_path)
    tiny_run(tmp_path, TinyTask([1]), n_epochs=1, loggers=[first], log_every_n_steps=1)
    for step in (3, 4):  # as if the run had gone on and been killed
        first.log_metrics({"train/loss": 99.0}, step)
    first.save()
    last = tmp_path / "checkpoints" / "last.ckpt"
    resumed = RunTensorBoard(tmp_path, resumed_at=3)
    tiny_run(tmp_path, TinyTask([1, 1]), n_epochs=2, loggers=[resumed], resume_from=last, log_every_n_steps=1)
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")
    assert [event.step for event in events] == list(range(6))
    assert max(event.value for event in events) < 99


def test_pictures_in_grey_and_colour(tmp_path: Path) -> None:
    logger = RunTensorBoard(tmp_path)
    log_image([logger], "val/examples", np.full((4, 6), 128, np.uint8), 3)
    log_image([logger], "val/masks", np.zeros((4, 6, 3), np.uint8), 3)
    logger.save()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.width, event.height) for event in events.Images("val/examples") + events.Images("val/masks")] == [
        (3, 6, 4)
    ] * 2


def test_the_epoch_lines_name_epoch_time_metrics_and_waiting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="fuse_examples")
    history = EpochHistory(tmp_path)
    tiny_run(tmp_path, TinyTask([0.25, 0.5]), n_epochs=2, callbacks=[history, DataWait(), EpochLines(history)])
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("progress")]
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2  ")
    for part in (" s  ", "train/data_wait 0", "val/score 0.5"):
        assert part in lines[1]
    losses = [float(line.split("train/loss ")[1].split()[0]) for line in lines]
    assert losses == [pytest.approx(row["train/loss"], rel=1e-3) for row in history.rows], "the mean over the epoch, not the last step's"


def test_an_epoch_without_validation_shows_no_old_figure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="fuse_examples")
    history = EpochHistory(tmp_path)
    tiny_run(tmp_path, TinyTask([0.25, 0.5]), n_epochs=3, callbacks=[history, EpochLines(history)], validate_every_n_epochs=2)
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("progress")]
    assert ["val/score" in line for line in lines] == [False, True, False]


def test_a_bar_is_for_terminals(tmp_path: Path) -> None:
    class Terminal:
        def __init__(self, tty: bool) -> None:
            self.tty, self.text = tty, ""

        def isatty(self) -> bool:
            return self.tty

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None: ...

    quiet, shown, history = Terminal(False), Terminal(True), EpochHistory(tmp_path)
    tiny_run(tmp_path, TinyTask([0.5]), n_epochs=1, callbacks=[history, *progress_callbacks(history, quiet)])  # type: ignore[arg-type]
    tiny_run(tmp_path, TinyTask([0.5]), n_epochs=1, callbacks=[history, *progress_callbacks(history, shown)])  # type: ignore[arg-type]
    assert quiet.text == ""
    for part in ("Epoch 1/1", "Validation", "train/data_wait="):
        assert part in shown.text
    assert "v_num" not in shown.text


class Clock:
    """Time that passes only when someone says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Timed(TinyTask):
    """Takes 2 s a step and 50 s a validation, and its data 6 s a batch."""

    def __init__(self, clock: Clock) -> None:
        super().__init__([1, 1])
        self.clock = clock

    def train_dataloader(self) -> object:
        return DataLoader([1.0] * 3, batch_size=1, collate_fn=self.collate)

    def collate(self, batch: list[float]) -> torch.Tensor:
        self.clock.now += 6
        return torch.tensor(batch)[:, None]

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.clock.now += 2
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.clock.now += 50
        super().validation_step(batch, batch_idx)


def test_the_share_of_waiting_is_of_waiting_and_work_without_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, wait = Clock(), DataWait()
    monkeypatch.setattr(time, "perf_counter", clock)
    tiny_run(tmp_path, Timed(clock), n_epochs=2, callbacks=[wait])
    assert wait.share == pytest.approx(6 / 8)
