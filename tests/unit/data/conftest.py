"""Small DICOM series and NIfTI files, written for the readers' tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from series_files import series_in


@pytest.fixture
def write_series(tmp_path: Path) -> Callable[..., Path]:
    return lambda *args, **options: series_in(tmp_path / options.pop("name", "series"), *args, **options)


@pytest.fixture
def ramp() -> np.ndarray:
    """(5 slices, 4 rows, 3 columns) of distinct values."""
    return np.arange(60, dtype=np.int16).reshape(5, 4, 3) + 100


@pytest.fixture
def write_nifti(tmp_path: Path) -> Callable[..., Path]:
    def write(array: np.ndarray, affine: np.ndarray | None = None, name: str = "scan.nii.gz", **header: Any) -> Path:
        image = nibabel.Nifti1Image(array, np.diag([0.5, 0.75, 2.0, 1.0]) if affine is None else affine)
        for key, value in header.items():
            image.header[key] = value
        path = tmp_path / name
        nibabel.save(image, path)
        return path

    return write
