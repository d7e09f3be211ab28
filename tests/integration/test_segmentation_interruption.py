"""segmentation.py stopped by a signal in the middle of an epoch and taken up again: the weights of a run that nothing happened to."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from ball_cases import write_yaml

from fuse_examples.imaging.oai_example.downstream import segmentation

pytestmark = pytest.mark.slow
ACCUMULATE = {"batch_size": 1, "accumulate_grad_batches": 3, "patches_per_case": 2, "n_epochs": 3}
# 12 patches in batches of one and steps of three: 4 optimiser steps an epoch, 12 in all.
PATCHES = {"resize_to": None, "patch_size": [8, 16, 16], "spacing": [2, 1, 1], "early_stopping_patience": 20}

# Runs segmentation.py's own main; the batch at which a signal is to come waits in its forward pass until it has come.
DRIVER = """
import os, sys, time
from fuse_examples.imaging.oai_example.configuration.command_line import run_entry
from fuse_examples.imaging.oai_example.downstream import segmentation
from fuse_examples.imaging.oai_example.tasks.segmentation import SegmentationTask

at, flag = int(sys.argv.pop(1)), sys.argv.pop(1)
step, seen = SegmentationTask.training_step, []

def waiting(self, batch, batch_index):
    seen.append(batch_index)
    if len(seen) == at:
        open(flag, "w").close()
        time.sleep(3)
    return step(self, batch, batch_index)

SegmentationTask.training_step = waiting
sys.exit(run_entry(segmentation.main))
"""


def start(folder: Path, yaml_path: Path, *words: str, signal_at: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DRIVER, str(signal_at), str(folder / "now"), "--config", str(yaml_path), *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def run(yaml_path: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, segmentation.__file__, "--config", str(yaml_path), *words], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr


def interrupted(folder: Path, yaml_path: Path, name: str, at: int, *words: str) -> int:
    """Run until batch `at`, counted from 1 over all epochs, send the signal while it is worked on, and return the exit code."""
    process = start(folder, yaml_path, *words, signal_at=at)
    deadline = time.monotonic() + 600
    while not (folder / "now").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, getattr(signal, name))
    errors = process.communicate(timeout=600)[1]
    assert "Traceback" not in errors
    return process.returncode


def last(folder: Path) -> Path:
    return folder / "results" / "balls" / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def whole(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run(write_yaml(folder / "config.yaml", balls / "cases.csv", folder / "results", ACCUMULATE | PATCHES))
    return last(folder)


@pytest.mark.parametrize(
    ("name", "at", "code", "workers", "then", "step"),
    [
        # The signal comes within batch `at`; the run ends after the optimiser step that this batch belongs to.
        ("SIGTERM", 17, 143, 0, 2, 6),
        ("SIGINT", 20, 130, 2, 0, 7),
        ("SIGKILL", 22, -9, 2, 2, 6),
        ("SIGKILL", 18, -9, 0, 0, 4),
    ],
)
def test_a_run_that_was_stopped_in_mid_epoch_ends_with_the_same_weights(
    tmp_path: Path, balls: Path, whole: Path, name: str, at: int, code: int, workers: int, then: int, step: int
) -> None:
    yaml_path = write_yaml(tmp_path / "config.yaml", balls / "cases.csv", tmp_path / "results", ACCUMULATE | PATCHES)
    saving = ["save_every_n_steps=2"] if name == "SIGKILL" else []
    assert interrupted(tmp_path, yaml_path, name, at, f"n_workers={workers}", *saving) == code
    stopped = torch.load(last(tmp_path), weights_only=True)
    assert stopped["global_step"] == step
    run(yaml_path, f"n_workers={then}", f"resume_training_from={last(tmp_path)}", *saving)
    ours, theirs = (torch.load(path, weights_only=True) for path in (last(tmp_path), whole))
    assert ours["global_step"] == theirs["global_step"] == 12
    assert [key for key, tensor in theirs["state_dict"].items() if not torch.equal(ours["state_dict"][key], tensor)] == []
    halfway = [key for key, tensor in stopped["state_dict"].items() if tensor.ndim > 1 and torch.equal(theirs["state_dict"][key], tensor)]
    assert halfway == []  # it was not the end that it was stopped at
    files = [path.parents[1] / "val_metrics.json" for path in (last(tmp_path), whole)]
    assert files[0].read_text() == files[1].read_text()
