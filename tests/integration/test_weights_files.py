"""Files that are no checkpoint of ours, at every key that takes one, in every stage: exit code 2, one message, and nothing is run."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_stages
import torch

KEYS = ("suprem_weights", "dino_weights", "resume_training_from", "test_ckpt")
RUN_KEYS = ("resume_training_from", "test_ckpt")
Checkpoint = dict[str, Any]


class RunsCode:
    """Unpickled without care it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"), 2)


@pytest.fixture(scope="module")
def runs(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The last checkpoint of a run of each stage."""
    results = tmp_path_factory.mktemp("runs")
    return {stage: small_stages.run(stage, cases, results) / "checkpoints" / "last.ckpt" for stage in small_stages.ENTRIES}


def load(path: Path) -> Checkpoint:
    content: Checkpoint = torch.load(path, weights_only=True)
    return content


def a_pickle_in_a_zip(path: Path, good: Path) -> None:
    torch.save({**load(good), "more": RunsCode(path.with_name("ran"))}, path)


def an_old_pickle(path: Path, good: Path) -> None:
    torch.save({**load(good), "more": RunsCode(path.with_name("ran"))}, path, _use_new_zipfile_serialization=False)


def a_bare_pickle(path: Path, good: Path) -> None:
    path.write_bytes(pickle.dumps(RunsCode(path.with_name("ran"))))


def a_truncated_file(path: Path, good: Path) -> None:
    content = good.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def renamed_tensors(path: Path, good: Path) -> None:
    content = load(good)
    torch.save({**content, "state_dict": {f"renamed.{name}": value for name, value in content["state_dict"].items()}}, path)


def another_network(path: Path, good: Path) -> None:
    state = {f"layer{index}.weight": torch.ones(3, 3) for index in range(4)}
    torch.save({**load(good), "state_dict": state}, path)


def a_network_of_other_people(path: Path, good: Path) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.ones(3, 3)}, "epoch": 3}, path)


def another_width(path: Path, good: Path) -> None:
    content = load(good)
    state = {name: value.repeat(2, *[1] * (value.dim() - 1)) if value.dim() else value for name, value in content["state_dict"].items()}
    torch.save({**content, "state_dict": state}, path)


def no_tensors(path: Path, good: Path) -> None:
    torch.save({name: value for name, value in load(good).items() if name != "state_dict"}, path)


def an_empty_file(path: Path, good: Path) -> None:
    path.write_bytes(b"")


def a_text(path: Path, good: Path) -> None:
    path.write_text("PatientID,path,fold\n")


BAD = (
    a_pickle_in_a_zip,
    an_old_pickle,
    a_bare_pickle,
    a_truncated_file,
    renamed_tensors,
    another_network,
    a_network_of_other_people,
    another_width,
    no_tensors,
    an_empty_file,
    a_text,
)


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("stage", small_stages.ENTRIES)
def test_a_bad_file_is_one_message_and_nothing_is_run(
    stage: str,
    key: str,
    make: Callable[[Path, Path], None],
    cases: Path,
    runs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = tmp_path / "bad.ckpt"
    make(bad, runs[stage])
    code = small_stages.start(stage, cases, tmp_path / "results", f"{key}={bad}")
    error = capsys.readouterr().err
    assert code == 2, error
    assert "Traceback" not in error
    assert f"{key}: {bad}" in error
    assert not (tmp_path / "ran").exists()
    assert not list((tmp_path / "results").rglob("*.ckpt"))


def test_the_pickles_do_run_when_read_without_care(runs: dict[str, Path], tmp_path: Path) -> None:
    for make in (a_pickle_in_a_zip, an_old_pickle):
        make(tmp_path / "bad.ckpt", runs["dino"])
        torch.load(tmp_path / "bad.ckpt", weights_only=False)
        (tmp_path / "ran").rmdir()
    a_bare_pickle(tmp_path / "bad.ckpt", runs["dino"])
    pickle.loads((tmp_path / "bad.ckpt").read_bytes())
    assert (tmp_path / "ran").is_dir()


@pytest.mark.parametrize("key", RUN_KEYS)
@pytest.mark.parametrize("stage", small_stages.ENTRIES)
def test_a_checkpoint_of_another_stage(
    stage: str, key: str, cases: Path, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = next(name for name in runs if name != stage)
    assert small_stages.start(stage, cases, tmp_path / "results", f"{key}={runs[other]}") == 2
    assert f"{key}: {runs[other]} is a checkpoint of {other}, not of {stage}. Give a checkpoint that {stage}.py wrote." in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("key", KEYS)
def test_an_address_and_a_missing_file(key: str, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("https://example.org/w.pth", str(tmp_path / "none.ckpt")):
        assert small_stages.start("dino", cases, tmp_path / "results", f"{key}={name}") == 2
        assert f"{key}" in capsys.readouterr().err
