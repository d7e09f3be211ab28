"""When checkpoints are written and what they hold; the best epoch through stops and resumes."""

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping

sys.path.insert(0, str(Path(__file__).parent))
from tiny import TinyTask, tiny_run

from fuse_examples.imaging.oai_example.errors import ConfigError, WeightsError
from fuse_examples.imaging.oai_example.training.checkpoints import FORMAT_VERSION, read_run_checkpoint
from fuse_examples.imaging.oai_example.training.interruption import Interrupted, Interruption

NAN = float("nan")


def load(folder: Path, name: str) -> dict[str, Any]:
    return read_run_checkpoint(folder / "checkpoints" / name, "key")


def test_last_is_the_newest_epoch_and_best_the_best(tmp_path: Path) -> None:
    tiny_run(tmp_path, TinyTask([0.2, 0.7, 0.5]), n_epochs=3)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["best.ckpt", "last.ckpt", "val_metrics.json"]
    assert load(tmp_path, "best.ckpt")["global_step"] == 6
    last = load(tmp_path, "last.ckpt")
    assert last["global_step"] == 9
    assert last["project"] == {"classes": ["a"], "format_version": FORMAT_VERSION}
    metrics = json.loads((tmp_path / "val_metrics.json").read_text())
    assert metrics["metrics"] == {"val/score": pytest.approx(0.7), "val/other": 1.0}
    assert (metrics["monitor"], metrics["epoch"], metrics["step"]) == ("val/score", 2, 6)


@pytest.mark.parametrize(
    ("mode", "scores", "best_step"),
    [("min", [0.5, 0.2, 0.3], 6), ("max", [0.5, 0.5, 0.5], 3), ("max", [NAN, 0.1, NAN], 6), ("min", [1, 2, NAN], 3)],
)
def test_which_epoch_is_the_best(tmp_path: Path, mode: str, scores: list[float], best_step: int) -> None:
    tiny_run(tmp_path, TinyTask(scores), n_epochs=3, mode=mode)
    assert load(tmp_path, "best.ckpt")["global_step"] == best_step


def test_without_a_monitor_the_last_epoch_is_the_best(tmp_path: Path) -> None:
    tiny_run(tmp_path, TinyTask([0.9, 0.1]), n_epochs=2, monitor=None)
    assert load(tmp_path, "best.ckpt")["global_step"] == load(tmp_path, "last.ckpt")["global_step"] == 6
    assert json.loads((tmp_path / "val_metrics.json").read_text())["metrics"]["val/other"] == 1.0


class Alarmed(TinyTask):
    """Logs a count of alarms at the end of each epoch."""

    def __init__(self, alarms: list[float], scores: list[float]) -> None:
        super().__init__(scores)
        self.alarms = alarms

    def on_train_epoch_end(self) -> None:
        self.log("alarms", self.alarms[self.current_epoch])


@pytest.mark.parametrize(
    ("monitor", "alarms", "scores", "best_step"),
    [
        (None, [0, 0, 1], [0.1, 0.1, 0.1], 6),  # the last without an alarm
        (None, [1, 1, 1], [0.1, 0.1, 0.1], 9),  # better than none
        (None, [1, 0, 1], [0.1, 0.1, 0.1], 6),
        ("val/score", [0, 1, 0], [0.2, 0.9, 0.5], 9),
        ("val/score", [1, 0, 0], [0.9, 0.2, 0.1], 6),  # a sound epoch, however bad, replaces one with an alarm
    ],
)
def test_an_epoch_with_an_alarm_is_not_the_best(
    tmp_path: Path, monitor: str | None, alarms: list[float], scores: list[float], best_step: int
) -> None:
    tiny_run(tmp_path, Alarmed(alarms, scores), n_epochs=3, monitor=monitor, veto="alarms")
    assert load(tmp_path, "best.ckpt")["global_step"] == best_step
    assert "vetoed" not in json.loads((tmp_path / "val_metrics.json").read_text())


def test_without_validation_there_are_checkpoints_and_no_metrics(tmp_path: Path) -> None:
    tiny_run(tmp_path, TinyTask(), n_epochs=1, monitor=None)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["best.ckpt", "last.ckpt"]


def test_a_monitor_that_is_never_logged_is_a_bug_with_a_name(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"val/dice is to choose the best checkpoint.*logged: \['val/other', 'val/score'\]"):
        tiny_run(tmp_path, TinyTask([1]), n_epochs=1, monitor="val/dice")


def test_resumed_it_keeps_the_best_of_before(tmp_path: Path) -> None:
    tiny_run(tmp_path, TinyTask([0.9]), n_epochs=1)
    writer = tiny_run(tmp_path, TinyTask([0.9, 0.5]), n_epochs=2, resume_from=tmp_path / "checkpoints" / "last.ckpt")
    assert writer.best is not None
    assert writer.best["value"] == pytest.approx(0.9)
    assert load(tmp_path, "best.ckpt")["global_step"] == 3
    assert load(tmp_path, "last.ckpt")["global_step"] == 6
    assert load(tmp_path, "last.ckpt")["callbacks"]["CheckpointWriter"]["best"]["epoch"] == 0


def test_resumed_in_another_folder_it_brings_the_best_along(tmp_path: Path) -> None:
    tiny_run(tmp_path / "a", TinyTask([0.9]), n_epochs=1)
    tiny_run(tmp_path / "b", TinyTask([0.9, 0.5]), n_epochs=2, resume_from=tmp_path / "a" / "checkpoints" / "last.ckpt")
    assert load(tmp_path / "b", "best.ckpt")["global_step"] == 3
    assert json.loads((tmp_path / "b" / "val_metrics.json").read_text())["value"] == pytest.approx(0.9)


def test_resumed_where_the_best_is_gone_it_looks_for_one_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_run(tmp_path / "a", TinyTask([0.9]), n_epochs=1)
    (tmp_path / "a" / "checkpoints" / "best.ckpt").unlink()
    tiny_run(tmp_path / "b", TinyTask([0.9, 0.5]), n_epochs=2, resume_from=tmp_path / "a" / "checkpoints" / "last.ckpt")
    assert load(tmp_path / "b", "best.ckpt")["global_step"] == 6
    assert "best.ckpt is not there any more" in caplog.text


def test_a_complete_run_is_resumed_without_training_and_fewer_epochs_are_a_mistake(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="fuse_examples")
    tiny_run(tmp_path, TinyTask([0.1, 0.2]), n_epochs=2)
    last = tmp_path / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    again = TinyTask([0.1, 0.2])
    tiny_run(tmp_path, again, n_epochs=2, resume_from=last)
    assert again.steps == []
    assert last.read_bytes() == before
    assert "last.ckpt has trained for all 2 epochs; nothing is trained. A larger n_epochs goes on." in caplog.text
    with pytest.raises(ConfigError, match=r"n_epochs: 1, but .*last.ckpt has trained for 2 epochs. Give n_epochs of 2 or more."):
        tiny_run(tmp_path, TinyTask([0.1, 0.2]), n_epochs=1, resume_from=last)


def stopping() -> EarlyStopping:
    return EarlyStopping("val/score", mode="max", patience=1)


def test_a_run_that_stopped_early_is_complete_and_one_interrupted_before_stops_where_it_would_have(tmp_path: Path) -> None:
    scores = [0.5, 0.4, 0.9, 0.9]
    tiny_run(tmp_path, TinyTask(scores), n_epochs=4, callbacks=[stopping()])
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert load(tmp_path, "last.ckpt")["global_step"] == 6
    again = TinyTask(scores)
    tiny_run(tmp_path, again, n_epochs=4, resume_from=last, callbacks=[stopping()])
    assert again.steps == []
    assert load(tmp_path, "last.ckpt")["global_step"] == 6

    tiny_run(tmp_path / "cut", TinyTask(scores), n_epochs=1, callbacks=[stopping()])
    tiny_run(
        tmp_path / "cut", TinyTask(scores), n_epochs=4, resume_from=tmp_path / "cut" / "checkpoints" / "last.ckpt", callbacks=[stopping()]
    )
    assert load(tmp_path / "cut", "last.ckpt")["global_step"] == 6


def test_a_checkpoint_every_n_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    replace = os.replace

    def note(source: Path, target: Path) -> None:
        replace(source, target)
        saved.append((Path(target).name, torch.load(target, weights_only=True)["global_step"]) if str(target).endswith("ckpt") else "json")

    monkeypatch.setattr(os, "replace", note)
    tiny_run(tmp_path, TinyTask([0.9, 0.1], n_batches=10), n_epochs=2, save_every_n_steps=2, accumulate_grad_batches=3)
    # Four steps an epoch, the last of one batch. Step 4 and 8 are the ends of epochs, and are saved once, after validation.
    assert saved == [("last.ckpt", 2), "json", ("best.ckpt", 4), ("last.ckpt", 4), ("last.ckpt", 6), ("last.ckpt", 8)]


class SignalAtTheEnd(Callback):
    def on_train_end(self, *_: object) -> None:  # before the writer's
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_after_the_last_checkpoint_still_ends_the_run(tmp_path: Path) -> None:
    with (
        Interruption() as interruption,
        pytest.raises(Interrupted, match=r"Stopped by SIGTERM; go on with resume_training_from=.*last.ckpt"),
    ):
        tiny_run(tmp_path, TinyTask([1]), n_epochs=1, interruption=interruption, callbacks=[SignalAtTheEnd()])
    assert load(tmp_path, "last.ckpt")["global_step"] == 3


def test_a_foreign_checkpoint_is_not_resumed(tmp_path: Path) -> None:
    tiny_run(tmp_path, TinyTask([1]), n_epochs=1)
    content = load(tmp_path, "last.ckpt")
    del content["project"]
    torch.save(content, tmp_path / "theirs.ckpt")
    with pytest.raises(WeightsError, match=r"theirs.ckpt was not written by a run of this project"):
        tiny_run(tmp_path, TinyTask([1, 1]), n_epochs=2, resume_from=tmp_path / "theirs.ckpt")


class StoppedTeacher(TinyTask):
    """Follows after each step, and is stopped by a signal in the second."""

    def __init__(self) -> None:
        super().__init__([1.0], n_batches=4)
        self.register_buffer("updates", torch.zeros(()))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        if batch_idx == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().training_step(batch, batch_idx)

    def on_train_batch_end(self, *_: object) -> None:
        self.updates += 1


def test_what_the_task_does_after_a_step_is_in_the_checkpoint(tmp_path: Path) -> None:
    with Interruption() as interruption, pytest.raises(Interrupted):
        tiny_run(tmp_path, StoppedTeacher(), n_epochs=1, interruption=interruption)
    content = load(tmp_path, "last.ckpt")
    assert content["global_step"] == 2
    assert content["state_dict"]["updates"] == 2
