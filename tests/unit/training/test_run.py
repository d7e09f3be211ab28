"""The run's folder: what is refused, what is written, what is left alone."""

import json
import logging
import warnings
from pathlib import Path

import pytest
import yaml

from fuse_examples.imaging.oai_example.errors import UserError
from fuse_examples.imaging.oai_example.training.run import Run

CONFIG = {"experiment": "knees", "seed": 3, "train_folds": ["0", "1"], "results_dir": "results"}


def trained(results: Path) -> Path:
    """An experiment that has been trained and tested, and into which someone put a file of theirs."""
    folder = results / "knees"
    for name in (
        "config.yaml", "log.txt", "val_metrics.json", "events.out.tfevents.1.x", "checkpoints/last.ckpt", "checkpoints/best.ckpt",
        "checkpoints/.last.ckpt.partial", "test/metrics.json", "test/segmentations/a.nii.gz", "test/report.html",
        "notes.md", "checkpoints/mine.pt", "test/notes.md", "extra/last.ckpt",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("before")
    return folder


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_new_run_writes_configuration_environment_and_log(tmp_path: Path) -> None:
    logger = logging.getLogger("fuse_examples.something")
    run = Run.for_training(tmp_path / "results", "knees")
    assert not run.folder.exists()
    with run.opened(CONFIG):
        logger.info("a line about the data")
        logging.getLogger("pytorch_lightning.utilities.rank_zero").info("a tip")
        warnings.warn("a warning", stacklevel=1)
    logger.warning("after the run")
    assert files(run.folder) == {"config.yaml", "environment.json", "log.txt"}
    assert yaml.safe_load((run.folder / "config.yaml").read_text()) == CONFIG
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["seed"] == 3
    assert set(environment) >= {"versions", "git", "device", "command", "determinism", "python"}
    assert environment["versions"]["torch"]
    text = (run.folder / "log.txt").read_text()
    assert "INFO a line about the data" in text
    assert "a warning (UserWarning" in text
    assert "a tip" not in text
    assert "after the run" not in text


def test_the_log_is_shown_on_standard_error_and_never_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Run.for_training(tmp_path, "knees").opened(CONFIG):
        logging.getLogger("fuse_examples.x").info("shown")
        logging.getLogger("fuse_examples.x").debug("for the file")
        logging.getLogger("fuse_examples.x").warning("look out")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "shown\n" in shown.err
    assert "warning: look out\n" in shown.err
    assert "for the file" not in shown.err


def test_the_traceback_of_a_bug_is_in_the_log(tmp_path: Path) -> None:
    run = Run.for_training(tmp_path, "knees")
    with pytest.raises(ZeroDivisionError), run.opened(CONFIG):
        _ = 1 / 0
    assert "ZeroDivisionError" in (run.folder / "log.txt").read_text()


def test_a_second_training_run_is_refused_with_its_remedies(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    with pytest.raises(UserError) as error:
        Run.for_training(tmp_path, "knees")
    message = str(error.value)
    assert str(folder) in message
    assert f"resume_training_from={folder}/checkpoints/last.ckpt" in message
    assert f"test_ckpt={folder}/checkpoints/best.ckpt" in message
    assert "overwrite=true" in message
    assert (folder / "log.txt").read_text() == "before"


def test_overwriting_removes_what_runs_write_and_nothing_else(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    with Run.for_training(tmp_path, "knees", overwrite=True).opened(CONFIG):
        pass
    assert files(folder) == {
        "config.yaml", "environment.json", "log.txt", "notes.md", "checkpoints/mine.pt", "test/notes.md", "extra/last.ckpt",
    }  # fmt: skip
    assert "before" not in (folder / "log.txt").read_text()


def test_overwriting_leaves_no_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "knees" / "checkpoints").mkdir(parents=True)
    (tmp_path / "knees" / "checkpoints" / "last.ckpt").write_text("")
    with Run.for_training(tmp_path, "knees", overwrite=True).opened(CONFIG):
        assert not (tmp_path / "knees" / "checkpoints").exists()


def test_resuming_keeps_everything_and_goes_on_with_the_log(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    before = files(folder)
    with Run.for_training(tmp_path, "knees", resume=True).opened(CONFIG):
        logging.getLogger("fuse_examples").info("went on")
    assert files(folder) == before | {"environment.json"}
    text = (folder / "log.txt").read_text()
    assert text.startswith("before")
    assert "went on" in text


def test_a_start_that_never_saved_can_be_repeated_and_its_curves_go(tmp_path: Path) -> None:
    (tmp_path / "knees" / "test").mkdir(parents=True)
    for name in ("events.out.tfevents.1.x", "log.txt", "test/metrics.json"):
        (tmp_path / "knees" / name).write_text("before")
    with Run.for_training(tmp_path, "knees").opened(CONFIG):
        pass
    assert files(tmp_path / "knees") == {"config.yaml", "environment.json", "log.txt", "test/metrics.json"}
    assert (tmp_path / "knees" / "log.txt").read_text().startswith("before")


def test_a_test_run_writes_under_test_alone_and_replaces_an_earlier_one(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    training = {name: (folder / name).read_text() for name in files(folder) if not name.startswith("test/")}
    run = Run.for_testing(tmp_path, "knees")
    assert run.output == folder / "test"
    with run.opened(CONFIG):
        pass
    assert {name: (folder / name).read_text() for name in files(folder) if not name.startswith("test/")} == training
    assert files(folder / "test") == {"config.yaml", "environment.json", "log.txt", "notes.md"}


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "/tmp/x", "..", ".", "", " knees", ".store", "a\\b"])
def test_names_that_are_no_folder_of_results_dir_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"experiment: .* cannot be the name of a folder in results_dir"):
        Run.for_training(tmp_path, name)


@pytest.mark.parametrize("results", ["file/results", "/proc/results"])
def test_a_results_dir_that_cannot_be_written_is_refused(tmp_path: Path, results: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"results_dir: .*knees cannot be written \(.*Choose a folder you may write to"):
        Run.for_training(tmp_path / results, "knees")
    with pytest.raises(UserError, match="results_dir"):
        Run.for_testing(tmp_path / results, "knees")


def test_other_processes_of_a_distributed_run_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with Run.for_training(tmp_path, "knees").opened(CONFIG):
        pass
    assert files(tmp_path) == set()
