"""DICOM-SEG objects as masks: each frame's voxels are put where the object says they lie, on the grid of the image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from fuse_examples.imaging.oai_example.data.dicom_files import has_dicom_preamble, parse_file, regular_files
from fuse_examples.imaging.oai_example.data.dicom_kinds import is_segmentation
from fuse_examples.imaging.oai_example.data.dicom_series import LPS_TO_RAS
from fuse_examples.imaging.oai_example.data.voxels import Voxels
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.geometry.volume import Grid

MAX_OFF = 0.1  # voxels of the image
MAX_STRETCH = 0.01
LABELLED = ("BINARY", "LABELMAP")


def find_dicom_seg(path: Path) -> Path | None:
    """Return the DICOM-SEG object that `path` is, or that a folder holds as its only DICOM file; None for anything else."""
    candidates = (file for file in (regular_files(path)[0] if path.is_dir() else [path]) if has_dicom_preamble(file))
    first = next(candidates, None)
    if first is None:
        return None
    image, _ = parse_file(first, pixels=False)
    return first if image is not None and is_segmentation(image) and next(candidates, None) is None else None


def read_dicom_seg(path: Path, grid: Grid) -> Voxels:
    """Return segment numbers as labels on `grid`, the image's in file order; 0 where no segment is.

    Frames may come in any order and need not cover the image: what they leave out is background.

    Raises:
        DataError: fractional segments, segments that overlap, frames that do not lie on the image's voxels, or a damaged file.
    """
    dataset, frames = _parsed(path)
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    numbers = [int(one.SegmentNumber) for one in dataset.SegmentSequence]
    labels = np.zeros(grid.shape, dtype=np.uint8 if max(numbers) < 256 else np.int16)
    to_voxel = np.asarray(np.linalg.inv(grid.affine) @ LPS_TO_RAS, dtype=np.float64)
    overlapping = 0
    for number, (own, frame) in enumerate(zip(dataset.PerFrameFunctionalGroupsSequence, frames, strict=True), start=1):
        rows, columns = np.nonzero(frame)
        if not len(rows):
            continue
        where = f"{path}: frame {number}"
        index = _indices(to_voxel, _frame_affine((own, shared[0]), where), rows, columns, grid, where)
        values: Any = frame[rows, columns]
        if dataset.SegmentationType == "BINARY":
            values = int(_value((own, shared[0]), "SegmentIdentificationSequence", "ReferencedSegmentNumber", where))
        there = labels[index]
        overlapping += int(np.count_nonzero((there != 0) & (there != values)))
        labels[index] = values
    if overlapping:
        raise DataError(f"{path}: its segments overlap in {overlapping} voxels, and a mask holds one label a voxel. Write them apart.")
    return labels


def _parsed(path: Path) -> tuple[Dataset, NDArray[Any]]:
    try:
        dataset = dcmread(path)
        kind = dataset.SegmentationType
        frames = dataset.pixel_array if kind in LABELLED else np.empty(0)
    except Exception as error:  # pydicom lets many kinds through when bytes are damaged
        raise DataError(f"{path}: the DICOM-SEG cannot be read ({error}). Copy or write it again.") from error
    if kind not in LABELLED:
        raise DataError(f"{path}: is a DICOM-SEG of type {kind}, which holds shares and no labels. Write it as BINARY or LABELMAP.")
    return dataset, frames if frames.ndim == 3 else frames[None]


def _indices(
    to_voxel: NDArray[np.float64], affine: NDArray[np.float64], rows: NDArray[Any], columns: NDArray[Any], grid: Grid, where: str
) -> tuple[NDArray[np.int64], ...]:
    """Voxels of the image that the pixels of a frame are. Raises DataError where they are none."""
    change = to_voxel @ affine  # of (column, row, 0, 1)
    steps = np.abs(change[:3, :2])
    exact = (to_voxel @ affine @ np.stack([columns, rows, np.zeros_like(rows), np.ones_like(rows)]).astype(float))[:3]
    nearest = np.rint(exact)
    off = float(np.abs(exact - nearest).max())
    if np.abs(steps.max(axis=0) - 1).max() > MAX_STRETCH or off > MAX_OFF:
        raise DataError(
            f"{where}: lies elsewhere than its image: its voxels are not the image's ({off:.1f} voxels off, {steps.max(axis=0)[0]:.2f} x "
            f"{steps.max(axis=0)[1]:.2f} of their size). Correct the seg_path, or write the mask on the image's grid."
        )
    inside = ((nearest >= 0) & (nearest < np.array(grid.shape)[:, None])).all(axis=0)
    if not inside.all():
        raise DataError(f"{where}: lies elsewhere than its image: {np.count_nonzero(~inside)} voxels are outside it. Correct the seg_path.")
    first, second, third = nearest.astype(np.int64)
    return first, second, third


def _frame_affine(groups: Sequence[Dataset], where: str) -> NDArray[np.float64]:
    """Map (column, row, 0, 1) to LPS mm (DICOM PS3.3 C.7.6.2.1.1)."""
    orientation = np.array(_value(groups, "PlaneOrientationSequence", "ImageOrientationPatient", where), dtype=float)
    between_rows, between_columns = map(float, _value(groups, "PixelMeasuresSequence", "PixelSpacing", where))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = orientation[:3] * between_columns, orientation[3:] * between_rows
    affine[:3, 3] = np.array(_value(groups, "PlanePositionSequence", "ImagePositionPatient", where), dtype=float)
    return affine


def _value(groups: Sequence[Dataset], sequence: str, keyword: str, where: str) -> Any:
    for group in groups:
        for item in group.get(sequence) or []:
            if keyword in item:
                return item[keyword].value
    raise DataError(f"{where}: has no {keyword}, so that its place is unknown. Write the DICOM-SEG again.")
