"""Patch and batch size of a segmentation from its training cases and the memory at hand, by rules that are printed with what they gave.

In the manner of nnU-Net (Isensee et al., Nat Methods 2021), in fewer rules: a patch is as much of a typical volume as fits, and a batch
is filled up only while an epoch still has many of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.geometry.volume import Shape

MOST_VOXELS = 128**3
"""Of a patch: larger ones make steps long and add little to what a network sees around a voxel."""
LEAST_CASES = 2  # per batch
LARGEST_SHARE = 0.05  # of all training voxels in a batch


@dataclass(frozen=True)
class Memory:
    """What a training step may take, and what it takes.

    Attributes:
        available: bytes.
        per_voxel: bytes that a voxel of a batch takes, forward and backward.
        name: where the memory is, for the printed line.
    """

    available: float
    per_voxel: float
    name: str

    @property
    def voxels(self) -> int:
        """Voxels that a batch may have."""
        return int(self.available / self.per_voxel)


@dataclass(frozen=True)
class Plan:
    """Sizes and a line for each that says by which rule it came."""

    patch_size: Shape
    batch_size: int
    reasons: tuple[str, ...]


def plan_sizes(
    extents_mm: Sequence[Sequence[float] | NDArray[np.float64]],
    spacing: Sequence[float],
    multiple: int,
    memory: Memory,
    patch_size: Shape | None = None,
    batch_size: int | None = None,
) -> Plan:
    """Plan what is not given.

    Args:
        extents_mm: of each training volume along the axes of the network's order.
        spacing: voxel size in mm that patches are sampled at.
        multiple: of voxels that the backbone takes along each axis.
        memory: of a training step.
        patch_size, batch_size: as the user set them, or None.
    """
    shapes = np.maximum(np.round(np.asarray(extents_mm) / np.asarray(spacing)), 1)
    median = np.median(shapes, axis=0)
    reasons = []
    if patch_size is None:
        patch_size = _patch(median, spacing, multiple, memory.voxels // (batch_size or LEAST_CASES))
        typical = " x ".join(f"{length:g}" for length in median)
        reasons.append(
            f"patch_size {list(patch_size)}: a median volume has {typical} voxels; up to {MOST_VOXELS:,} voxels, "
            f"{batch_size or LEAST_CASES} of which fit into {memory.name}; multiples of {multiple}"
        )
    if batch_size is None:
        share = int(LARGEST_SHARE * shapes.prod(axis=1).sum())
        budget = min(memory.voxels, 2 * MOST_VOXELS, share)
        batch_size = max(LEAST_CASES, budget // prod(patch_size))
        reasons.append(
            f"batch_size {batch_size}: at least {LEAST_CASES}, at most {LARGEST_SHARE:.0%} of the training cases' voxels, "
            f"{2 * MOST_VOXELS:,} voxels, and what fits into {memory.name}"
        )
    return Plan(patch_size, batch_size, tuple(reasons))


def _patch(median: np.ndarray, spacing: Sequence[float], multiple: int, most_voxels: int) -> Shape:
    """The median volume, rounded up; its longest side in mm is cut by a multiple until it fits."""
    patch = (np.ceil(median / multiple) * multiple).astype(int)
    while patch.prod() > min(MOST_VOXELS, most_voxels) and (patch > multiple).any():
        length = np.where(patch > multiple, patch * np.asarray(spacing), 0.0)
        patch[int(length.argmax())] -= multiple
    depth, height, width = patch.tolist()
    return depth, height, width
