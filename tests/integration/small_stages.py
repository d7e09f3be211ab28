"""Small scans, tables and configurations, with which whole stages run in this process within seconds."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel as nib
import numpy as np
import yaml

from fuse_examples.imaging.oai_example.configuration.command_line import run_entry
from fuse_examples.imaging.oai_example.downstream import classification as classification_entry
from fuse_examples.imaging.oai_example.downstream import segmentation as segmentation_entry
from fuse_examples.imaging.oai_example.self_supervised import dino as dino_entry

ENTRIES = {"dino": dino_entry.main, "classification": classification_entry.main, "segmentation": segmentation_entry.main}
SHAPE = (16, 24, 24)
SPACING = (2.0, 1.0, 1.0)  # the first axis is the one slices are stacked along

COMMON: dict[str, Any] = {
    "train_folds": [0],
    "val_folds": [1],
    "test_folds": [2],
    "batch_size": 2,
    "n_epochs": 1,
    "warmup_epochs": 0,
    "n_workers": 0,
    "precision": "fp32",
    "log_images_every_n_epochs": 0,
    "width": 2,
}
OWN: dict[str, dict[str, Any]] = {
    "dino": {
        "crops": {"global_size": [16, 16, 16], "local_size": [16, 16, 16], "n_local": 1},
        "head": {"hidden_dim": 16, "bottleneck_dim": 8, "n_prototypes": 12},
    },
    "classification": {"cls_targets": ["size"], "resize_to": [16, 16, 16], "n_bootstrap": 20, "explain": "none"},
    "segmentation": {"num_classes": 2, "resize_to": [16, 16, 16]},
}


def write_scan(path: Path, seed: int, *, large: bool = False, bright: bool = False) -> None:
    """Write `path` (an image) and, beside it, its mask: a ball of random place, size and brightness before a sloping background."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), axis=-1)
    centre = np.array(SHAPE) / 2 + rng.uniform(-2, 2, 3)
    radius = rng.uniform(7, 8.5) if large else rng.uniform(4, 5.5)
    ball = np.linalg.norm((grid - centre) * SPACING, axis=-1) < radius
    image = 100 + grid @ rng.uniform(0, 3, 3) + ball * (400 if bright else 200) + rng.normal(0, 8, SHAPE)
    affine = np.diag([*SPACING, 1.0])
    nib.save(nib.Nifti1Image(image.astype(np.int16), affine), path)
    nib.save(nib.Nifti1Image(ball.astype(np.uint8), affine), mask_of(path))


def mask_of(path: Path) -> Path:
    return path.with_name("mask_" + path.name)


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Write a CSV file with the keys of the first row as its header."""
    lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_cases(folder: Path, n_per_fold: int = 4, folds: Sequence[object] = (0, 1, 2)) -> Path:
    """Write scans and one table that all three stages read: patients subject00, subject01, ..., large and small balls in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for number in range(n_per_fold * len(folds)):
        large, bright, name = number % 2 == 0, number % 4 < 2, f"scan{number:02d}.nii.gz"
        write_scan(folder / name, number, large=large, bright=bright)
        rows.append(
            {
                "PatientID": f"subject{number:02d}",
                "path": name,
                "img_path": name,
                "seg_path": f"mask_{name}",
                "fold": folds[number // n_per_fold],
                "size": "large" if large else "small",
                "tone": "bright" if bright else "dark",
            }
        )
    return write_table(folder / "cases.csv", rows)


def write_yaml(stage: str, csv_path: Path, results: Path, **changes: Any) -> Path:
    """Write the configuration of a quick run; `changes` replaces whole keys. The experiment is called as the stage."""
    values = {"experiment": stage, "results_dir": str(results), "csv_path": str(csv_path), **COMMON, **OWN[stage], **changes}
    path = results.parent / f"{results.name}_{values['experiment']}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return path


def start(stage: str, csv_path: Path, results: Path, *words: str, **changes: Any) -> int:
    """Do what the stage's script does, in this process, and return its exit code."""
    path = write_yaml(stage, csv_path, results, **changes)
    with mock.patch.object(sys, "argv", [f"{stage}.py", "--config", str(path), *words]):
        return run_entry(ENTRIES[stage])


def run(stage: str, csv_path: Path, results: Path, *words: str, **changes: Any) -> Path:
    """The folder of a run that ends well."""
    code = start(stage, csv_path, results, *words, **changes)
    assert code == 0, f"{stage} ended with {code}"
    return results / str(changes.get("experiment", stage))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())
