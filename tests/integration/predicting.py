"""Predictions as `predict.py` makes them, in this process, and the scans they are made for."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import ball_cases
import numpy as np
from nibabel.affines import apply_affine
from pydicom.dataset import Dataset
from series_files import series_in

from fuse_examples.imaging.oai_example.configuration.command_line import run_entry
from fuse_examples.imaging.oai_example.downstream import predict


def start(*words: object) -> int:
    """Do what the script does and return its exit code."""
    with mock.patch.object(sys, "argv", ["predict.py", *map(str, words)]):
        return run_entry(predict.main)


def run(checkpoints: Sequence[Path] | Path, scans: Path, output: Path, *words: object) -> Path:
    """The folder of a prediction that ends well; without words it makes no pictures, which take most of the time."""
    paths = [checkpoints] if isinstance(checkpoints, Path) else checkpoints
    code = start("--checkpoint", *paths, "--input", scans, "--output", output, *(words or ["--no-overlays"]))
    assert code == 0, f"predict.py ended with {code}"
    return output


def record(folder: Path) -> Any:
    return json.loads((folder / "prediction.json").read_text())


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write_series(folder: Path, seed: int, **geometry: Any) -> Path:
    """Write the ball of `ball_cases` as a sagittal DICOM series, the slices running to the right."""
    image, _ = ball_cases.ball(seed)
    values = image.transpose(0, 2, 1)[:, ::-1, ::-1]  # rows go down, columns to the back
    return series_in(folder, np.ascontiguousarray(values), along=2.0, spacing=(1.25, 1.0), change=in_a_study, **geometry)


def in_a_study(dataset: Dataset, index: int) -> None:
    """What a scanner writes and the reader does not ask for."""
    dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.2", "1.2.826.0.1.3680043.8.498.3"
    dataset.PatientName, dataset.PatientSex, dataset.StudyDate = "Knee^Synthetic", "F", "20260102"


def centre_of(labels: np.ndarray, affine: np.ndarray, label: int) -> np.ndarray:
    """Mean position in mm of a label's voxels."""
    return apply_affine(affine, np.argwhere(labels == label)).mean(axis=0)
