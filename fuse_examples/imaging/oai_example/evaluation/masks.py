"""Predicted masks, and maps that explain predictions, as NIfTI on the grid of the scan as it came."""

import os
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.geometry.volume import Grid

SCANNER = 1  # NIfTI xform code: coordinates of the scanner
LABEL_TYPES = (np.uint8, np.int16, np.int32)  # the smallest that fits; all viewers read these


def mask_path(folder: Path, case: str) -> Path:
    """Return where the mask of a case goes inside the test folder.

    Raises:
        ValueError: the case's name would leave the folder.
    """
    if not case or Path(case).name != case or case.startswith("."):
        raise ValueError(f"{case!r} cannot name a file")
    return folder / "segmentations" / f"{case}.nii.gz"


def write_mask(path: Path, labels: NDArray[Any], grid: Grid) -> None:
    """Write a label map (D, H, W), already in the source's axis order, with the source's shape and affine.

    Both forms of the affine are set, because software differs in which it reads; the quaternion form cannot hold a shear, so a
    sheared grid has only the matrix. The file is whole or absent, and the same labels give the same bytes.

    Raises:
        ValueError: labels that are not integers, are negative, or lie on another shape than the grid's.
    """
    if labels.shape != grid.shape:
        raise ValueError(f"labels of shape {labels.shape} on a grid of shape {grid.shape}")
    if labels.dtype.kind not in "uib" or (labels.size and int(labels.min()) < 0):
        raise ValueError(f"labels of type {labels.dtype}; expected integers from 0 on")
    highest = int(labels.max()) if labels.size else 0
    dtype = next(kind for kind in LABEL_TYPES if highest <= np.iinfo(kind).max)
    _write(path, labels.astype(dtype, copy=False), grid)


def map_path(folder: Path, case: str, target: str) -> Path:
    """Return where the map that explains a case's prediction goes inside the test folder."""
    plain = re.sub(r"[^\w.-]", "_", target)  # any column name
    return folder / "explanations" / f"{case}_{plain}.nii.gz"


def write_map(path: Path, values: NDArray[np.float32], grid: Grid) -> None:
    """Write a map of real values (D, H, W), float32, as `write_mask` does a label map. Raises ValueError for another shape."""
    if values.shape != grid.shape:
        raise ValueError(f"a map of shape {values.shape} on a grid of shape {grid.shape}")
    _write(path, values.astype(np.float32, copy=False), grid)


def _write(path: Path, array: NDArray[Any], grid: Grid) -> None:
    image = nibabel.Nifti1Image(array, grid.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(grid.affine, code=SCANNER)
    image.set_qform(grid.affine, code=SCANNER)
    if not np.allclose(image.get_qform(), grid.affine, atol=1e-3):
        image.set_qform(None, code=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}.partial.{path.name}")  # nibabel chooses the format by the ending
    try:
        nibabel.save(image, beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
