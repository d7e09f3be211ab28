"""Runs stopped by signals: exit codes, and that a resumed run sees the same batches and ends with the same weights.

Each run is a process of its own (`toy_run.py`): dropout, batch norm, a teacher, 19 rows in batches of 2, samples drawn from (seed, epoch,
row).
"""

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
import toy_run

# Children are forked from a server that has imported torch and Lightning once; each import takes seconds.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["toy_run"])
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])  # where the server looks for it


def start(folder: Path, *words: object) -> BaseProcess:
    folder.mkdir(parents=True, exist_ok=True)
    process = FORK.Process(target=toy_run.as_child, args=([str(folder), *map(str, words)], folder / "stderr.txt"))
    process.start()
    return process


def finish(process: BaseProcess, folder: Path) -> tuple[int, str]:
    process.join(60)
    errors = (folder / "stderr.txt").read_text()
    if process.exitcode is None:
        process.kill()
        pytest.fail(f"the run did not end: {errors}")
    return process.exitcode, errors


def run(folder: Path, *words: object) -> tuple[int, str]:
    return finish(start(folder, *words), folder)


@functools.cache
def uninterrupted(accumulate: int, *words: object) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="whole"))
    code, errors = run(folder, "--accumulate", accumulate, *words)
    assert code == 0, errors
    return folder


def batches(folder: Path) -> list[str]:
    """The batches trained on, in order."""
    return [line.split(" ", 1)[1] for line in (folder / "rows.txt").read_text().splitlines()]


def assert_as_if_nothing_happened(folder: Path, accumulate: int, *words: object) -> None:
    whole = uninterrupted(accumulate, *words)
    assert batches(folder) == batches(whole)
    ours, theirs = (torch.load(place / "final.pt", weights_only=True) for place in (folder, whole))
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
    assert (folder / "val_metrics.json").read_text() == (whole / "val_metrics.json").read_text()


def resume(folder: Path, *words: object) -> None:
    last = folder / "checkpoints" / "last.ckpt"
    step = torch.load(last, weights_only=True)["global_step"]
    rows = folder / "rows.txt"  # without what a killed run did after its last checkpoint, and will do again
    rows.write_text("".join(line + "\n" for line in rows.read_text().splitlines() if int(line.split()[0]) < step))
    code, errors = run(folder, "--resume", last, *words)
    assert code == 0, errors


def test_sigterm_within_an_accumulation_is_as_if_nothing_had_happened(tmp_path: Path) -> None:
    code, errors = run(tmp_path, "--accumulate", 3, "--workers", 2, "--send", "SIGTERM", "--at", 5)
    assert code == 143, errors
    assert f"resume_training_from={tmp_path}/checkpoints/last.ckpt" in errors
    # Stopped at the end of the accumulation that was under way, not before it and not at the epoch's end.
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
    resume(tmp_path, "--accumulate", 3)
    assert_as_if_nothing_happened(tmp_path, 3)


def test_the_exit_code_of_a_real_process(tmp_path: Path) -> None:
    command = [sys.executable, toy_run.__file__, str(tmp_path), "--send", "SIGTERM", "--at", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 143, done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_to_the_whole_process_group_during_validation(tmp_path: Path) -> None:
    code, errors = run(tmp_path, "--accumulate", 3, "--workers", 2, "--send", "SIGINT", "--at", 1, "--phase", "validation", "--group")
    assert code == 130, errors
    assert "DataLoader worker" not in errors
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8
    resume(tmp_path, "--accumulate", 3, "--workers", 2)
    assert_as_if_nothing_happened(tmp_path, 3)


def test_a_signal_before_training_ends_at_once(tmp_path: Path) -> None:
    code, errors = run(tmp_path, "--send", "SIGINT", "--phase", "start")
    assert code == 130, errors
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize(("workers", "then"), [(0, 2), (2, 0)])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
@pytest.mark.parametrize("at", [0, 3, 4, 9])
def test_stopped_anywhere(tmp_path: Path, name: str, at: int, workers: int, then: int, accumulate: int) -> None:
    code, errors = run(tmp_path, "--accumulate", accumulate, "--workers", workers, "--send", name, "--at", at, "--group")
    assert code == 128 + getattr(signal, name), errors
    resume(tmp_path, "--accumulate", accumulate, "--workers", then)
    assert_as_if_nothing_happened(tmp_path, accumulate)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("at", [2, 5, 7, 10])
def test_killed_anywhere(tmp_path: Path, at: int, workers: int, accumulate: int) -> None:
    words = ("--accumulate", accumulate, "--workers", workers, "--save-every", 2)
    code, _ = run(tmp_path, *words, "--send", "SIGKILL", "--at", at)
    assert code == -signal.SIGKILL
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] in (at, at - 1)
    resume(tmp_path, *words)
    assert_as_if_nothing_happened(tmp_path, accumulate)


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 3, 4, 7, 8, 11])
def test_with_validation_in_every_second_epoch_only(tmp_path: Path, at: int) -> None:
    words = ("--accumulate", 3, "--validate-every", 2)
    code, errors = run(tmp_path, *words, "--send", "SIGTERM", "--at", at)
    assert code == 143, errors
    resume(tmp_path, *words)
    assert_as_if_nothing_happened(tmp_path, 3, "--validate-every", 2)


@pytest.mark.slow
def test_stopped_again_and_again(tmp_path: Path) -> None:
    code, errors = run(tmp_path, "--accumulate", 3, "--send", "SIGTERM", "--at", 1)
    for at in (4, 5, 7, 10):
        assert code == 143, errors
        last = tmp_path / "checkpoints" / "last.ckpt"
        code, errors = run(tmp_path, "--accumulate", 3, "--send", "SIGTERM", "--at", at, "--resume", last)
    assert code == 143, errors
    resume(tmp_path, "--accumulate", 3)
    assert_as_if_nothing_happened(tmp_path, 3)


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    process = start(tmp_path, "--send", "SIGINT", "--at", 1, "--slow-step", 50)
    deadline = time.monotonic() + 30
    while "Ctrl-C" not in (tmp_path / "stderr.txt").read_text() if (tmp_path / "stderr.txt").exists() else True:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid or 0, signal.SIGINT)
    process.join(5)
    assert process.exitcode == -signal.SIGINT  # which a shell shows as 130
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()
