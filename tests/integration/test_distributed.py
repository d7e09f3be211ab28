"""Two processes over gloo learn what one process learns at the same global batch."""

import csv
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import small_stages
import yaml
from torch import Tensor

from fuse_examples.imaging.oai_example.configuration.dino_config import MaskingSettings
from fuse_examples.imaging.oai_example.data.masking import Masking
from fuse_examples.imaging.oai_example.data.sampler import SampleKey
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

ONE_MASKED = 5
"""The seed with which a share of 0.1 masks a single view of the eight volumes."""


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"), 8)


def started(stage: str, cases: Path, results: Path, **changes: Any) -> subprocess.CompletedProcess[str]:
    """As a user starts it: Lightning starts the script once more for the second process. A run that hangs is a failure."""
    config = small_stages.write_yaml(stage, cases, results, **changes)
    script = ROOT / "fuse_examples/imaging/oai_example" / SCRIPTS[stage]
    return subprocess.run([sys.executable, script, "--config", config], capture_output=True, text=True, timeout=900, check=False)


def run(stage: str, cases: Path, results: Path, **changes: Any) -> Path:
    """The folder of a run that ends well."""
    done = started(stage, cases, results, **changes)
    assert done.returncode == 0, done.stdout + done.stderr
    return results / stage


def gradients(folder: Path) -> list[Tensor]:
    """Of the only step: AdamW keeps a tenth of them. Its steps are no measure, since it brings gradients that are noise to full length."""
    (optimiser,) = read_checkpoint(folder / "checkpoints" / "last.ckpt", "")["optimizer_states"]
    return [10 * state["exp_avg"] for _, state in sorted(optimiser["state"].items())]


def assert_the_same_step(one: Path, two: Path) -> None:
    losses = [float(row["train/loss"]) for folder in (one, two) for row in csv.DictReader((folder / "history.csv").open())]
    assert len(losses) == 2
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
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
@pytest.mark.parametrize("centering", ["moving_average", "sinkhorn"])
@pytest.mark.parametrize(("share", "seed"), [(0.3, 0), (0.1, ONE_MASKED)])
def test_two_processes_pre_train_with_masks_as_one(cases: Path, tmp_path: Path, share: float, seed: int, centering: str) -> None:
    """Chance decides how many views are masked: the processes hold different numbers, or one of them none."""
    crops = {"global_size": [16, 16, 16], "local_size": [16, 16, 16], "n_local": 1}
    masking = {"patch_weight": 1.0, "reconstruction_weight": 1.0, "share_of_views": share}
    common = {**DINO, "masking": masking, "crops": crops, "centering": centering, "seed": seed}
    one = run("dino", cases, tmp_path / "one", **common, batch_size=8)
    two = run("dino", cases, tmp_path / "two", **common, batch_size=4, devices=2)
    assert_the_same_step(one, two)
    states = [read_checkpoint(folder / "checkpoints" / "last.ckpt", "")["state_dict"] for folder in (one, two)]
    assert (states[0]["patch_criterion.center"] - states[1]["patch_criterion.center"]).abs().max() < 1e-6


def test_one_view_of_the_eight_volumes_is_masked() -> None:
    masking = Masking(MaskingSettings(share_of_views=0.1), 2, (2, 2, 2))
    assert [int(masking(ONE_MASKED, SampleKey(epoch=0, row=row)).flatten(1).any(dim=1).sum()) for row in range(8)].count(1) == 1


@pytest.mark.slow
def test_two_processes_pre_train_a_transformer_as_one(tmp_path: Path) -> None:
    few = small_stages.write_cases(tmp_path / "scans", 2, folds=(0,))  # its windows make a step of 32 voxels an edge slow
    crops = {"global_size": [32, 32, 32], "local_size": [32, 32, 32], "n_local": 0}
    common = {key: value for key, value in DINO.items() if key != "norm_statistics"}
    common |= {"backbone": "swin_unetr", "width": 12, "crops": crops, "val_folds": [], "test_folds": []}
    one = run("dino", few, tmp_path / "one", **common, batch_size=2)
    two = run("dino", few, tmp_path / "two", **common, batch_size=1, devices=2)
    assert_the_same_step(one, two)


@pytest.mark.slow
def test_two_processes_with_unequal_shares_learn_and_probe_as_one(tmp_path: Path) -> None:
    """Of seven cases one process has four. The network hardly moves, so that both runs embed with the same."""
    odd = small_stages.write_cases(tmp_path / "scans", 7)
    common = {**DINO, "learning_rate": 1e-9, "learning_rate_end": 1e-9, "probe_targets": ["size", "tone"]}
    one = run("dino", odd, tmp_path / "one", **common, batch_size=8)
    two = run("dino", odd, tmp_path / "two", **common, batch_size=4, devices=2)
    assert_the_same_step(one, two)
    tables = [list(csv.DictReader((folder / "probes.csv").open())) for folder in (one, two)]
    assert [(row["target"], row["probe"]) for row in tables[0]] == [(t, p) for t in ("size", "tone") for p in ("knn_auc", "linear_auc")]
    assert len({row["value"] for row in tables[0]}) > 2, "there is nothing to compare"
    assert tables[0] == tables[1]
    metrics = [small_stages.read_json(folder / "val_metrics.json")["metrics"] for folder in (one, two)]
    names = [name for name in metrics[0] if "auc" in name or name == "val/probe"]
    assert len(names) == 5
    assert [metrics[0][name] for name in names] == [metrics[1][name] for name in names]


@pytest.mark.slow
def test_a_collapse_stops_both_processes_in_order(cases: Path, tmp_path: Path) -> None:
    changes = {**DINO, "n_epochs": 5, "momentum_start": 1.0, "momentum_end": 1.0, "on_collapse": "stop", "batch_size": 4, "devices": 2}
    done = started("dino", cases, tmp_path / "two", **changes)
    assert done.returncode == 2, done.stderr
    message = "epoch 1: still teacher: the teacher has not changed since the run began"
    folder = tmp_path / "two" / "dino"
    assert done.stderr.count(message) == 2, "once as a warning of the epoch, once as the reason that the run ended with"
    assert (folder / "log.txt").read_text().count(message) == 2
    assert "Traceback" not in done.stderr
    for name in ("last.ckpt", "best.ckpt"):
        checkpoint = read_checkpoint(folder / "checkpoints" / name, "")
        assert (checkpoint["epoch"], checkpoint["global_step"]) == (0, 1)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert not (folder / "backbone.safetensors").exists()


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_in_order(cases: Path, tmp_path: Path) -> None:
    config = small_stages.write_yaml("dino", cases, tmp_path / "two", **{**DINO, "n_epochs": 10_000}, batch_size=4, devices=2)
    command = [sys.executable, ROOT / "fuse_examples/imaging/oai_example" / SCRIPTS["dino"], "--config", config]
    last = tmp_path / "two" / "dino" / "checkpoints" / "last.ckpt"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        while not last.exists() and first.poll() is None:
            time.sleep(0.1)
        first.terminate()
        told = first.communicate(timeout=120)[1]
    assert first.returncode == 143, told
    assert told.count(f"Stopped by SIGTERM; go on with resume_training_from={last}") == 1
    assert "Traceback" not in told
    assert read_checkpoint(last, "")["global_step"] > 0


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
