"""Two processes over gloo learn what one process learns at the same global batch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import small_stages
import yaml
from torch import Tensor

from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint

ROOT = Path(__file__).parents[2]
SCRIPTS = {"dino": "self_supervised/dino.py", "classification": "downstream/classification.py"}
# Batch normalisation would take its statistics of each process's share.
DINO: dict[str, Any] = {
    "norm_statistics": "instance",
    "head": {"hidden_dim": 16, "bottleneck_dim": 8, "n_prototypes": 12, "use_batch_norm": False},
    "learning_rate": 1e-3,
    "momentum_start": 0.9,
    "koleo_weight": 0.1,
    "freeze_last_layer_epochs": 0,
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"), 8)


def run(stage: str, cases: Path, results: Path, **changes: Any) -> Path:
    """As a user starts it: Lightning starts the script once more for the second process."""
    config = small_stages.write_yaml(stage, cases, results, **changes)
    script = ROOT / "fuse_examples/imaging/oai_example" / SCRIPTS[stage]
    done = subprocess.run([sys.executable, script, "--config", config], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return results / stage


def gradients(folder: Path) -> list[Tensor]:
    """Of the only step: AdamW keeps a tenth of them. Its steps are no measure, since it brings gradients that are noise to full length."""
    (optimiser,) = read_checkpoint(folder / "checkpoints" / "last.ckpt", "")["optimizer_states"]
    return [10 * state["exp_avg"] for _, state in sorted(optimiser["state"].items())]


def assert_the_same_step(one: Path, two: Path) -> None:
    pairs = list(zip(gradients(one), gradients(two), strict=True))
    assert max(float(gradient.abs().max()) for gradient, _ in pairs) > 1e-3, "there is nothing to compare"
    assert max(float((gradient - other).abs().max()) for gradient, other in pairs) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("centering", ["moving_average", "sinkhorn"])
def test_two_processes_pre_train_as_one(cases: Path, tmp_path: Path, centering: str) -> None:
    one = run("dino", cases, tmp_path / "one", **DINO, centering=centering, batch_size=8)
    two = run("dino", cases, tmp_path / "two", **DINO, centering=centering, batch_size=4, devices=2)
    assert_the_same_step(one, two)
    states = [read_checkpoint(folder / "checkpoints" / "last.ckpt", "")["state_dict"] for folder in (one, two)]
    assert (states[0]["criterion.center"] - states[1]["criterion.center"]).abs().max() < 1e-6
    if centering == "moving_average":  # the other balances a batch, and a validation batch is as large as that of one process
        losses = [small_stages.read_json(folder / "val_metrics.json")["metrics"]["val/loss"] for folder in (one, two)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert yaml.safe_load((two / "config.yaml").read_text())["devices"] == 2
    assert len(list(two.glob("events.out.tfevents.*"))) == 1


@pytest.mark.slow
def test_two_processes_fine_tune_as_one(cases: Path, tmp_path: Path) -> None:
    common = {"norm_statistics": "instance", "class_weights": "none", "head": {"dropout": 0.0}}
    one = run("classification", cases, tmp_path / "one", **common, batch_size=8)
    two = run("classification", cases, tmp_path / "two", **common, batch_size=4, devices=2)
    assert_the_same_step(one, two)


def test_synchronised_statistics_without_a_gpu_are_refused(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sync_batchnorm=true", "devices=2"]
    assert small_stages.start("classification", cases, tmp_path, *words) == 2
    assert "sync_batchnorm: true needs GPUs, and this machine shows none" in capsys.readouterr().err
    assert small_stages.start("classification", cases, tmp_path, "sync_batchnorm=true", "norm_statistics=instance") == 2
    told = capsys.readouterr().err
    assert "sync_batchnorm is true, which needs several devices" in told
    assert "sync_batchnorm is true, which norm_statistics 'instance' does not allow" in told
