"""The one resampling of the project: an affine map from output to input indices, linear for images, nearest for masks.

A view is cropped, rotated, scaled, flipped and resized by a single interpolation of the voxels it needs; an elastic field is added to
the same coordinates. Where an axis is reduced beyond 2x, the input is first averaged over whole voxels, because linear interpolation
alone would skip voxels and alias.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fuse_examples.imaging.oai_example.geometry.kernels import Kernels, compiled_kernels
from fuse_examples.imaging.oai_example.geometry.maps import Matrix, reductions

Mode = Literal["linear", "nearest"]
_AVERAGE_BEYOND = 2.0
_READ_AS_THEY_ARE = ("uint8", "int16", "uint16", "float32")
_MOST_VOXELS = 2**31 - 1  # the kernels count in 32 bits


@dataclass(frozen=True)
class _Plan:
    """What a view needs of its input.

    Attributes:
        mode: "linear" or "nearest".
        cells: voxels that are averaged along each axis.
        start, stop: first and last-plus-one voxel.
        shape: voxels of the whole input.
        leaves: whether the view reaches outside the input.
    """

    mode: Mode
    cells: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    shape: NDArray[np.int64]
    leaves: bool


def resample(
    array: NDArray[Any] | Tensor,
    matrix: Matrix,
    output_shape: Sequence[int],
    mode: Mode = "linear",
    outside: float = 0.0,
    displacement: NDArray[np.float32] | Tensor | None = None,
) -> Tensor:
    """Sample `array` at the voxels of a view, on the array's device.

    On a CPU compiled kernels do the work where numba is installed, and PyTorch otherwise; the values differ by rounding.

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
    field = None if displacement is None else torch.as_tensor(displacement, dtype=torch.float32)
    plan = _plan(matrix, output_shape, np.array(array.shape[-3:]), mode, field)
    readable = _readable(array)
    kernels = compiled_kernels() if readable is not None and plan.shape.prod() <= _MOST_VOXELS else None
    if kernels is None or readable is None:
        return _by_torch(array, matrix, output_shape, plan, outside, field)
    return _by_kernels(kernels, readable, matrix, output_shape, plan, outside, field)


def needed_part(
    shape: Sequence[int], matrix: Matrix, output_shape: Sequence[int], mode: Mode, displacement: Tensor | None = None
) -> tuple[tuple[slice, ...], Matrix]:
    """The part of an array of `shape` that a view needs, and the map to the part: resampling it gives the same view."""
    plan = _plan(matrix, output_shape, np.array(shape), mode, displacement)
    to_part = np.eye(4)
    to_part[:3, 3] = -plan.start
    return tuple(slice(int(a), int(b)) for a, b in zip(plan.start, plan.stop, strict=True)), to_part @ matrix


def compile_for(number_types: Iterable[np.dtype[Any]]) -> None:
    """Compile the kernels for arrays of these types, or load them from their cache, so that worker processes find them ready."""
    for number_type in number_types:
        array = np.zeros((2, 2, 2), number_type)
        resample(array, np.diag([3.0, 1.0, 1.0, 1.0]), (1, 1, 1))
        for mode in get_args(Mode):
            resample(array, np.eye(4), (1, 1, 1), mode)


def _plan(matrix: Matrix, output_shape: Sequence[int], shape: NDArray[np.int64], mode: Mode, field: Tensor | None) -> _Plan:
    cells = averaging_cells(matrix) if mode == "linear" else np.ones(3, dtype=np.int64)
    low, high = _index_range(matrix, output_shape, field)
    start, stop = _needed_box(low, high, shape, cells)
    leaves = bool((low < -0.5 - 1e-6).any() or (high > shape - 0.5 + 1e-6).any())
    return _Plan(mode, cells, start, stop, shape, leaves)


# --- by compiled kernels, on a CPU


def _readable(array: NDArray[Any] | Tensor) -> NDArray[Any] | None:
    """The same voxels as an array without a copy; None for what is on another device or belongs to a graph."""
    if isinstance(array, Tensor):
        if array.device.type != "cpu" or array.requires_grad or array.dtype == torch.bfloat16:
            return None
        return array.numpy()
    return np.asarray(array)


def _by_kernels(
    kernels: Kernels, array: NDArray[Any], matrix: Matrix, output_shape: Sequence[int], plan: _Plan, outside: float, field: Tensor | None
) -> Tensor:
    views = np.empty((*array.shape[:-3], *output_shape), dtype=np.float32)
    bent = np.zeros((3, 0, 0, 0), np.float32) if field is None else (field / torch.from_numpy(plan.cells)[:, None, None, None]).numpy()
    for channel, view in zip(array if array.ndim == 4 else [array], views if array.ndim == 4 else [views], strict=True):
        voxels, start, weight = _voxels_for(kernels, channel, plan)
        to_voxels = _index_to_part(start, plan.cells)
        edges = np.full((2, 3), np.nan)
        if plan.leaves:
            edges[0] = to_voxels[:3, :3] @ np.full(3, -0.5 - 1e-6) + to_voxels[:3, 3]
            edges[1] = to_voxels[:3, :3] @ (plan.shape - 0.5 + 1e-6) + to_voxels[:3, 3]
        voxels.flags.writeable = False  # as a memory map is; otherwise the kernels would be compiled twice
        arguments = (voxels, np.ascontiguousarray((to_voxels @ matrix)[:3]))
        if plan.mode == "nearest":
            _in_threads(partial(kernels.pick, *arguments, np.ascontiguousarray(bent), edges, outside), view)
        else:
            _in_threads(partial(kernels.interpolate, *arguments, weight, np.ascontiguousarray(bent), edges, outside), view)
    return torch.from_numpy(views)


def _voxels_for(kernels: Kernels, channel: NDArray[Any], plan: _Plan) -> tuple[NDArray[Any], NDArray[np.int64], float]:
    """The voxels to interpolate between, the input voxel that their first one begins at, and the factor of their values.

    Cells are summed, not averaged: sums of small integers stay in 16 bits and lose nothing.
    """
    start = np.zeros(3, dtype=np.int64)
    if not channel.flags.c_contiguous or not channel.dtype.isnative or channel.dtype.name not in _READ_AS_THEY_ARE:
        part = channel[tuple(slice(a, b) for a, b in zip(plan.start, plan.stop, strict=True))]
        channel = np.array(part, dtype=part.dtype.newbyteorder("=") if part.dtype.name in _READ_AS_THEY_ARE else np.float32, order="C")
        start = plan.start
    else:
        channel = channel.view()
    channel.flags.writeable = False
    if (plan.cells == 1).all():
        return channel, start, 1.0
    n_cells = -((plan.start - plan.stop) // plan.cells)
    sums = np.empty(n_cells, dtype=np.int16 if channel.dtype in (np.int16, np.uint8) else np.float32)
    largest = np.iinfo(np.int16).max if sums.dtype == np.int16 else np.inf
    if not kernels.add_up(channel, plan.start - start, plan.cells, sums, float(largest)):
        sums = np.empty(n_cells, dtype=np.float32)
        kernels.add_up(channel, plan.start - start, plan.cells, sums, np.inf)
    return sums, plan.start, 1.0 / float(plan.cells.prod())


def _in_threads(fill: Any, view: NDArray[np.float32]) -> None:
    """Fill a view with as many threads as PyTorch may use; a loader's worker has one."""
    n_threads = min(torch.get_num_threads(), len(view))
    if n_threads == 1:
        fill(0, len(view), view)
        return
    bounds = np.linspace(0, len(view), n_threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(n_threads) as threads:
        list(threads.map(lambda first, last: fill(first, last, view), bounds[:-1], bounds[1:]))


# --- by PyTorch, on any device


def _by_torch(
    array: NDArray[Any] | Tensor, matrix: Matrix, output_shape: Sequence[int], plan: _Plan, outside: float, field: Tensor | None
) -> Tensor:
    start, stop, cells = plan.start, plan.stop, plan.cells
    part = _as_batch(array[..., start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]])
    part = _average(part, cells)
    to_part = _index_to_part(start, cells) @ matrix
    theta = torch.from_numpy(_normalised(to_part, part.shape[2:], output_shape)).to(part)
    grid = F.affine_grid(theta[None], [1, 1, *output_shape], align_corners=False)
    if field is not None:
        grid = grid + _as_grid(field.to(part.device), cells * part.shape[2:])
    sampling = "bilinear" if plan.mode == "linear" else "nearest"
    view = F.grid_sample(part, grid, mode=sampling, padding_mode="border", align_corners=False)[0]
    if plan.leaves:
        view[:, _outside(grid[0], start, cells, np.array(part.shape[2:]), plan.shape)] = outside
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
    return low + least.cpu().numpy(), high + largest.cpu().numpy()


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


def _outside(grid: Tensor, start: NDArray[np.int64], cells: NDArray[np.int64], part: NDArray[np.int64], shape: NDArray[np.int64]) -> Tensor:
    """Which view voxels have their centre outside the input's voxels; the grid's last axis comes first, as in torch."""
    beyond = torch.zeros(grid.shape[:3], dtype=torch.bool, device=grid.device)
    for axis in range(3):
        low, high = (2 * (edge - start[axis]) / (cells[axis] * part[axis]) - 1 for edge in (0, shape[axis]))
        coordinate = grid[..., 2 - axis]
        beyond |= (coordinate < low - 1e-6) | (coordinate > high + 1e-6)
    return beyond
