"""Predictions back on the input's own grid: logits are interpolated there, and only then become labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fuse_examples.imaging.oai_example.geometry.maps import Matrix
from fuse_examples.imaging.oai_example.geometry.resampling import averaging_cells, resample
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
    """The most probable class of every voxel of the input, from logits (K, d, h, w) of the whole volume; see `labels_from_slabs`."""
    return labels_from_slabs([(0, logits)], logits.shape[1], matrix, shape)


def labels_from_slabs(
    slabs: Iterable[tuple[int, Tensor]], n_planes: int, matrix: Matrix, shape: Shape, written: Sequence[int] = ()
) -> NDArray[Any]:
    """The most probable class of every voxel of the input, from logits that come slab after slab along the first axis.

    Logits are interpolated to the input's voxels, and only then become labels. Of the slabs no more is kept than the next voxels need.

    Args:
        slabs: the first plane and logits (K, n, h, w) of n planes on the network's grid, in order and without gaps.
        n_planes: planes of the network's grid.
        matrix: (4, 4) map from an index of the network's grid to one of the input's.
        shape: voxels of the input.
        written: of overlapping structures, the label that each writes where it exceeds the background, class 0, over those before it
            (nnU-Net's region-based training, Isensee et al., BrainLes 2020). Empty: the most probable class is the label.

    Returns:
        (D, H, W) labels, uint8 (uint16 beyond 256 classes).
    """
    to_network = np.linalg.inv(matrix).astype(np.float64)
    if not _runs_along_the_first_axis(to_network):  # a slab then lies across the input's planes
        slabs = [(0, torch.cat([slab.float().cpu() for _, slab in slabs], dim=1))]
    cell = int(averaging_cells(to_network)[0])
    labels = np.empty(0)
    held, first, done = torch.empty(0), 0, 0
    for start, slab in slabs:
        if not labels.size:
            labels = np.empty(shape, dtype=np.uint8 if max(slab.shape[0] - 1, *written, 0) <= 255 else np.uint16)
        slab = slab.float().cpu()
        held = torch.cat([held, slab], dim=1) if held.numel() else slab
        known = start + slab.shape[1]
        stop = shape[0] if known == n_planes else _planes_below(to_network, known - 2 * cell - 1, shape[0])
        _fill(labels, held, to_network, (first, done, stop), written)
        done = max(done, stop)
        needed = int(np.floor(to_network[0, 0] * done + to_network[0, 3])) - 2 * cell
        spare = max(0, (needed - first) // cell * cell)  # whole cells, so that those behind keep their voxels
        held, first = held[:, spare:].clone(), first + spare
    return labels


def _fill(labels: NDArray[Any], logits: Tensor, to_network: Matrix, planes: tuple[int, int, int], written: Sequence[int]) -> None:
    """Label planes of the input by logits; `planes`: the network's first of these logits, the input's from and to which."""
    first, start, stop = planes
    unchanged = np.allclose(to_network, np.eye(4), atol=1e-6) and labels.shape[1:] == logits.shape[2:]
    thickness = max(1, _SLAB_VOXELS // (labels.shape[1] * labels.shape[2]))
    for begin in range(start, stop, thickness):
        end = min(begin + thickness, stop)
        if unchanged:
            slab = logits[:, begin - first : end - first]
        else:
            slab = resample(logits, _shift(-first) @ to_network @ _shift(begin), (end - begin, *labels.shape[1:]), outside=0.0)
        labels[begin:end] = _decided(slab, written)


def _decided(slab: Tensor, written: Sequence[int]) -> NDArray[Any]:
    """Turn (K, n, h, w) logits or probabilities into labels (n, h, w)."""
    if not written:
        return torch.max(slab, dim=0).indices.numpy()  # on a CPU argmax takes six times as long
    labels = np.zeros(slab.shape[1:], dtype=np.int64)
    for structure, label in enumerate(written, start=1):
        labels[(slab[structure] > slab[0]).numpy()] = label
    return labels


def _runs_along_the_first_axis(to_network: Matrix) -> bool:
    return bool(to_network[0, 0] > 0 and not to_network[0, 1:3].any() and not to_network[1:3, 0].any())


def _planes_below(to_network: Matrix, plane: int, n_planes: int) -> int:
    """How many of the input's planes lie below a plane of the network's grid."""
    return int(np.clip(np.floor((plane - to_network[0, 3]) / to_network[0, 0]), 0, n_planes))


def _shift(planes: int) -> Matrix:
    matrix = np.eye(4)
    matrix[0, 3] = planes
    return matrix
