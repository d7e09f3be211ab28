"""The one resampling of the project: an affine map from output to input indices, linear for images, nearest for masks.

A view is cropped, rotated, scaled, flipped and resized by a single interpolation of the voxels it needs; an elastic field is added to
the same coordinates. Where an axis is reduced beyond 2x, the input is first averaged over whole voxels, because linear interpolation
alone would skip voxels and alias.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fuse_examples.imaging.oai_example.geometry.maps import Matrix, reductions

Mode = Literal["linear", "nearest"]
_AVERAGE_BEYOND = 2.0


def resample(
    array: NDArray[Any] | Tensor,
    matrix: Matrix,
    output_shape: Sequence[int],
    mode: Mode = "linear",
    outside: float = 0.0,
    displacement: NDArray[np.float32] | Tensor | None = None,
) -> Tensor:
    """Sample `array` at the voxels of a view.

    Args:
        array: (D, H, W) or (C, D, H, W), any real dtype; a memory-mapped array is read only where the view needs it.
        matrix: (4, 4) map from output index to input index (`geometry.maps`).
        output_shape: voxels of the view.
        mode: "linear" for images, logits and probabilities; "nearest" for masks.
        outside: value of view voxels whose centre lies outside the input's voxels.
        displacement: (3, *output_shape), in voxels of the input along its axes: an elastic field that is added to where `matrix` takes
            each voxel of the view. It does not change what is averaged.

    Returns:
        float32 tensor of shape `output_shape`, with the leading C of the input if it has one.
    """
    shape = np.array(array.shape[-3:])
    cells = averaging_cells(matrix) if mode == "linear" else np.ones(3, dtype=int)
    field = None if displacement is None else torch.as_tensor(displacement, dtype=torch.float32)
    low, high = _index_range(matrix, output_shape, field)
    start, stop = _needed_box(low, high, shape, cells)
    part = _as_batch(array[..., start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]])
    part = _average(part, cells)
    to_part = _index_to_part(start, cells) @ matrix
    theta = torch.from_numpy(_normalised(to_part, part.shape[2:], output_shape)).to(torch.float32)
    grid = F.affine_grid(theta[None], [1, 1, *output_shape], align_corners=False)
    if field is not None:
        grid = grid + _as_grid(field, cells * part.shape[2:])
    sampling = "bilinear" if mode == "linear" else "nearest"
    view = F.grid_sample(part, grid, mode=sampling, padding_mode="border", align_corners=False)[0]
    if _reaches_outside(low, high, shape):
        view[:, _outside(grid[0], start, cells, np.array(part.shape[2:]), shape)] = outside
    return view if array.ndim == 4 else view[0]


def averaging_cells(matrix: Matrix) -> NDArray[np.int64]:
    """Voxels averaged along each input axis before interpolation: the whole part of a reduction beyond 2x, otherwise 1."""
    steps = reductions(matrix)
    return np.where(steps > _AVERAGE_BEYOND, np.floor(steps + 1e-6), 1).astype(np.int64)


def _needed_box(
    low: NDArray[np.float64], high: NDArray[np.float64], shape: NDArray[np.int64], cells: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last-plus-one input voxel that the view touches, widened to whole averaging cells counted from voxel 0."""
    start = np.clip(np.floor((low - 1) / cells - 1) * cells, 0, (shape - 1) // cells * cells).astype(np.int64)
    stop = np.clip((np.ceil((high + 1) / cells) + 2) * cells, start + 1, shape).astype(np.int64)
    return start, stop


def _index_range(matrix: Matrix, output_shape: Sequence[int], field: Tensor | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest and largest input index over the centres of the view's voxels; with a displacement, bounds of them."""
    reach = matrix[:3, :3] * (np.asarray(output_shape) - 1)
    low, high = matrix[:3, 3] + np.minimum(reach, 0).sum(axis=1), matrix[:3, 3] + np.maximum(reach, 0).sum(axis=1)
    if field is None:
        return low, high
    least, largest = field.flatten(1).aminmax(dim=1)
    return low + least.numpy(), high + largest.numpy()


def _as_batch(part: NDArray[Any] | Tensor) -> Tensor:
    tensor = part if isinstance(part, Tensor) else torch.from_numpy(np.array(part, dtype=np.float32, order="C"))
    tensor = tensor.to(torch.float32)
    return tensor[None] if tensor.ndim == 4 else tensor[None, None]


def _average(part: Tensor, cells: NDArray[np.int64]) -> Tensor:
    if (cells == 1).all():
        return part
    missing = [int(-size % cell) for size, cell in zip(part.shape[2:], cells, strict=True)]
    if any(missing):  # repeat the last voxels, so that the last cell keeps its place
        part = F.pad(part, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")
    return F.avg_pool3d(part, kernel_size=tuple(int(c) for c in cells))


def _index_to_part(start: NDArray[np.int64], cells: NDArray[np.int64]) -> Matrix:
    """Input index to the index in the cropped and averaged part; a cell's centre lies between its voxels."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(1.0 / cells)
    matrix[:3, 3] = -(start + (cells - 1) / 2) / cells
    return matrix


def _normalised(matrix: Matrix, input_shape: Sequence[int], output_shape: Sequence[int]) -> NDArray[np.float64]:
    """The map in torch's terms: coordinates from -1 to 1 over the voxels' edges, last axis first; (3, 4)."""

    def from_unit(shape: Sequence[int]) -> Matrix:
        size = np.asarray(shape, dtype=float)
        change = np.diag([*(size / 2), 1.0])
        change[:3, 3] = (size - 1) / 2
        return change

    unit = np.linalg.inv(from_unit(input_shape)) @ matrix @ from_unit(output_shape)
    return np.ascontiguousarray(unit[[2, 1, 0]][:, [2, 1, 0, 3]])


def _as_grid(field: Tensor, spanned: NDArray[np.int64]) -> Tensor:
    """A displacement in input voxels in torch's terms, where -1 to 1 spans that many voxels: (1, d, h, w, 3), last axis first."""
    return (field * torch.from_numpy(2.0 / spanned).to(field)[:, None, None, None]).flip(0).movedim(0, -1)[None]


def _reaches_outside(low: NDArray[np.float64], high: NDArray[np.float64], shape: NDArray[np.int64]) -> bool:
    return bool((low < -0.5 - 1e-6).any() or (high > shape - 0.5 + 1e-6).any())


def _outside(grid: Tensor, start: NDArray[np.int64], cells: NDArray[np.int64], part: NDArray[np.int64], shape: NDArray[np.int64]) -> Tensor:
    """Which view voxels have their centre outside the input's voxels; the grid's last axis comes first, as in torch."""
    beyond = torch.zeros(grid.shape[:3], dtype=torch.bool)
    for axis in range(3):
        low, high = (2 * (edge - start[axis]) / (cells[axis] * part[axis]) - 1 for edge in (0, shape[axis]))
        coordinate = grid[..., 2 - axis]
        beyond |= (coordinate < low - 1e-6) | (coordinate > high + 1e-6)
    return beyond
