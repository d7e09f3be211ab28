"""Segmentation samples: augmented views for training, whole cases on their own grid for evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from fuse_examples.imaging.oai_example.configuration.segmentation_augmentation import SegmentationAugmentation
from fuse_examples.imaging.oai_example.data.augmentation import (
    draw_pose,
    exchange_labels,
    generator,
    mirrors_sides,
)
from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.sampler import SampleKey
from fuse_examples.imaging.oai_example.data.segmentation_augmentation import apply_grey, draw_elastic, draw_grey, elastic_field
from fuse_examples.imaging.oai_example.data.store import StoredImage, StoredMask
from fuse_examples.imaging.oai_example.data.view import View, change_channels, image_view
from fuse_examples.imaging.oai_example.geometry.maps import Matrix, view_map
from fuse_examples.imaging.oai_example.geometry.volume import Grid


class SegmentationTrainingViews(Dataset[dict[str, Tensor | View]]):
    """One augmented view of image and mask per key (epoch, row).

    Row r is view r // n of case r % n: `patches_per_case` views of each of n cases make an epoch. Of patches, `foreground_share` are
    centred on a random voxel of a random structure (a third in nnU-Net, Isensee et al., Nat Methods 2021).

    Items: {"image": (C, D, H, W) float32, "mask": (D, H, W) int64}.
    """

    def __init__(
        self,
        volumes: Sequence[CaseVolumes],
        preprocessing: Preprocessing,
        augmentation: SegmentationAugmentation,
        label_pairs: Sequence[tuple[int, int]],
        patches_per_case: int,
        seed: int,
        foreground_share: float = 0.33,
        *,
        on_device: bool = False,
    ) -> None:
        self.volumes = tuple(volumes)
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.label_pairs = tuple(label_pairs)
        self.patches_per_case = patches_per_case
        self.seed = seed
        self.foreground_share = foreground_share
        self.on_device = on_device

    def __len__(self) -> int:
        return len(self.volumes) * self.patches_per_case

    def __getitem__(self, key: SampleKey) -> dict[str, Tensor | View]:
        epoch, row = key.epoch, key.row
        rng = generator(self.seed, epoch, row)
        volumes = self.volumes[row % len(self.volumes)]
        images, mask = volumes.images(), volumes.mask()
        image = images[0]
        orientation = self.preprocessing.orientation
        pose = draw_pose(rng, self.augmentation, orientation, self.augmentation.scale_range)
        size = self.preprocessing.network_size
        centre, extent = self._box(rng, image, mask)
        matrix = view_map(centre, extent, size, image.grid.spacing, pose.rotation, pose.scale, pose.flips)
        points = draw_elastic(rng, self.augmentation, extent * pose.scale)
        field = None if points is None else elastic_field(points, size, image.grid.spacing)
        change = partial(change_channels, apply=apply_grey, draw=draw_grey(rng, self.augmentation))
        pairs = self.label_pairs if mirrors_sides(pose, orientation) else ()
        views = {
            "image": image_view(images, matrix, size, self.preprocessing, field, change),
            "mask": View((mask.array,), matrix, size, displacement=field, finish=partial(_labels, pairs=pairs)),
        }
        return {name: view.cut_out() if self.on_device else view.made() for name, view in views.items()}

    def _box(self, rng: np.random.Generator, image: StoredImage, mask: StoredMask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centre in the volume's edge coordinates, and extent in mm, of the whole volume or of a patch."""
        grid = image.grid
        if self.preprocessing.spacing is None:
            return np.array(grid.shape) / 2, np.array(grid.shape) * grid.spacing
        extent = np.array(self.preprocessing.network_size) * self.preprocessing.spacing
        return _patch_centre(rng, grid, extent, mask, self.foreground_share), extent


def _labels(view: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """(1, D, H, W) as it was sampled to (D, H, W) labels."""
    labels = view[0].long()
    return exchange_labels(labels, pairs) if pairs else labels


def _patch_centre(
    rng: np.random.Generator, grid: Grid, extent: NDArray[np.float64], mask: StoredMask, foreground_share: float
) -> NDArray[np.float64]:
    """A share of the patches around a random voxel of a random structure, the rest anywhere inside the volume; edge coordinates."""
    on_structure, where = rng.random() < foreground_share, rng.random(3)
    half = np.minimum(extent / np.array(grid.spacing), grid.shape) / 2
    centre: NDArray[np.float64] = half + where * (np.array(grid.shape) - 2 * half)
    if on_structure and mask.foreground:
        samples = mask.foreground[int(rng.choice(sorted(mask.foreground)))]
        centre = np.clip(samples[rng.integers(len(samples))] + 0.5, half, np.array(grid.shape) - half)
    return centre


@dataclass(frozen=True)
class EvaluationCase:
    """One whole case: what the network sees, and what is needed to bring its prediction back.

    Attributes:
        case: the CSV row.
        image: (C, d, h, w) network input, normalised.
        matrix: (4, 4) map from an index of `image` to one of the volume.
        grid: the volume in the network's axis order.
        source: the grid of the input file, on which the prediction is scored and written.
        mask: (D, H, W) true labels on `grid`, or None.
    """

    case: Case
    image: Tensor
    matrix: Matrix
    grid: Grid
    source: Grid
    mask: NDArray[Any] | None

    def to(self, device: torch.device, non_blocking: bool = False) -> "EvaluationCase":
        """The same case with its image on `device`; called by Lightning."""
        return replace(self, image=self.image.to(device, non_blocking=non_blocking))


class EvaluationCases(Dataset[EvaluationCase]):
    """Whole cases, without augmentation, in the order of the CSV."""

    def __init__(self, volumes: Sequence[CaseVolumes], preprocessing: Preprocessing) -> None:
        self.volumes = tuple(volumes)
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, key: SampleKey) -> EvaluationCase:
        volumes = self.volumes[key.row]
        images = volumes.images()
        image = images[0]
        matrix, shape = self.preprocessing.whole_view(image.grid)
        view = image_view(images, matrix, shape, self.preprocessing).made()
        mask = volumes.mask().array if volumes.case.mask is not None else None
        return EvaluationCase(volumes.case, view, matrix, image.grid, image.source, mask)
