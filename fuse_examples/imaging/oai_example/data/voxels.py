"""Voxel values as readers hand them on: scaled, in the narrowest fitting type, and checked."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.errors import DataError

Voxels = NDArray[Any]
WHOLE_NUMBER_TOLERANCE = 1e-3  # masks saved with a float slope hold labels such as 0.99999994


def rescaled(stored: Voxels, slope: float, intercept: float) -> Voxels:
    """Return `stored * slope + intercept`: integers where slope and intercept are whole numbers, else float32."""
    if slope == 1 and intercept == 0:
        return narrowed(stored)
    if stored.dtype.kind in "iu" and float(slope).is_integer() and float(intercept).is_integer():
        low, high = sorted((int(stored.min()) * int(slope), int(stored.max()) * int(slope)))
        if min(low, low + int(intercept)) >= -(2**31) and max(high, high + int(intercept)) < 2**31:
            return narrowed(stored.astype(np.int32) * np.int32(slope) + np.int32(intercept))
    values = np.empty_like(stored, dtype=np.float32)
    slowest = int(np.argmax(stored.strides))
    # One plane at a time in float64: exact to float32, without a float64 copy of the whole volume.
    with np.errstate(over="ignore", invalid="ignore"):
        for place, plane in zip(np.moveaxis(values, slowest, 0), np.moveaxis(stored, slowest, 0), strict=True):
            place[...] = plane.astype(np.float64) * slope + intercept
    return values


def bytes_after_rescaling(stored: np.dtype[Any], scalings: Iterable[tuple[float, float]]) -> int:
    """Return the bytes that a voxel of `rescaled` takes, as far as a header tells: wide integers may turn out narrower.

    Args:
        stored: type of the stored voxels.
        scalings: every (slope, intercept) of the volume.
    """
    pairs = set(scalings)
    size = min(stored.itemsize, 4)
    if pairs <= {(1.0, 0.0)}:
        return size
    whole = stored.kind in "iu" and all(float(number).is_integer() for pair in pairs for number in pair)
    return max(size, 2) if whole else 4


def narrowed(values: Voxels) -> Voxels:
    """Return native-endian 8- or 16-bit integers where the values fit, else int32, else float32; floats become float32."""
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return values.astype(np.float32, copy=False)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype.itemsize <= 2:
        return values
    low, high = int(values.min()), int(values.max())
    for kind in (np.int16, np.uint16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return values.astype(kind, copy=False)
    return values.astype(np.float32)


def check_image_values(values: Voxels, path: Path) -> None:
    """Raise `DataError` for voxels that are not finite, or all equal."""
    low, high = _extremes(values)
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int(np.count_nonzero(~np.isfinite(values)))
        raise DataError(f"{path}: {count} of {values.size} voxels are NaN or infinite. Repair or exclude this scan.")
    if low == high:
        raise DataError(f"{path}: every voxel has the value {low:g}; there is no image in it. Exclude this scan.")


def _extremes(values: Voxels) -> tuple[Any, Any]:
    """Return the smallest and the largest voxel, both NaN where one is NaN; in stretches of memory, so that each is fetched once."""
    slabs = np.moveaxis(values, int(np.argmax(np.abs(values.strides))), 0)
    ends = [(slab.min(), slab.max()) for first in range(0, len(slabs), 2) for slab in [slabs[first : first + 2]]]
    lows, highs = zip(*ends, strict=True)
    return np.min(lows), np.max(highs)


def labels_of(values: Voxels, path: Path) -> Voxels:
    """Return the labels of a mask as uint8 or int16; raise `DataError` for what is not a whole number from 0 to 32767."""
    if values.dtype.kind == "f":
        low, high = values.min(), values.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise DataError(f"{path}: the mask holds NaN or infinite values. Labels are whole numbers.")
        nearest = np.rint(values)
        off = np.abs(values - nearest) > WHOLE_NUMBER_TOLERANCE
        if off.any():
            found = ", ".join(f"{value:g}" for value in np.unique(values[off])[:3])
            raise DataError(
                f"{path}: {int(off.sum())} voxels of the mask are not whole numbers (for example {found}). "
                "It may hold probabilities or have been interpolated; write one label per voxel."
            )
        values = nearest
    low, high = values.min(), values.max()
    if low < 0:
        count = int(np.count_nonzero(values == low))
        raise DataError(f"{path}: the mask holds label {low:g} ({count} voxels); labels are 0 and up. Correct the mask.")
    if high > np.iinfo(np.int16).max:
        raise DataError(f"{path}: the mask holds values from {low:g} to {high:g}; labels lie between 0 and 32767. Is it an image?")
    return values.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.int16, copy=False)
