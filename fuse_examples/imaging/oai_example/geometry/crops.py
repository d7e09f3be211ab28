"""Where a random crop lies: boxes drawn along all three axes, in continuous voxel-edge coordinates.

Along an axis of n voxels the volume reaches from 0 to n; voxel i fills i to i + 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fuse_examples.imaging.oai_example.geometry.volume import Shape

Range = tuple[float, float]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class CropBox:
    """A box inside a volume.

    Attributes:
        start: the lower corner along each array axis, in voxel-edge coordinates.
        size: the edge lengths, in voxels; not whole numbers in general.
    """

    start: Point
    size: Point

    @property
    def stop(self) -> Point:
        """The upper corner along each array axis."""
        return self.start[0] + self.size[0], self.start[1] + self.size[1], self.start[2] + self.size[2]


def through_plane_axis(spacing: Sequence[float]) -> int:
    """Index of the array axis with the largest spacing; of axes within 0.1 % of it, the first (isotropic volumes: axis 0)."""
    largest = max(spacing)
    return next(axis for axis, length in enumerate(spacing) if length >= 0.999 * largest)


def draw_crop(
    rng: np.random.Generator,
    shape: Shape,
    spacing: Sequence[float],
    scale_in_plane: Range,
    scale_through_plane: Range,
    aspect: Range = (1.0, 1.0),
    through_plane: int | None = None,
) -> CropBox:
    """Draw a crop box; it lies inside the volume, all positions being equally likely.

    The in-plane scale is a share of the slice's area, the through-plane scale a share of the stack's length, since slices are often
    much thicker than they are finely sampled. Six numbers are drawn from `rng` whatever the arguments.

    Args:
        rng: the source of the draws; equal generators give equal boxes.
        shape: voxels along each array axis.
        spacing: voxel size along each array axis, in mm; only chooses the through-plane axis.
        scale_in_plane: least and largest share of the slice's area, drawn uniformly.
        scale_through_plane: least and largest share of the length along the through-plane axis, drawn uniformly.
        aspect: least and largest ratio of the shares of the two in-plane edges (first axis : second axis), drawn log-uniformly;
            1 keeps the volume's own proportions. Where the area is too large for the ratio, the ratio gives way: the box fits
            and its area is as drawn.
        through_plane: the through-plane axis; by default that of the largest spacing, see `through_plane_axis`.

    Raises:
        ValueError: a range that is empty, not positive or, for scales, reaches above 1; an axis other than 0, 1 or 2.
    """
    _check("scale_in_plane", scale_in_plane, 1.0)
    _check("scale_through_plane", scale_through_plane, 1.0)
    _check("aspect", aspect, math.inf)
    axis = through_plane_axis(spacing) if through_plane is None else through_plane
    if axis not in (0, 1, 2):
        raise ValueError(f"through_plane must be 0, 1 or 2, not {axis}")
    area_draw, length_draw, aspect_draw, *position = rng.random(6).tolist()
    area = _between(scale_in_plane, area_draw)
    # Both in-plane shares are at most 1 exactly where the ratio lies between the area and its inverse.
    feasible = tuple(min(max(bound, area), 1 / area) for bound in aspect)
    ratio = math.exp(_between((math.log(feasible[0]), math.log(feasible[1])), aspect_draw))
    shares = [min(math.sqrt(area * ratio), 1.0), min(math.sqrt(area / ratio), 1.0)]
    shares.insert(axis, _between(scale_through_plane, length_draw))
    size = [share * n for share, n in zip(shares, shape, strict=True)]
    start = [draw * (n - length) for draw, n, length in zip(position, shape, size, strict=True)]
    return CropBox((start[0], start[1], start[2]), (size[0], size[1], size[2]))


def _between(bounds: Range, draw: float) -> float:
    return min(bounds[0] + draw * (bounds[1] - bounds[0]), bounds[1])


def _check(name: str, bounds: Range, largest: float) -> None:
    if not 0 < bounds[0] <= bounds[1] <= largest:
        limit = "" if largest == math.inf else f" <= {largest:g}"
        raise ValueError(f"{name} must be (least, largest) with 0 < least <= largest{limit}, not {tuple(bounds)}")
