"""The loops of the resampling for one CPU thread: plain functions of arrays, compiled by numba where it is installed.

They read integers where they lie, so that a memory map is touched only where a view needs it and no float32 copy of it is made. Compiled
code is kept beside this file, or in the user's cache folder, so that it is compiled once and not by every process.
"""

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
f4, i4 = np.float32, np.int32
_ROWS_TOGETHER = 32  # rows of one output slice before the next slice: neighbouring slices read the same input rows while they are cached


@dataclass(frozen=True)
class Kernels:
    """The compiled functions."""

    interpolate: Callable[..., None]
    pick: Callable[..., None]
    add_up: Callable[..., bool]


@functools.cache
def compiled_kernels() -> Kernels | None:
    """The kernels, or None where numba is not installed. They compile on their first call for a number type."""
    if importlib.util.find_spec("numba") is None:
        return None
    import numba  # takes half a second and a hundred megabytes, so it waits until a view is made

    # Contraction and reordering of signed zeros only: NaN and infinity keep their meaning.
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
        except RuntimeError:  # neither this folder nor a home can be written, as in containers: compiled anew by each process
            return numba.njit(**options)(function)  # type: ignore[no-any-return]

    return Kernels(compiled(interpolate), compiled(pick), compiled(add_up))


def interpolate(
    voxels: NDArray[Any], matrix: Doubles, weight: float, field: Floats, edges: Doubles, outside: float, first: int, last: int, view: Floats
) -> None:
    """Linear interpolation of slices `first` to `last` of a view; the border's voxels are repeated.

    Args:
        voxels: (D, H, W), contiguous.
        matrix: (3, 4) map from the view's indices to those of `voxels`.
        weight: factor of every value.
        field: (3, d, h, w) added to the mapped indices, or (3, 0, 0, 0).
        edges: (2, 3) least and largest index that is not outside; NaN where the view does not reach outside.
        outside: value outside.
        view: (d, h, w), is filled.
    """
    # In one piece, because compiled code calls compiled functions only, and those would need numba where this module is imported.
    n_z, n_y, n_x = voxels.shape
    _, height, width = view.shape
    flat = voxels.reshape(-1)
    weight4, is_bent, may_leave = f4(weight), field.shape[1] > 0, edges[0, 0] == edges[0, 0]
    z_end, y_end, x_end = f4(n_z - 1), f4(n_y - 1), f4(n_x - 1)
    z_last, y_last, x_last = i4(max(n_z - 2, 0)), i4(max(n_y - 2, 0)), i4(max(n_x - 2, 0))
    # From a voxel to the next one along each axis; an axis of a single voxel has none.
    to_z, to_y, to_x = (n_y * n_x if n_z > 1 else 0), (n_x if n_y > 1 else 0), (1 if n_x > 1 else 0)
    step_z, step_y, step_x = f4(matrix[0, 2]), f4(matrix[1, 2]), f4(matrix[2, 2])
    rows_are_straight = not is_bent and matrix[0, 2] == 0 and matrix[1, 2] == 0
    offset, part_x = np.empty(width, i4), np.empty(width, f4)
    part_y, part_z, line = np.empty(width, f4), np.empty(width, f4), np.empty(n_x, f4)
    for block in range(0, height, _ROWS_TOGETHER):
        for i in range(first, last):
            for j in range(block, min(block + _ROWS_TOGETHER, height)):
                row = view[i, j]
                at_z = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 3]
                at_y = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 3]
                at_x = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 3]
                from_z, from_y, from_x = f4(at_z), f4(at_y), f4(at_x)
                if rows_are_straight:  # four rows of voxels become one, which is then interpolated along itself
                    z, y = min(max(from_z, f4(0)), z_end), min(max(from_y, f4(0)), y_end)
                    z0, y0 = min(i4(z), z_last), min(i4(y), y_last)
                    pz, py = z - f4(z0), y - f4(y0)
                    end_x = f4(at_x + matrix[2, 2] * (width - 1))
                    # One voxel more at each end than exact arithmetic needs.
                    begin = max(int(min(max(min(from_x, end_x), f4(0)), x_end)) - 1, 0)
                    stop = min(int(min(max(max(from_x, end_x), f4(0)), x_end)) + 3, n_x)
                    start = np.int64(z0) * n_y * n_x + np.int64(y0) * n_x
                    near, far = flat[start : start + n_x], flat[start + to_y : start + to_y + n_x]
                    near_z, far_z = flat[start + to_z : start + to_z + n_x], flat[start + to_z + to_y : start + to_z + to_y + n_x]
                    for k in range(begin, stop):
                        a, b = f4(near[k]), f4(near_z[k])
                        a += py * (f4(far[k]) - a)
                        b += py * (f4(far_z[k]) - b)
                        line[k] = (a + pz * (b - a)) * weight4
                    for k in range(width):
                        x = min(max(from_x + step_x * f4(i4(k)), f4(0)), x_end)
                        x0 = min(i4(x), x_last)
                        part_x[k], offset[k] = x - f4(x0), x0
                    for k in range(width):
                        a = line[offset[k]]
                        row[k] = a + part_x[k] * (line[offset[k] + to_x] - a)
                else:
                    for k in range(width):
                        z, y, x = from_z + step_z * f4(i4(k)), from_y + step_y * f4(i4(k)), from_x + step_x * f4(i4(k))
                        if is_bent:
                            z, y, x = z + field[0, i, j, k], y + field[1, i, j, k], x + field[2, i, j, k]
                        z, y, x = min(max(z, f4(0)), z_end), min(max(y, f4(0)), y_end), min(max(x, f4(0)), x_end)
                        z0, y0, x0 = min(i4(z), z_last), min(i4(y), y_last), min(i4(x), x_last)
                        part_z[k], part_y[k], part_x[k] = z - f4(z0), y - f4(y0), x - f4(x0)
                        offset[k] = i4((z0 * n_y + y0) * n_x + x0)
                    for k in range(width):
                        o = np.int64(offset[k])
                        a, b, c, e = f4(flat[o]), f4(flat[o + to_y]), f4(flat[o + to_z]), f4(flat[o + to_z + to_y])
                        o += to_x
                        a += part_x[k] * (f4(flat[o]) - a)
                        b += part_x[k] * (f4(flat[o + to_y]) - b)
                        c += part_x[k] * (f4(flat[o + to_z]) - c)
                        e += part_x[k] * (f4(flat[o + to_z + to_y]) - e)
                        a += part_y[k] * (b - a)
                        c += part_y[k] * (e - c)
                        row[k] = (a + part_z[k] * (c - a)) * weight4
                if may_leave:
                    for k in range(width):
                        z, y, x = at_z + matrix[0, 2] * k, at_y + matrix[1, 2] * k, at_x + matrix[2, 2] * k
                        if is_bent:
                            z, y, x = z + field[0, i, j, k], y + field[1, i, j, k], x + field[2, i, j, k]
                        is_inside = edges[0, 0] <= z <= edges[1, 0] and edges[0, 1] <= y <= edges[1, 1] and edges[0, 2] <= x <= edges[1, 2]
                        if not is_inside:
                            row[k] = outside


def pick(voxels: NDArray[Any], matrix: Doubles, field: Floats, edges: Doubles, outside: float, first: int, last: int, view: Floats) -> None:
    """The nearest voxel's value in slices `first` to `last` of a view; arguments as for `interpolate`."""
    n_z, n_y, n_x = voxels.shape
    _, height, width = view.shape
    is_bent, may_leave = field.shape[1] > 0, edges[0, 0] == edges[0, 0]
    for i in range(first, last):
        for j in range(height):
            for k in range(width):
                z = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2] * k + matrix[0, 3]
                y = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 2] * k + matrix[1, 3]
                x = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 2] * k + matrix[2, 3]
                if is_bent:
                    z, y, x = z + field[0, i, j, k], y + field[1, i, j, k], x + field[2, i, j, k]
                if may_leave and not (
                    edges[0, 0] <= z <= edges[1, 0] and edges[0, 1] <= y <= edges[1, 1] and edges[0, 2] <= x <= edges[1, 2]
                ):
                    view[i, j, k] = outside
                else:
                    z, y, x = (
                        min(max(np.rint(z), 0.0), n_z - 1.0),
                        min(max(np.rint(y), 0.0), n_y - 1.0),
                        min(max(np.rint(x), 0.0), n_x - 1.0),
                    )
                    view[i, j, k] = voxels[i4(z), i4(y), i4(x)]


def add_up(voxels: NDArray[Any], start: NDArray[np.int64], sizes: NDArray[np.int64], sums: NDArray[Any], largest: float) -> bool:
    """Sum the voxels of each averaging cell, the last ones being repeated in a cell that reaches beyond the array.

    Args:
        voxels: (D, H, W), contiguous.
        start: (3,) first voxel of the first cell.
        sizes: (3,) voxels of a cell along each axis.
        sums: (D', H', W'), is filled.
        largest: what `sums` can hold.

    Returns:
        whether every sum fitted.
    """
    n_z, n_y, n_x = voxels.shape
    depth, height, width = sums.shape
    size_z, size_y, size_x = sizes[0], sizes[1], sizes[2]
    begin = start[2]
    n_line = min(width * size_x, n_x - begin)
    line = np.empty(width * size_x, f4)  # whole numbers up to 2^24 are exact
    greatest = f4(0)
    for i in range(depth):
        for j in range(height):
            for k in range(width * size_x):
                line[k] = f4(0)
            for z in range(start[0] + i * size_z, start[0] + (i + 1) * size_z):
                for y in range(start[1] + j * size_y, start[1] + (j + 1) * size_y):
                    row = voxels[min(z, n_z - 1), min(y, n_y - 1)][begin:]
                    for k in range(n_line):
                        line[k] += f4(row[k])
            for k in range(n_line, width * size_x):
                line[k] = line[n_line - 1]
            row_of_sums = sums[i, j]
            if size_x == 1:
                for k in range(width):
                    greatest = max(greatest, abs(line[k]))
                    row_of_sums[k] = line[k]
            else:
                for k in range(width):
                    total = f4(0)
                    for x in range(k * size_x, (k + 1) * size_x):
                        total += line[x]
                    greatest = max(greatest, abs(total))
                    row_of_sums[k] = total
    return bool(greatest <= largest)
