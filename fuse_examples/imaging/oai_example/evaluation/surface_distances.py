"""Distances between the surfaces of two masks of one structure, in mm.

The surface of a mask is made of its voxels that have a face neighbour outside it; what lies beyond the volume is outside. Each surface
voxel is a point, its centre, and its distance is that to the nearest surface voxel of the other mask (Taha and Hanbury, BMC Medical
Imaging 2015). The nearest one is found by a k-d tree; a voxel on both surfaces has distance 0 and is not looked up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Points = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SurfaceDistances:
    """Both directed lists of distances in mm.

    Attributes:
        from_truth: (n,), from each surface voxel of the true mask to the predicted surface.
        from_prediction: (m,), from each surface voxel of the predicted mask to the true surface.
    """

    from_truth: NDArray[np.float64]
    from_prediction: NDArray[np.float64]

    def hausdorff(self, percentile: float = 95.0) -> float:
        """The larger of the two directed percentiles; with 100 the Hausdorff distance (Huttenlocher et al., IEEE TPAMI 1993)."""
        return float(max(np.percentile(self.from_truth, percentile), np.percentile(self.from_prediction, percentile)))

    def average(self) -> float:
        """The mean of all distances of both directions together (ASSD; Heimann et al., IEEE TMI 2009)."""
        return float((self.from_truth.sum() + self.from_prediction.sum()) / (len(self.from_truth) + len(self.from_prediction)))

    def dice(self, tolerance: float) -> float:
        """The share of both surfaces' voxels within `tolerance` mm of the other (surface Dice; Nikolov et al. 2018, arXiv:1809.04430).

        Voxels count alike, as in MONAI; the published code weights them by the area they stand for.
        """
        near = int((self.from_truth <= tolerance).sum() + (self.from_prediction <= tolerance).sum())
        return near / (len(self.from_truth) + len(self.from_prediction))


def surface_distances(truth: Mask, predicted: Mask, to_mm: NDArray[np.float64]) -> SurfaceDistances:
    """Measure two masks (D, H, W), neither of them empty.

    Args:
        truth, predicted: voxels of the structure, in one box that holds all of both.
        to_mm: (3, 3) voxel steps to mm, the linear part of the affine; voxels may be anisotropic and sheared.

    Raises:
        ValueError: a mask is empty, so that it has no surface.
    """
    true_surface, predicted_surface = surface(truth), surface(predicted)
    shared = true_surface & predicted_surface
    points = [_points(one, to_mm) for one in (true_surface, predicted_surface)]
    if not all(map(len, points)):
        raise ValueError("an empty mask has no surface to measure from")
    n_shared = int(np.count_nonzero(shared))
    alone = [_points(one & ~shared, to_mm) for one in (true_surface, predicted_surface)]
    directed = [_nearest(alone[0], points[1]), _nearest(alone[1], points[0])]
    zeros = np.zeros(n_shared)
    return SurfaceDistances(np.concatenate([zeros, directed[0]]), np.concatenate([zeros, directed[1]]))


def surface(mask: Mask) -> Mask:
    """The voxels of (D, H, W) with a face neighbour outside the mask or beyond the array."""
    interior = mask.copy()
    for axis in range(3):
        inner, own = np.moveaxis(interior, axis, 0), np.moveaxis(mask, axis, 0)
        inner[1:] &= own[:-1]
        inner[:-1] &= own[1:]
        inner[0] = inner[-1] = False
    return np.asarray(mask ^ interior)


def box_around(masks: Sequence[tuple[slice, ...] | None]) -> tuple[slice, ...] | None:
    """The smallest box that holds the boxes of several masks; None where none of them has one."""
    found = [mask for mask in masks if mask is not None]
    if not found:
        return None
    return tuple(slice(min(one.start for one in axis), max(one.stop for one in axis)) for axis in zip(*found, strict=True))


def _points(mask: Mask, to_mm: NDArray[np.float64]) -> Points:
    index = np.stack(np.unravel_index(np.flatnonzero(mask), mask.shape), axis=1)
    return np.ascontiguousarray(index @ to_mm.T)


def _nearest(queries: Points, points: Points) -> NDArray[np.float64]:
    if not len(queries):
        return np.empty(0)
    # Surfaces are thin sheets: medians make a deeper tree no better to search, and cost more than the search itself.
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    distances: NDArray[np.float64] = tree.query(queries)[0]
    return distances
