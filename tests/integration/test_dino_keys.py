"""Every key of pre-training that shapes views, head, recipe or training changes the weights after four steps."""

from pathlib import Path
from typing import Any

import pytest
import small_stages
import torch
from torch import Tensor

from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.configuration.settings import settings_of
from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint

# What each key is changed to. The base run has everything on, so that nothing hides behind a zero.
CHANGED: dict[str, Any] = {
    "seed": 1,
    "width": 3,
    "norm_statistics": "instance",
    "orientation": "LAS",
    "intensity.method": "zscore",
    "intensity.percentiles": [5, 95],
    "crops.n_global": 1,
    "crops.n_local": 2,
    "crops.global_size": [16, 16, 24],
    "crops.local_size": [16, 24, 16],
    "crops.global_scale_in_plane": [0.3, 0.4],
    "crops.global_scale_through_plane": [0.3, 0.4],
    "crops.local_scale_in_plane": [0.7, 0.8],
    "crops.local_scale_through_plane": [0.7, 0.8],
    "crops.through_plane_axis": "posterior_anterior",
    "augmentation.rotation_degrees": 3.0,
    "augmentation.flip_axes": [],
    "augmentation.gamma_range": [1, 1],
    "augmentation.noise_std": 0.0,
    "augmentation.probability": 0.5,
    "augmentation.blur_std": 0.0,
    "augmentation.shading": 0.5,
    "head.n_layers": 2,
    "head.hidden_dim": 12,
    "head.bottleneck_dim": 6,
    "head.n_prototypes": 10,
    "head.use_batch_norm": False,
    "head.norm_last_layer": False,
    "masking.patch_weight": 0.3,
    "masking.patch_centering": "moving_average",
    "masking.reconstruction_weight": 0.3,
    "masking.share_of_views": 0.9,
    "masking.ratio": [0.8, 0.9],
    "masking.block_cells": [2, 2],
    "pooling": "max",
    "student_temperature": 0.2,
    "teacher_temperature_start": 0.05,
    "teacher_temperature": 0.06,
    "teacher_temperature_warmup_epochs": 1,
    "centering": "sinkhorn",
    "center_momentum": 0.5,
    "koleo_weight": 1.0,
    "momentum_start": 0.8,
    "momentum_end": 0.99,
    "freeze_last_layer_epochs": 0,
    "batch_size": 3,
    "n_epochs": 3,
    "learning_rate": 2e-3,
    "learning_rate_end": 5e-4,
    "layer_decay": 0.5,
    "weight_decay": 0.2,
    "weight_decay_end": 0.8,
    "warmup_epochs": 1,
    "grad_clip": 1e-3,
    "accumulate_grad_batches": 2,
}
ELSEWHERE = {
    "probe_targets": "test_dino_probes.py",
    "probe_every_n_epochs": "test_dino_probes.py",
    "drop_path": "below, with residual blocks",
    "on_collapse": "tests/unit/tasks/test_dino_alarms.py",
    "backbone": "tests/unit/models",
    "backbone_options": "tests/unit/stages/test_resolution.py",
    "gradient_checkpointing": "tests/unit/models/test_backbone.py",
    "intensity.window": "belongs to another method",
    "suprem_weights": "test_weights_through_stages.py",
    "dino_weights": "test_weights_through_stages.py",
    "store.path": "a place",
    "save_every_n_steps": "test_dino_resumption.py",
}
LEARNS_SECTIONS = ("Backbone and weights", "Volumes", "Augmentation", "Task", "Training")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"), 4)


def weights_after(cases: Path, results: Path, *words: str) -> dict[str, Tensor]:
    folder = small_stages.run(
        "dino",
        cases,
        results,
        *words,
        n_epochs=2,
        val_folds=[],
        augmentation={"probability": 1, "flip_axes": ["left_right"]},
        momentum_start=0.9,
        momentum_end=0.95,
        teacher_temperature=0.07,
        teacher_temperature_warmup_epochs=2,
        masking={"patch_weight": 1.0, "reconstruction_weight": 1.0},
    )
    state: dict[str, Tensor] = read_checkpoint(folder / "checkpoints" / "last.ckpt", "")["state_dict"]
    return state


@pytest.fixture(scope="module")
def base(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return weights_after(cases, tmp_path_factory.mktemp("base"))


def test_every_key_is_here_or_has_a_test_elsewhere() -> None:
    shaping = [key for key, one in settings_of(DINOConfig).items() if one.section in LEARNS_SECTIONS] + ["seed"]
    assert sorted(shaping) == sorted([*CHANGED, *ELSEWHERE])


def test_a_key_that_does_not_matter_leaves_the_weights(cases: Path, base: dict[str, Tensor], tmp_path: Path) -> None:
    """So that a difference below is the key's doing."""
    again = weights_after(cases, tmp_path, "log_images_every_n_epochs=1", "save_every_n_steps=1", "val_folds=[1]")
    assert [name for name in base if not torch.equal(base[name], again[name])] == []


@pytest.mark.parametrize("key", CHANGED)
def test_the_key_changes_the_teacher(key: str, cases: Path, base: dict[str, Tensor], tmp_path: Path) -> None:
    changed = weights_after(cases, tmp_path, f"{key}={CHANGED[key]}")
    backbone = [name for name in base if name.startswith("teacher_backbone.") and name.endswith("weight")]
    assert any(base[name].shape != changed[name].shape or not torch.equal(base[name], changed[name]) for name in backbone)


def test_a_test_run_needs_none_of_the_numbers_that_auto_stands_for(tmp_path: Path) -> None:
    cases = small_stages.write_cases(tmp_path / "scans", 2)
    auto = dict.fromkeys(("learning_rate", "warmup_epochs", "momentum_start", "teacher_temperature"), "auto")
    run = small_stages.run("dino", cases, tmp_path / "results", **auto)
    small_stages.run("dino", cases, tmp_path / "results", f"test_ckpt={run / 'checkpoints' / 'best.ckpt'}", **auto)
    assert (run / "test" / "embeddings.csv").exists()


def test_drop_path_changes_the_teacher_and_needs_residual_blocks(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    residual = {"backbone": "resnet3d", "backbone_options": {"depth": 10}}
    folders = [
        small_stages.run("dino", cases, tmp_path / f"{rate}", **residual, learning_rate=1e-3, drop_path=rate, overwrite=True)
        for rate in (0.0, 0.0, 0.9)
    ]
    without, again, dropped = (read_checkpoint(folder / "checkpoints" / "last.ckpt", "")["state_dict"] for folder in folders)
    name = "teacher_backbone.layer4.0.conv2.weight"
    assert torch.equal(without[name], again[name])
    assert not torch.equal(without[name], dropped[name])
    assert without.keys() == dropped.keys()
    assert small_stages.start("dino", cases, tmp_path / "refused", drop_path=0.1) == 2
    assert "drop_path is 0.1, but unet3d has no residual blocks that could be passed by." in capsys.readouterr().err
