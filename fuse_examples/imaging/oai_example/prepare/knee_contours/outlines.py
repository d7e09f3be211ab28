"""Outlines of structures on slices, and the voxels inside them.

Points are (column, row) with a voxel's centre at whole numbers, rows counted from the top, as in a DICOM image.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

STRUCTURES = (
    "FemoralCartilage", "LateralTibialCartilage", "MedialTibialCartilage", "PatellarCartilage", "LateralMeniscus", "MedialMeniscus",
)  # fmt: skip
"""Labels 1 to 6. Where outlines overlap, the structure that stands earlier has the voxel."""
Points = NDArray[np.float64]
Outlines = Mapping[int, Mapping[str, Sequence[Points]]]
"""By slice, counted from 0 in the order of the scan's files, and by structure: one closed polygon per piece, (points, 2)."""


def inside(points: Points, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which voxels (rows, columns) have their centre inside a closed polygon, by the even-odd rule.

    Intervals are half open: of two polygons that share an edge, just one has a centre that lies on it.
    """
    within = np.zeros(shape, bool)
    low = np.clip(np.floor(points.min(axis=0)).astype(int), 0, None)  # only the polygon's own rectangle: outlines are small
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 1, shape[::-1])
    (left, top), (right, bottom) = low.tolist(), high.tolist()
    if left >= right or top >= bottom:
        return within
    start, end = points, np.roll(points, -1, axis=0)
    row = np.arange(top, bottom)[:, None]
    where, edge = np.nonzero((start[:, 1] <= row) != (end[:, 1] <= row))  # (rows, edges)
    slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
    column = start[edge, 0] + (where + top - start[edge, 1]) * slope
    toggles = np.zeros((bottom - top, right - left + 1), int)
    np.add.at(toggles, (where, np.clip(np.ceil(column).astype(int), left, right) - left), 1)
    within[top:bottom, left:right] = np.cumsum(toggles, axis=1)[:, :-1] % 2 == 1
    return within


def filled(outlines: Outlines, slices: int, shape: tuple[int, int]) -> tuple[NDArray[np.uint8], int]:
    """Return labels (slices, rows, columns) and the number of voxels that several structures claim."""
    labels = np.zeros((slices, *shape), np.uint8)
    contested = 0
    for index, structures in outlines.items():
        for label, name in reversed(list(enumerate(STRUCTURES, start=1))):  # the earlier structure is painted last
            pieces = [inside(points, shape) for points in structures.get(name, ()) if len(points) >= 3]
            if pieces:
                area = np.logical_or.reduce(pieces)
                contested += int(np.count_nonzero(labels[index][area]))
                labels[index][area] = label
    return labels, contested
