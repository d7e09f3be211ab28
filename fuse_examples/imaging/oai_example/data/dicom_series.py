"""From the frames of a folder to one evenly spaced stack: order along the normal, and the checks of its geometry.

Geometry that is silently wrong ruins a study, so whatever is not one regular volume is an error that says which file and by how much.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fuse_examples.imaging.oai_example.data.dicom_frames import Frame
from fuse_examples.imaging.oai_example.data.dicom_groups import MIN_SLICES, names_of, one_group
from fuse_examples.imaging.oai_example.data.reading import Reading
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.geometry.volume import Affine

log = logging.getLogger(__name__)

SAME_POSITION = 1e-3  # mm
MAX_TILT = 0.1  # degrees between the stack's direction and the slices' normal; the affine carries less than this exactly
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Stack:
    """Frames of one volume in ascending order along their normal, and the affine of the array (columns, rows, slices) in RAS mm."""

    frames: tuple[Frame, ...]
    affine: Affine

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the array in file order: columns, rows, slices."""
        rows, columns = self.frames[0].matrix
        return columns, rows, len(self.frames)


def stack_frames(frames: Sequence[Frame], folder: Path, same_pixels: Callable[[Frame, Frame], bool], reading: Reading) -> Stack:
    """Choose the one volume among `frames` and put it in order.

    Args:
        frames: all usable frames of a folder, in any order.
        folder: named in messages.
        same_pixels: says whether two frames at one position hold the same image; called only for such.
        reading: which volume is meant, and whether uneven spacing is tolerated.

    Raises:
        DataError: several volumes, too few slices, different slices at one position, missing slices, uneven spacing, a tilted stack.
    """
    chosen = one_group(frames, folder, reading.series)
    along = np.array([frame.position for frame in chosen]) @ chosen[0].normal
    ordered = [chosen[index] for index in np.argsort(along, kind="stable")]
    ordered = _without_duplicates(ordered, folder, same_pixels)
    if len(ordered) < MIN_SLICES:
        raise DataError(f"{folder}: holds {len(ordered)} slice{'s' * (len(ordered) != 1)}; a volume needs at least {MIN_SLICES}.")
    _check_spacing(ordered, folder, reading)
    _check_tilt(ordered, folder)
    return Stack(tuple(ordered), _affine(ordered))


def _without_duplicates(ordered: list[Frame], folder: Path, same_pixels: Callable[[Frame, Frame], bool]) -> list[Frame]:
    kept: list[Frame] = []
    dropped: list[Frame] = []
    clashes: list[tuple[Frame, Frame]] = []
    for frame in ordered:
        twins = []
        for other in reversed(kept):
            if math.dist(frame.position, other.position) > SAME_POSITION:
                break
            twins.append(other)
        if not twins:
            kept.append(frame)
        elif any(same_pixels(frame, twin) for twin in twins):
            dropped.append(frame)
        else:
            clashes.append((twins[-1], frame))
            kept.append(frame)
    if clashes:
        one, other = clashes[0]
        raise DataError(
            f"{folder}: {len(clashes)} position{'s' * (len(clashes) != 1)} with different images, "
            f"for example {one.label} and {other.label} at {_point(one.position)} mm{_difference(one, other)}. "
            "This is a time series or several acquisitions; keep the files of one volume in the folder."
        )
    if dropped:
        log.warning("%s: dropped %d exact duplicate(s) of other slices: %s", folder, len(dropped), names_of(dropped))
    return kept


def _difference(one: Frame, other: Frame) -> str:
    """Name the first attribute that tells two images at one position apart."""
    left, right = one.moment, other.moment
    for name in left | right:
        if left.get(name) != right.get(name):
            return f" ({name} {left.get(name)} and {right.get(name)})"
    return ""


def _check_spacing(ordered: list[Frame], folder: Path, reading: Reading) -> None:
    along = np.array([frame.position for frame in ordered]) @ ordered[0].normal
    gaps = np.diff(along)
    spacing = float(np.median(gaps))
    tolerance = max(0.05 * spacing, 0.05)
    multiples = np.rint(gaps / spacing)
    missing = [
        f"{int(multiples[i]) - 1} between {ordered[i].label} and {ordered[i + 1].label} ({gaps[i]:.3f} mm apart, not {spacing:.3f} mm)"
        for i in np.flatnonzero((multiples >= 2) & (np.abs(gaps - multiples * spacing) <= 2 * tolerance))
    ]
    if missing:
        raise DataError(f"{folder}: slices are missing: {'; '.join(missing[:5])}. Copy the complete series again or exclude it.")
    index = np.arange(len(along))
    step, start = np.polyfit(index, along, 1)
    off = along - (start + step * index)
    worst = int(np.abs(off).argmax())
    tolerance = max(0.05 * step, 0.05)
    if abs(off[worst]) <= tolerance:
        return
    found = (
        f"{folder}: the slices are unevenly spaced: {ordered[worst].label} lies {abs(off[worst]):.3f} mm from its place in an even "
        f"stack of {step:.3f} mm steps (tolerance {tolerance:.3f} mm)."
    )
    if not reading.tolerate_uneven_spacing:
        raise DataError(f"{found} Resample the series to even spacing, exclude it, or set tolerate_uneven_spacing: true.")
    log.warning("%s It is read as if it were even, as tolerate_uneven_spacing says.", found)


def _check_tilt(ordered: list[Frame], folder: Path) -> None:
    """Refuse a stack that does not run along the normal, and a slice displaced within its plane."""
    positions = np.array([frame.position for frame in ordered])
    normal = ordered[0].normal
    reach = positions[-1] - positions[0]
    sideways = reach - (reach @ normal) * normal
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(sideways), abs(reach @ normal))))
    if tilt > MAX_TILT:
        raise DataError(
            f"{folder}: the stack is tilted by {tilt:.2f} degrees (gantry tilt): its slices shift by {np.linalg.norm(sideways):.2f} mm "
            f"within their plane from {ordered[0].label} to {ordered[-1].label}. "
            "Correct the tilt with a converter such as dcm2niix and use its NIfTI."
        )
    even = positions[0] + np.linspace(0, 1, len(ordered))[:, None] * reach
    off = (positions - even) - ((positions - even) @ normal)[:, None] * normal
    distance = np.linalg.norm(off, axis=1)
    worst = int(distance.argmax())
    tolerance = max(0.05 * float(np.linalg.norm(reach)) / (len(ordered) - 1), 0.05)
    if distance[worst] > tolerance:
        raise DataError(
            f"{folder}: {ordered[worst].label} is displaced by {distance[worst]:.3f} mm within its plane against the other slices "
            f"(tolerance {tolerance:.3f} mm). The slices do not form one block; exclude the series or correct its positions."
        )


def _affine(ordered: list[Frame]) -> Affine:
    """Map the index (column, row, slice) to RAS mm.

    DICOM PS3.3 C.7.6.2.1.1: the column index moves along the row direction by the spacing between columns, the second of PixelSpacing.
    """
    first, last = ordered[0], ordered[-1]
    between_rows, between_columns = first.spacing
    affine = np.eye(4)
    affine[:3, 0] = first.row_direction * between_columns
    affine[:3, 1] = first.column_direction * between_rows
    affine[:3, 2] = np.subtract(last.position, first.position) / (len(ordered) - 1)
    affine[:3, 3] = first.position
    return LPS_TO_RAS @ affine


def _point(position: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.2f}" for value in position) + ")"
