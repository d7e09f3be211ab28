"""Tiny scans for runs of seconds: a bright ball (label 1) with a brighter core (label 2) in noise, as NIfTI in any axis order or DICOM."""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import yaml
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from fuse_examples.imaging.oai_example.configuration.command_line import run_entry
from fuse_examples.imaging.oai_example.downstream import segmentation

SHAPE = (14, 20, 18)
SPACING = (2.0, 1.0, 1.25)
COLUMNS = ("PatientID", "img_path", "seg_path", "fold")
# Nothing here depends on the processor: fp32 and no worker processes.
SETTINGS: dict[str, Any] = {
    "width": 4,
    "resize_to": [16, 16, 16],
    "num_classes": 3,
    "structure_names": ["ball", "core"],
    "precision": "fp32",
    "n_workers": 0,
    "n_epochs": 1,
    "batch_size": 2,
    "learning_rate": 0.01,
    "warmup_epochs": 0,
    "n_bootstrap": 50,
    "log_images_every_n_epochs": 0,
}


def ball(seed: int, shape: Sequence[int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Image (int16) and mask (uint8) with axes in RAS order; the ball's place and the noise come from `seed`."""
    rng = np.random.default_rng(seed)
    centre = np.array(shape) / 2 + rng.uniform(-2, 2, 3)
    places = np.indices(shape).transpose(1, 2, 3, 0) + 0.5
    distance = np.linalg.norm((places - centre) * SPACING, axis=-1)
    mask = (distance < 7).astype(np.uint8) + (distance < 4)
    image = rng.normal(100, 15, shape) + 200 * (mask > 0) + 200 * (mask > 1)
    return image.astype(np.int16), mask.astype(np.uint8)


def affine_of(turn: float = 0.0) -> np.ndarray:
    """RAS affine with `SPACING` and an origin of its own, turned about two axes by `turn` radians."""
    cos, sin = np.cos(turn), np.sin(turn)
    first, second = np.eye(4), np.eye(4)
    first[:2, :2] = second[1:3, 1:3] = [[cos, -sin], [sin, cos]]
    affine = first @ second @ np.diag([*SPACING, 1.0])
    affine[:3, 3] = (-13.5, 21.25, 7.0)
    return affine


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray, codes: str = "RAS") -> Path:
    """Write an array given in RAS order as a file whose axes run as `codes` say; the voxels stay where they are in space."""
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    stored = np.ascontiguousarray(apply_orientation(array, change))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(stored, affine @ inv_ornt_aff(change, array.shape)), path)
    return path


def save_pair(folder: Path, name: str, seed: int, codes: str = "RAS", turn: float = 0.0) -> tuple[Path, Path]:
    """Write image and mask of one case."""
    image, mask = ball(seed)
    affine = affine_of(turn)
    return tuple(save_nifti(folder / f"{name}_{what}.nii.gz", array, affine, codes) for what, array in (("image", image), ("mask", mask)))  # type: ignore[return-value]


def write_csv(path: Path, rows: Sequence[Sequence[object]], columns: Sequence[str] = COLUMNS) -> Path:
    """Write a table; the header is line 1."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def write_yaml(path: Path, csv_path: Path, results_dir: Path, settings: Mapping[str, Any] | None = None) -> Path:
    """Write a configuration with folds 0 (train), 1 (val) and 2 (test)."""
    folds = {"train_folds": [0], "val_folds": [1], "test_folds": [2]}
    run = {"experiment": "balls", "results_dir": str(results_dir), "csv_path": str(csv_path)}
    path.write_text(yaml.safe_dump(run | folds | SETTINGS | dict(settings or {}), sort_keys=False))
    return path


def run_segmentation(monkeypatch: Any, yaml_path: Path, *words: str) -> int:
    """Do what `python segmentation.py --config FILE key=value ...` does, in this process; return the exit code."""
    monkeypatch.setattr(sys, "argv", ["segmentation.py", "--config", str(yaml_path), *words])
    return run_entry(segmentation.main)
