"""Affine maps from the voxel indices of an output grid to those of an input array.

Voxel edges are aligned: an axis of n voxels spans [0, n] in edge coordinates, and the centre of voxel i lies at i + 0.5. Every map here
is a (4, 4) float64 matrix that takes an output index (of a voxel's centre) to an input index, so maps compose by matrix product and
invert by matrix inversion.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def resize_map(input_shape: Sequence[int], output_shape: Sequence[int]) -> Matrix:
    """The map of a plain resize: both grids cover the same box."""
    sizes = np.asarray(input_shape, dtype=float)
    return view_map(sizes / 2, sizes, output_shape, spacing=(1.0, 1.0, 1.0))


def view_map(
    centre: Sequence[float] | NDArray[np.float64],
    extent: Sequence[float] | NDArray[np.float64],
    output_shape: Sequence[int],
    spacing: Sequence[float],
    rotation: Matrix | None = None,
    scale: float = 1.0,
    flips: Sequence[bool] = (False, False, False),
) -> Matrix:
    """One map for crop, rotation, scaling, flip and resize.

    Args:
        centre: middle of the view in the input's edge coordinates, in voxels.
        extent: size of the box that the view covers before rotation and scaling, in mm along the array's axes.
        output_shape: voxels of the view.
        spacing: voxel size of the input in mm. Rotations act in millimetres, so that anisotropic voxels do not shear.
        rotation: (3, 3) rotation matrix, identity by default.
        scale: above 1 the view covers more of the input, so that structures appear smaller.
        flips: axes of the view that run backwards.
    """
    size = np.asarray(output_shape, dtype=float)
    step = np.asarray(extent, dtype=float) / size * scale * np.where(flips, -1.0, 1.0)
    linear = (np.eye(3) if rotation is None else rotation) @ np.diag(step) / np.asarray(spacing, dtype=float)[:, None]
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = np.asarray(centre, dtype=float) - 0.5 + linear @ (0.5 - size / 2)
    return matrix


def rotation_matrix(angles: Sequence[float]) -> Matrix:
    """Product of the rotations about the first, second and third axis, by `angles` in radians; (3, 3)."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def output_affine(affine: Matrix, matrix: Matrix) -> Matrix:
    """The affine to millimetres of a view that was made by `matrix` from an array with `affine`."""
    return affine @ matrix


def reductions(matrix: Matrix) -> NDArray[np.float64]:
    """How many input voxels one output step spans along each input axis: the lengths of the linear part's rows."""
    lengths: NDArray[np.float64] = np.linalg.norm(matrix[:3, :3], axis=1)
    return lengths
