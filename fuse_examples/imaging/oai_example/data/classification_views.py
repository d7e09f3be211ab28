"""Classification samples: whole volumes at one size, augmented in training, with a label per target."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from fuse_examples.imaging.oai_example.configuration.blocks import VolumeAugmentation
from fuse_examples.imaging.oai_example.data.augmentation import NO_POSE, apply_intensity, draw_intensity, draw_pose, generator
from fuse_examples.imaging.oai_example.data.class_index import MISSING, ClassIndex
from fuse_examples.imaging.oai_example.data.covariates import Covariates
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.sampler import SampleKey
from fuse_examples.imaging.oai_example.data.targets import LearnedTarget
from fuse_examples.imaging.oai_example.data.view import View, change_channels, image_view
from fuse_examples.imaging.oai_example.geometry.maps import view_map


class LabelledVolumes(Dataset[dict[str, Any]]):
    """Whole volumes with their labels.

    Items: {"image": (C, D, H, W) float32, "labels": {target: index, or -1; a number, or NaN}, "row": position in `volumes`},
    and "covariates": (n,) float32 where there are any.

    Args:
        volumes: the cases.
        preprocessing: with `resize_to`.
        classes: one per target; none for images alone.
        augmentation: None for evaluation.
        seed: the run's seed.
        covariates: columns that the network sees as well.
        on_device: images are cut out here, and made where they are needed.
    """

    def __init__(
        self,
        volumes: Sequence[CaseVolumes],
        preprocessing: Preprocessing,
        classes: Sequence[LearnedTarget] = (),
        augmentation: VolumeAugmentation | None = None,
        seed: int = 0,
        covariates: Covariates | None = None,
        *,
        on_device: bool = False,
    ) -> None:
        self.volumes, self.preprocessing, self.classes = tuple(volumes), preprocessing, tuple(classes)
        self.augmentation, self.seed, self.covariates = augmentation, seed, covariates or Covariates()
        self.on_device = on_device

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        volumes = self.volumes[key.row]
        labels = {index.target: index.label(volumes.case) for index in self.classes}
        view = self._view(volumes, key)
        item = {"image": view.cut_out() if self.on_device else view.made(), "labels": labels, "row": key.row}
        return item | {"covariates": self.covariates.encode(volumes.case)} if self.covariates.columns else item

    def _view(self, volumes: CaseVolumes, key: SampleKey) -> View:
        images, size = volumes.images(), self.preprocessing.network_size
        grid = images[0].grid
        rng = generator(self.seed, key.epoch, key.row, key.repeat)
        pose = NO_POSE
        if self.augmentation is not None:
            pose = draw_pose(rng, self.augmentation, self.preprocessing.orientation, self.augmentation.scale_range)
        shape, spacing = np.array(grid.shape), grid.spacing
        matrix = view_map(shape / 2, shape * spacing, size, spacing, pose.rotation, pose.scale, pose.flips)
        change = None
        if self.augmentation is not None:
            change = partial(change_channels, apply=apply_intensity, draw=draw_intensity(rng, self.augmentation))
        return image_view(images, matrix, size, self.preprocessing, finish=change)


def balanced_weights(index: ClassIndex) -> Tensor:
    """Weight of each class, (K,): n / (K * n_k), so that all classes count alike (King & Zeng 2001, as in scikit-learn's "balanced")."""
    counts = torch.tensor(index.counts, dtype=torch.float32)
    return counts.sum() / (len(counts) * counts)


def balanced_sampling(volumes: Sequence[CaseVolumes], index: ClassIndex) -> NDArray[np.float64]:
    """Chance of each case, (n,), so that every class of `index` is drawn equally often; cases without a class as often as there are."""
    labels = np.array([index.label(one.case) for one in volumes])
    known = labels != MISSING
    counts = np.bincount(labels[known], minlength=len(index.classes))
    chances = np.full(len(labels), 1 / len(labels))
    chances[known] = known.mean() / (np.count_nonzero(counts) * counts[labels[known]])
    return chances
