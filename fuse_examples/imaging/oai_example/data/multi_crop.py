"""The views that DINO learns from: boxes cut out of a volume along all three axes, some large and some small, each changed on its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fuse_examples.imaging.oai_example.configuration.dino_config import CropSettings, ViewAugmentation
from fuse_examples.imaging.oai_example.data.augmentation import apply_intensity, draw_intensity, draw_pose, flippable_axes, generator
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.sampler import SampleKey
from fuse_examples.imaging.oai_example.data.store import StoredImage
from fuse_examples.imaging.oai_example.geometry.crops import draw_crop
from fuse_examples.imaging.oai_example.geometry.maps import Matrix, view_map
from fuse_examples.imaging.oai_example.geometry.resampling import resample
from fuse_examples.imaging.oai_example.geometry.volume import Shape


class MultiCrop:
    """Global and local views of a volume, each one crop, rotation and flip in a single resampling.

    Args:
        crops: numbers, sizes and scales of the views.
        augmentation: random changes of a view.
        preprocessing: axis order and intensity.
    """

    def __init__(self, crops: CropSettings, augmentation: ViewAugmentation, preprocessing: Preprocessing) -> None:
        self.crops, self.augmentation, self.preprocessing = crops, augmentation, preprocessing

    def __call__(self, image: StoredImage, seed: int, key: SampleKey) -> list[Tensor]:
        """Views (1, D, H, W) of a volume, the global ones first; a function of seed, epoch and row."""
        n_views = self.crops.n_global + self.crops.n_local
        return [self._view(image, generator(seed, key.epoch, key.row, view), view < self.crops.n_global) for view in range(n_views)]

    def _view(self, image: StoredImage, rng: np.random.Generator, is_global: bool) -> Tensor:
        size = self.crops.global_size if is_global else self.crops.local_size
        normalise = self.preprocessing.normalisation(image.statistics)
        view = normalise(resample(image.array, self._map(image, rng, size, is_global), size, outside=normalise.background))
        return apply_intensity(view, draw_intensity(rng, self.augmentation, self.augmentation.blur_std))[None]

    def _map(self, image: StoredImage, rng: np.random.Generator, size: Shape, is_global: bool) -> Matrix:
        crops, spacing = self.crops, image.grid.spacing
        box = draw_crop(
            rng,
            image.grid.shape,
            spacing,
            crops.global_scale_in_plane if is_global else crops.local_scale_in_plane,
            crops.global_scale_through_plane if is_global else crops.local_scale_through_plane,
            through_plane=self._through_plane(),
        )
        pose = draw_pose(rng, self.augmentation, self.preprocessing.orientation)
        centre = np.array(box.start) + np.array(box.size) / 2
        return view_map(centre, np.array(box.size) * spacing, size, spacing, pose.rotation, pose.scale, pose.flips)

    def _through_plane(self) -> int | None:
        """Array axis of the configured stacking direction; None leaves it to the spacing."""
        if self.crops.through_plane_axis is None:
            return None
        return flippable_axes([self.crops.through_plane_axis], self.preprocessing.orientation).index(True)


class PretrainingViews(Dataset[list[Tensor]]):
    """The views of one volume per key (epoch, row); validation passes epoch 0, and so the same views each time."""

    def __init__(self, volumes: Sequence[CaseVolumes], multi_crop: MultiCrop, seed: int) -> None:
        self.volumes, self.multi_crop, self.seed = tuple(volumes), multi_crop, seed

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, key: SampleKey) -> list[Tensor]:
        return self.multi_crop(self.volumes[key.row].image(), self.seed, key)


class ViewCollation:
    """Puts the views of several volumes together: {"views": [(B, 1, D, H, W) per view], "n_global": int}."""

    def __init__(self, n_global: int) -> None:
        self.n_global = n_global

    def __call__(self, samples: list[list[Tensor]]) -> dict[str, Any]:
        """Stack the k-th views of all samples, which have one size."""
        return {"views": [torch.stack(views) for views in zip(*samples, strict=True)], "n_global": self.n_global}
