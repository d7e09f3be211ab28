"""Fields on a voxel grid: coordinates in the knee's frame, signed distances, and how much of a voxel lies inside a surface.

Everything is float32; constants are Python floats, which NumPy does not let widen an array.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]
Box = tuple[slice, slice, slice]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Frame:
    """Where the voxels (D, H, W) of a grid, or of a box in it, lie in the knee's frame, in mm of a knee of scale 1.

    Attributes:
        x, y, z: coordinates of the voxels' centres: lateral, anterior, superior.
        to_knee: (4, 4) affine from the whole grid's voxel index to these coordinates, but for the relief.
        box: the part of the whole grid that x, y and z cover.
    """

    x: Field
    y: Field
    z: Field
    to_knee: NDArray[np.float64]
    box: Box

    @property
    def spacing(self) -> Point:
        """Voxel size along each array axis, in mm of a knee of scale 1."""
        first, second, third = np.linalg.norm(self.to_knee[:3, :3], axis=0)
        return float(first), float(second), float(third)

    def around(self, low: Point, high: Point, margin: float = 3.0) -> "Frame":
        """Return the part of the frame that holds the box between two corners, `margin` mm wider on each side."""
        ends = np.array([np.subtract(low, margin), np.add(high, margin)])
        corners = np.array([[ends[a, 0], ends[b, 1], ends[c, 2], 1.0] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
        index = np.linalg.solve(self.to_knee, corners.T)[:3]
        inner = []
        for axis, mine in enumerate(self.box):
            start = min(max(int(np.floor(index[axis].min())), mine.start), mine.stop - 2)
            stop = max(min(int(np.ceil(index[axis].max())) + 1, mine.stop), start + 2)
            inner.append(slice(start, stop))
        box = (inner[0], inner[1], inner[2])
        part = inside(box, self.box)
        return Frame(self.x[part], self.y[part], self.z[part], self.to_knee, box)


def inside(box: Box, other: Box) -> Box:
    """Turn `box` of the whole grid into slices of an array that covers only `other`."""
    a, b, c = (slice(mine.start - its.start, mine.stop - its.start) for mine, its in zip(box, other, strict=True))
    return a, b, c


def knee_frame(size: tuple[int, int, int], to_knee: NDArray[np.float64]) -> Frame:
    """Coordinates of a grid's voxel centres under `to_knee`, the (4, 4) affine from voxel index to the knee's frame."""
    i, j, k = (np.arange(n, dtype=np.float64) for n in size)
    axes = []
    for row in to_knee[:3]:
        plane = (row[0] * i + row[3])[:, None] + (row[1] * j)[None, :]
        axes.append(plane.astype(np.float32)[:, :, None] + (row[2] * k).astype(np.float32))
    return Frame(axes[0], axes[1], axes[2], to_knee, (slice(0, size[0]), slice(0, size[1]), slice(0, size[2])))


@dataclass(frozen=True)
class Waves:
    """Plane waves in the knee's frame: wave vectors (n, 3) in 1/mm and phases (n,)."""

    vectors: NDArray[np.float64]
    phases: NDArray[np.float64]


def random_waves(rng: np.random.Generator, count: int, shortest: float, longest: float) -> Waves:
    """Draw waves of random direction and phase with lengths between `shortest` and `longest` mm."""
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    length = rng.uniform(shortest, longest, count)
    return Waves(direction * (2 * np.pi / length)[:, None], rng.uniform(0, 2 * np.pi, count))


def sum_of_waves(waves: Waves, size: tuple[int, int, int], to_knee: NDArray[np.float64]) -> Field:
    """Sum of cos(v·p + phase) at the points p of a grid (D, H, W), scaled to variance 1.

    A plane wave over an affine grid is a product of three functions of one index each, so that n waves cost one matrix product.
    """
    k = waves.vectors @ to_knee[:3, :3]
    offset = waves.vectors @ to_knee[:3, 3] + waves.phases
    a, b, c = (np.exp(1j * k[:, axis, None] * np.arange(n)) for axis, n in enumerate(size))
    a = (a * np.exp(1j * offset)[:, None] * np.sqrt(2 / len(offset))).astype(np.complex64)
    rest = (b.astype(np.complex64)[:, :, None] * c.astype(np.complex64)[:, None, :]).reshape(len(offset), -1)
    total: Field = a.real.T @ rest.real - a.imag.T @ rest.imag
    return total.reshape(size)


def smooth_max(a: Field, b: Field, width: float) -> Field:
    """Maximum of two fields, rounded off over `width`: the intersection of two bodies with a rounded edge."""
    difference = a - b
    h = np.clip(0.5 + difference / (2 * width), 0, 1)
    mixed: Field = b + h * (difference + width * (1 - h))
    return mixed


def smooth_min(a: Field, b: Field, width: float) -> Field:
    """Minimum of two fields, rounded off over `width`: the union of two bodies with a filleted seam."""
    return -smooth_max(-a, -b, width)


def smooth_step(value: Field, low: float, high: float) -> Field:
    """0 below `low`, 1 above `high`, a cubic between them."""
    t = np.clip((value - low) / (high - low), 0, 1)
    step: Field = t * t * (3 - 2 * t)
    return step


@dataclass(frozen=True)
class Surface:
    """A closed surface on a box: signed distance (mm, negative inside) and a voxel's extent along the surface's normal (mm)."""

    distance: Field
    extent: Field | float

    def covered(self, offset: Field | float = 0.0) -> Field:
        """Share of each voxel that lies below the surface moved outwards by `offset`, exact for a plane parallel to a voxel's face."""
        share: Field = np.clip(0.5 - (self.distance - offset) / self.extent, 0, 1)
        return share


def surface(level: Field, spacing: Point) -> Surface:
    """Turn a level function (zero on the surface, negative inside) into a signed distance, to first order: level / |gradient|."""
    squared, total = np.zeros_like(level), np.zeros_like(level)
    for axis, size in enumerate(spacing):
        step = np.gradient(level, axis=axis)
        squared += np.square(step / size)
        total += np.abs(step)
    norm = np.maximum(np.sqrt(squared), 0.2)
    return Surface(level / norm, np.maximum(total / norm, 0.5))


def capsule(frame: Frame, start: Point, end: Point, radius: float) -> Field:
    """Signed distance to a rounded rod from `start` to `end`."""
    axis = np.subtract(end, start)
    length = float(np.linalg.norm(axis))
    a, b, c = (float(component) / length for component in axis)
    x, y, z = frame.x - start[0], frame.y - start[1], frame.z - start[2]
    along = x * a + y * b + z * c
    foot = np.clip(along, 0, length)
    squared = x * x + y * y + z * z + foot * (foot - 2 * along)
    distance: Field = np.sqrt(np.maximum(squared, 0)) - radius
    return distance


def ellipsoid(frame: Frame, centre: Point, radii: Point) -> Field:
    """Approximate signed distance to an ellipsoid with axes along the frame's."""
    x, y, z = (frame.x - centre[0]) / radii[0], (frame.y - centre[1]) / radii[1], (frame.z - centre[2]) / radii[2]
    distance: Field = (np.sqrt(x * x + y * y + z * z) - 1) * min(radii)
    return distance
