"""Predictions back on the input's own grid: logits are interpolated there, and only then become labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fuse_examples.imaging.oai_example.geometry.maps import Matrix
from fuse_examples.imaging.oai_example.geometry.resampling import resample
from fuse_examples.imaging.oai_example.geometry.volume import Grid, Shape

_SLAB_VOXELS = 4_000_000  # of logits per class at a time; bounds the memory of a large scan


@dataclass(frozen=True)
class SegmentedCase:
    """One case's labels, (D, H, W) on the input's voxels in the network's axis order.

    Attributes:
        name, patient, fold, row: the case in its table.
        labels: predicted.
        mask: true labels on the same voxels, or None.
        grid: where they lie.
        source: the grid of the input file, which differs from `grid` in the order and direction of axes.
    """

    name: str
    patient: str
    fold: str
    row: int
    labels: NDArray[Any]
    mask: NDArray[Any] | None
    grid: Grid
    source: Grid


def labels_on_grid(logits: Tensor, matrix: Matrix, shape: Shape) -> NDArray[Any]:
    """The most probable class of every voxel of the input.

    Args:
        logits: (K, d, h, w) on the network's grid.
        matrix: (4, 4) map from an index of the network's grid to one of the input's.
        shape: voxels of the input.

    Returns:
        (D, H, W) labels, uint8 (uint16 beyond 256 classes).
    """
    labels = np.empty(shape, dtype=np.uint8 if logits.shape[0] <= 256 else np.uint16)
    to_network = np.linalg.inv(matrix)
    logits = logits.float().cpu()
    thickness = max(1, _SLAB_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], thickness):
        stop = min(start + thickness, shape[0])
        slab_map = to_network @ _shift(start)
        slab = resample(logits, slab_map, (stop - start, shape[1], shape[2]), outside=0.0)
        labels[start:stop] = torch.max(slab, dim=0).indices.numpy()  # on a CPU argmax takes six times as long
    return labels


def _shift(start: int) -> Matrix:
    matrix = np.eye(4)
    matrix[0, 3] = start
    return matrix
