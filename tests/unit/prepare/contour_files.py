"""A knee series with boxes for structures, and the outlines of these boxes in iMorphics' two forms."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from scipy.io import savemat

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from series_files import SAGITTAL, series_in

SLICES, ROWS, COLUMNS = 9, 20, 16
SPACING = (0.4, 0.4)
STEP = 0.7
NAMES = ("FemoralCartilage", "LateralTibialCartilage", "MedialTibialCartilage", "PatellarCartilage", "LateralMeniscus", "MedialMeniscus")
Box = tuple[int, int, int, int, int, int]  # first and past-last slice (from lateral), row, column
BOXES: dict[str, Box] = {
    "FemoralCartilage": (1, 8, 3, 6, 2, 13),
    "LateralTibialCartilage": (1, 4, 10, 12, 4, 9),
    "MedialTibialCartilage": (6, 8, 10, 13, 5, 11),
    "PatellarCartilage": (3, 6, 2, 4, 0, 3),  # overlaps the femoral box in row 3, column 2
    "LateralMeniscus": (2, 4, 7, 8, 5, 6),
    "MedialMeniscus": (6, 7, 7, 9, 6, 8),
}


def write_knee(folder: Path, side: str, *, lateral_first: bool, patient: str = "9000099", visit: int = 0) -> np.ndarray:
    """Write a sagittal series whose slices are numbered from the lateral side or from the medial one; return its voxels by number.

    The slices' normal runs to the patient's right; which number is where is what `lateral_first` and `side` say.
    """
    values = np.random.default_rng(len(str(folder)) + visit).integers(0, 4000, (SLICES, ROWS, COLUMNS)).astype(np.int16)
    to_the_right = (side == "RIGHT") != lateral_first  # a right knee counted from the medial side is counted rightwards
    places = np.arange(SLICES) if to_the_right else np.arange(SLICES)[::-1]

    def change(dataset: Dataset, index: int) -> None:
        dataset.PatientID, dataset.SeriesDescription = patient, f"SAG_3D_DESS_{side}"
        dataset.StudyDescription = f"OAI^MR^ENROLLMENT^{side}"
        dataset.SeriesInstanceUID = f"1.2.3.{patient}.{visit}.{len(side)}"

    origin = (60 if side == "LEFT" else -60, -10, 10)
    series_in(folder, values, origin=origin, spacing=SPACING, along=places * STEP, change=change, directions=SAGITTAL)
    return values


def number(slice_from_lateral: int, lateral_first: bool) -> int:
    return slice_from_lateral if lateral_first else SLICES - 1 - slice_from_lateral


def expected_positions(side: str) -> dict[str, set[tuple[float, float, float]]]:
    """RAS positions of every voxel of each box, from DICOM's own formula and the anatomy: no array order is involved."""
    found = {}
    for name, (first, last, top, bottom, left, right) in BOXES.items():
        points = set()
        for k in range(first, last):
            # lateral slices lie outwards: to the patient's right in a right knee, where the stack begins at LPS x = -60 and runs right
            along = (SLICES - 1 - k) if side == "RIGHT" else k
            lps_x = (60 if side == "LEFT" else -60) - along * STEP
            for row in range(top, bottom):
                for column in range(left, right):
                    lps_y, lps_z = -10 + column * SPACING[1], 10 - row * SPACING[0]
                    points.add((round(-lps_x, 4), round(-lps_y, 4), round(lps_z, 4)))
        found[name] = points
    return found


def rectangle(left: float, right: float, low: float, high: float) -> np.ndarray:
    return np.array([[left, low], [right, low], [right, high], [left, high]], float)


def write_mat(
    path: Path, *, lateral_first: bool, boxes: Mapping[str, Box] = BOXES, slices: int = SLICES, fields: Sequence[str] = NAMES
) -> None:
    """`datastruct`: an entry per slice, a field per structure; x and y from the image's lower left corner; the femur in two pieces."""
    struct = np.zeros((1, slices), dtype=[(name, object) for name in fields])
    for index in range(slices):
        for name in fields:
            struct[name][0, index] = np.zeros((0, 0))
    for name, (first, last, top, bottom, left, right) in boxes.items():
        for k in range(first, last):
            halves = [(left, right)] if name != "FemoralCartilage" else [(left, left + 4), (left + 4, right)]
            cells = np.empty((1, len(halves)), object)
            for piece, (start, end) in enumerate(halves):
                points = rectangle(start, end, ROWS - bottom, ROWS - top)
                cells[0, piece] = np.column_stack([points, np.full(4, k)])
            struct[name][0, number(k, lateral_first)] = cells
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"datastruct": struct})


def write_text(path: Path, *, lateral_first: bool, boxes: Mapping[str, Box] = BOXES, named: bool = True) -> None:
    """Braces: structure, slice, piece, points; x y z from voxel centres, y from below."""
    lines = []
    for name in NAMES:
        lines += [name, "{"] if named else ["{"]
        if name in boxes:
            first, last, top, bottom, left, right = boxes[name]
            for k in range(first, last):
                lines += ["{", "{"]
                for x, y in rectangle(left - 0.5, right - 0.5, ROWS - 1 - (bottom - 0.5), ROWS - 1 - (top - 0.5)):
                    lines.append(f"{x:.3f} {y:.3f} {number(k, lateral_first)}")
                lines += ["}", "}"]
        lines.append("}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
