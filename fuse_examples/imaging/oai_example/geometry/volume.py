"""A 3D image with its place in space, and the change of axis order between a file and the network.

Axes and affines follow the NIfTI convention: world axes point to the patient's right, anterior and superior (RAS), in millimetres,
and `affine` maps the index of a voxel's centre to its position.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.orientations import aff2axcodes, apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

Affine = NDArray[np.float64]
Shape = tuple[int, int, int]
RAS = "RAS"


@dataclass(frozen=True)
class Grid:
    """Where voxels lie: the shape of an array and the affine from voxel index to millimetres, (4, 4)."""

    shape: Shape
    affine: Affine

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along each array axis, in mm."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    @property
    def orientation(self) -> str:
        """Axis codes such as "RAS": the patient direction each array axis runs towards, to the nearest axis."""
        return "".join(aff2axcodes(self.affine))

    def corners(self) -> NDArray[np.float64]:
        """World positions of the eight corner voxels' centres, (8, 3), in mm."""
        far = np.array(self.shape) - 1
        index = np.array([[i, j, k] for i in (0, far[0]) for j in (0, far[1]) for k in (0, far[2])], dtype=float)
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def oriented(self, codes: str) -> "Grid":
        """Return the same grid with its axes permuted and flipped to `codes`."""
        change = _axis_change(self.affine, codes)
        shape = tuple(self.shape[int(np.flatnonzero(change[:, 0] == axis)[0])] for axis in range(3))
        return Grid((shape[0], shape[1], shape[2]), self.affine @ inv_ornt_aff(change, self.shape))


@dataclass(frozen=True)
class Volume:
    """An array with axes in a known patient order (RAS unless reoriented) and the grid of the file it came from.

    Attributes:
        array: (D, H, W) voxels; integers stay integers.
        affine: (4, 4) voxel index to mm, for `array` as it stands.
        source: shape and affine as the file stores them; predictions are written on it.
    """

    array: NDArray[Any]
    affine: Affine
    source: Grid

    @property
    def grid(self) -> Grid:
        """Shape and affine of `array` as it stands."""
        depth, height, width = self.array.shape
        return Grid((depth, height, width), self.affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along each axis of `array`, in mm."""
        return self.grid.spacing

    def oriented(self, codes: str) -> "Volume":
        """Return the volume with its axes permuted and flipped to `codes`; a view, nothing is interpolated."""
        change = _axis_change(self.affine, codes)
        return Volume(apply_orientation(self.array, change), self.grid.oriented(codes).affine, self.source)


def from_file_order(array: NDArray[Any], affine: Affine) -> Volume:
    """Turn an array as a file stores it into a `Volume` with axes in RAS order."""
    affine = np.asarray(affine, dtype=np.float64)
    first, second, third = array.shape
    return Volume(array, affine, Grid((first, second, third), affine)).oriented(RAS)


def to_source_order(array: NDArray[Any], grid: Grid, source: Grid) -> NDArray[Any]:
    """Permute and flip `array`, which lies on `grid`, into the axis order of `source`; the inverse of reading."""
    change = ornt_transform(io_orientation(grid.affine), io_orientation(source.affine))
    return np.ascontiguousarray(apply_orientation(array, change))


def _axis_change(affine: Affine, codes: str) -> NDArray[np.float64]:
    change: NDArray[np.float64] = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(codes)))
    return change
