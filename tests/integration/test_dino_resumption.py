"""A pre-training run that is stopped or killed in the middle of an epoch and resumed ends as one that was not, bit by bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import small_stages
import torch
from safetensors.torch import load_file

from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint

# 7 cases in batches of 2 and steps of 3 batches: 4 batches and 2 steps an epoch.
SETTINGS: dict[str, Any] = {
    "n_epochs": 3,
    "accumulate_grad_batches": 3,
    "save_every_n_steps": 1,
    "momentum_start": 0.9,
    "warmup_epochs": 1,
    "masking": {"patch_weight": 1.0, "reconstruction_weight": 1.0},  # drawn in the workers, so they must not depend on them
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"), 7)


@pytest.fixture(scope="module")
def whole(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.run("dino", cases, tmp_path_factory.mktemp("whole"), **SETTINGS)


def interrupted(cases: Path, results: Path, name: str, batch: int, n_workers: int) -> subprocess.CompletedProcess[str]:
    config = small_stages.write_yaml("dino", cases, results, **{**SETTINGS, "n_workers": n_workers})
    script = Path(__file__).with_name("interrupted_stage.py")
    command = [sys.executable, str(script), name, str(batch), "dino", "--config", str(config)]
    return subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300)


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two nested values differ, tensors bit by bit."""
    if isinstance(one, dict):
        return (
            [f"{place} keys"]
            if one.keys() != other.keys()
            else [d for key in one for d in differences(one[key], other[key], f"{place}/{key}")]
        )
    if isinstance(one, list | tuple):
        return (
            [f"{place} length"]
            if len(one) != len(other)
            else [d for i, pair in enumerate(zip(one, other, strict=True)) for d in differences(*pair, f"{place}/{i}")]
        )
    equal = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    return [] if equal else [place]


@pytest.mark.slow
@pytest.mark.parametrize(("n_workers", "then"), [(0, 2), (2, 0)])
@pytest.mark.parametrize(("name", "code", "step"), [("SIGTERM", 143, 3), ("SIGKILL", -signal.SIGKILL, 3)])
def test_resumed_in_mid_epoch_it_ends_with_the_same_bits(
    name: str, code: int, step: int, n_workers: int, then: int, cases: Path, whole: Path, tmp_path: Path
) -> None:
    # SIGTERM in the second batch of the second epoch waits for the third, which ends a step; SIGKILL comes right after that step.
    done = interrupted(cases, tmp_path, name, 5 if name == "SIGTERM" else 7, n_workers)
    assert done.returncode == code, done.stderr
    last = tmp_path / "dino" / "checkpoints" / "last.ckpt"
    stopped = read_checkpoint(last, "")
    assert (stopped["epoch"], stopped["global_step"]) == (1, step)
    if name == "SIGTERM":
        assert f"resume_training_from={last}" in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "dino" / "backbone.safetensors").exists()
    small_stages.run("dino", cases, tmp_path, f"resume_training_from={last}", **{**SETTINGS, "n_workers": then})
    ours, theirs = (read_checkpoint(folder / "checkpoints" / "last.ckpt", "") for folder in (tmp_path / "dino", whole))
    for entry in ("state_dict", "optimizer_states", "global_step", "epoch", "random_state"):
        assert differences(ours[entry], theirs[entry], entry) == []
    exported = [load_file(folder / "backbone.safetensors") for folder in (tmp_path / "dino", whole)]
    assert differences(*exported) == []
    assert (tmp_path / "dino" / "val_metrics.json").read_text() == (whole / "val_metrics.json").read_text()
