"""Connected components of a predicted structure: all but the largest can be removed.

Neighbours share a face, an edge or a corner. Whether a structure is cleaned is decided on validation data (`tasks.segmentation`).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)
Box = tuple[slice, ...]


def outside_the_largest(labels: NDArray[Any], structure: int) -> tuple[Box, NDArray[np.bool_]] | None:
    """Where a structure's voxels outside its largest component are.

    Args:
        labels: (D, H, W) integers.
        structure: its label, 1 or more.

    Returns:
        The structure's box and the voxels in it, or None where there is one component or none. Of equally large components the first
        in the array's order stays.
    """
    found = find_objects(labels, max_label=structure)
    box = found[structure - 1] if len(found) >= structure else None
    if box is None:
        return None
    components, count = label(labels[box] == structure, structure=_NEIGHBOURS)
    if count < 2:
        return None
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return box, (components > 0) & (components != sizes.argmax())


def keep_largest(labels: NDArray[Any], structure: int) -> None:
    """Turn all but the largest component of a structure into background, in place."""
    found = outside_the_largest(labels, structure)
    if found is not None:
        box, spare = found
        labels[box][spare] = 0
