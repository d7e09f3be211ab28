"""The views that DINO learns from: boxes cut out of a volume along all three axes, some large and some small, each changed on its own."""

from collections.abc import Sequence
from functools import partial
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
from fuse_examples.imaging.oai_example.data.view import View, change_channels, image_view
from fuse_examples.imaging.oai_example.geometry.crops import draw_crop
from fuse_examples.imaging.oai_example.geometry.maps import Matrix, view_map
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

    def __call__(self, images: Sequence[StoredImage], seed: int, key: SampleKey) -> list[View]:
        """Views of the channels of a volume, still to be made, the global ones first; a function of seed, epoch and row."""
        n_views = self.crops.n_global + self.crops.n_local
        return [self._view(images, generator(seed, key.epoch, key.row, view), view < self.crops.n_global) for view in range(n_views)]

    def _view(self, images: Sequence[StoredImage], rng: np.random.Generator, is_global: bool) -> View:
        size = self.crops.global_size if is_global else self.crops.local_size
        matrix = self._map(images[0], rng, size, is_global)
        draw = draw_intensity(rng, self.augmentation, self.augmentation.blur_std, self.augmentation.shading)
        change = partial(change_channels, apply=apply_intensity, draw=draw)
        return image_view(images, matrix, size, self.preprocessing, finish=change)

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


class PretrainingViews(Dataset[list[Tensor] | list[View]]):
    """The views (C, D, H, W) of one volume per key (epoch, row); validation passes epoch 0, and so the same views each time.

    With `on_device` they are cut out here and made where they are needed.
    """

    def __init__(self, volumes: Sequence[CaseVolumes], multi_crop: MultiCrop, seed: int, *, on_device: bool = False) -> None:
        self.volumes, self.multi_crop, self.seed, self.on_device = tuple(volumes), multi_crop, seed, on_device

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, key: SampleKey) -> list[Tensor] | list[View]:
        views = self.multi_crop(self.volumes[key.row].images(), self.seed, key)
        return [view.cut_out() for view in views] if self.on_device else [view.made() for view in views]


class ViewCollation:
    """Puts the views of several volumes together: {"views": [(B, C, D, H, W) per view], "n_global": int}."""

    def __init__(self, n_global: int) -> None:
        self.n_global = n_global

    def __call__(self, samples: list[list[Tensor]] | list[list[View]]) -> dict[str, Any]:
        """Stack the k-th views of all samples, which have one size; views that are still to be made stay a list."""
        by_number = [list(views) for views in zip(*samples, strict=True)]
        return {"views": [torch.stack(views) if isinstance(views[0], Tensor) else views for views in by_number], "n_global": self.n_global}
