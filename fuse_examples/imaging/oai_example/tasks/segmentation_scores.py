"""What validation measures of a segmenter: Dice, and what keeping the largest component alone would change in it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import MeanMetric

from fuse_examples.imaging.oai_example.inference.components import outside_the_largest
from fuse_examples.imaging.oai_example.objectives.overlap import dice_per_region, joint_histogram


class ValidationScores:
    """Means over the cases of an epoch, on every device together.

    Args:
        structures: names of labels 1, 2, ...
        largest_component: whether to measure the gain of keeping the largest component alone.
    """

    def __init__(
        self, structures: Sequence[str], largest_component: bool, regions: Sequence[Sequence[int]] = (), num_classes: int | None = None
    ) -> None:
        self.structures = tuple(structures)
        self.regions = tuple(regions) or tuple((label,) for label in range(1, len(self.structures) + 1))
        self.num_classes = num_classes or len(self.structures) + 1
        self.largest_component = largest_component
        self.mean_dice = MeanMetric(nan_strategy="ignore")
        self.dice = [MeanMetric(nan_strategy="ignore") for _ in structures]
        self.gain = [MeanMetric(nan_strategy="ignore") for _ in structures]

    def update(self, truth: NDArray[Any], labels: NDArray[Any]) -> None:
        """Take up one case, true and predicted labels (D, H, W) on the input's voxels."""
        counts = joint_histogram(truth, labels, self.num_classes)
        scores = dice_per_region(counts, self.regions)
        for score, (label, *_), metric, gain in zip(scores, self.regions, self.dice, self.gain, strict=True):
            metric.update(float(score))
            if self.largest_component:
                gain.update(_dice_of_the_largest(counts, truth, labels, label) - float(score))
        there = scores[~np.isnan(scores)]
        self.mean_dice.update(float(there.mean()) if len(there) else float("nan"))

    def compute(self) -> dict[str, Tensor]:
        """Logged names to values, and start over."""
        found = {"val/dice": self.mean_dice.compute()}
        found |= {f"val/dice/{name}": metric.compute() for name, metric in zip(self.structures, self.dice, strict=True)}
        if self.largest_component:
            gains = zip(self.structures, self.gain, strict=True)
            found |= {f"val/largest_component_gain/{name}": torch.nan_to_num(gain.compute()) for name, gain in gains}
        for metric in (self.mean_dice, *self.dice, *self.gain):
            metric.reset()
        return found


def _dice_of_the_largest(counts: NDArray[np.int64], truth: NDArray[Any], labels: NDArray[Any], structure: int) -> float:
    """Dice of a structure if all but its largest component were background."""
    n_both, n_true, n_predicted = counts[structure, structure], counts[structure].sum(), counts[:, structure].sum()
    found = outside_the_largest(labels, structure)
    if found is not None:
        box, spare = found
        n_both -= np.count_nonzero(truth[box][spare] == structure)
        n_predicted -= np.count_nonzero(spare)
    return float(2 * n_both / (n_true + n_predicted)) if n_true + n_predicted else float("nan")
