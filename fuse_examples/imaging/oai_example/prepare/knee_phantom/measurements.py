"""What can be measured on a mask: volumes and the mean thickness of cartilage."""

import numpy as np
from numpy.typing import NDArray

CARTILAGE_LABELS = (1, 2, 3, 4)


def volume_mm3(mask: NDArray[np.integer], affine: NDArray[np.float64]) -> float:
    """Volume of all labels together, in mm³."""
    return float(np.count_nonzero(mask) * abs(np.linalg.det(affine[:3, :3])))


def mean_thickness_mm(mask: NDArray[np.integer], affine: NDArray[np.float64], labels: tuple[int, ...] = CARTILAGE_LABELS) -> float:
    """Mean thickness of the cartilage plates in mm: twice their volume over the area of their surface.

    A plate of thickness t and area A much larger than t² has volume tA and surface 2A. The surface's area is that of the voxel faces
    between a plate's label and any other, each axis' share combined as the length of a vector over blocks would be for one direction;
    over all directions faces overstate a surface by 3/2 (Cauchy's formula), so the sum of the faces is multiplied by 2/3.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    volume = area = 0.0
    for label in labels:
        inside = np.pad(mask == label, 1)
        volume += float(np.count_nonzero(inside) * np.prod(spacing))
        for axis in range(3):
            faces = np.count_nonzero(np.diff(inside.astype(np.int8), axis=axis))
            area += float(faces * np.prod(spacing) / spacing[axis])
    return 2 * volume / (area * 2 / 3) if area else 0.0
