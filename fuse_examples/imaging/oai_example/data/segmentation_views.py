"""Segmentation samples: augmented views for training, whole cases on their own grid for evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from fuse_examples.imaging.oai_example.configuration.blocks import VolumeAugmentation
from fuse_examples.imaging.oai_example.data.augmentation import (
    SpatialDraw,
    apply_intensity,
    draw_intensity,
    draw_pose,
    exchange_labels,
    generator,
    mirrors_sides,
)
from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.sampler import SampleKey
from fuse_examples.imaging.oai_example.data.store import StoredImage, StoredMask
from fuse_examples.imaging.oai_example.geometry.maps import Matrix, view_map
from fuse_examples.imaging.oai_example.geometry.resampling import resample
from fuse_examples.imaging.oai_example.geometry.volume import Grid

_FOREGROUND_SHARE = 1 / 3  # of patches centred on a voxel of a structure, as in nnU-Net (Isensee 2021)


class SegmentationTrainingViews(Dataset[dict[str, Tensor]]):
    """One augmented view of image and mask per key (epoch, row).

    Row r is view r // n of case r % n: `patches_per_case` views of each of n cases make an epoch.

    Items: {"image": (1, D, H, W) float32, "mask": (D, H, W) int64}.
    """

    def __init__(
        self,
        volumes: Sequence[CaseVolumes],
        preprocessing: Preprocessing,
        augmentation: VolumeAugmentation,
        label_pairs: Sequence[tuple[int, int]],
        patches_per_case: int,
        seed: int,
    ) -> None:
        self.volumes = tuple(volumes)
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.label_pairs = tuple(label_pairs)
        self.patches_per_case = patches_per_case
        self.seed = seed

    def __len__(self) -> int:
        return len(self.volumes) * self.patches_per_case

    def __getitem__(self, key: SampleKey) -> dict[str, Tensor]:
        epoch, row = key
        rng = generator(self.seed, epoch, row)
        volumes = self.volumes[row % len(self.volumes)]
        image, mask = volumes.image(), volumes.mask()
        orientation = self.preprocessing.orientation
        pose = draw_pose(rng, self.augmentation, orientation, self.augmentation.scale_range)
        matrix = self._map(rng, image, mask, pose)
        size = self.preprocessing.network_size
        normalise = self.preprocessing.normalisation(image.statistics)
        view = normalise(resample(image.array, matrix, size, outside=normalise.background))
        labels = resample(mask.array, matrix, size, mode="nearest").long()
        if self.label_pairs and mirrors_sides(pose, orientation):
            labels = exchange_labels(labels, self.label_pairs)
        return {"image": apply_intensity(view, draw_intensity(rng, self.augmentation))[None], "mask": labels}

    def _map(self, rng: np.random.Generator, image: StoredImage, mask: StoredMask, pose: SpatialDraw) -> Matrix:
        grid, size = image.grid, self.preprocessing.network_size
        if self.preprocessing.spacing is None:
            centre, extent = np.array(grid.shape) / 2, np.array(grid.shape) * grid.spacing
        else:
            extent = np.array(size) * self.preprocessing.spacing
            centre = _patch_centre(rng, grid, extent, mask)
        return view_map(centre, extent, size, grid.spacing, pose.rotation, pose.scale, pose.flips)


def _patch_centre(rng: np.random.Generator, grid: Grid, extent: NDArray[np.float64], mask: StoredMask) -> NDArray[np.float64]:
    """A third of the patches around a random voxel of a random structure, the rest anywhere inside the volume; edge coordinates."""
    on_structure, where = rng.random() < _FOREGROUND_SHARE, rng.random(3)
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
        image: (1, d, h, w) network input, normalised.
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
        image = volumes.image()
        matrix, shape = self.preprocessing.whole_view(image.grid)
        normalise = self.preprocessing.normalisation(image.statistics)
        view = normalise(resample(image.array, matrix, shape, outside=normalise.background))
        mask = volumes.mask().array if volumes.case.mask is not None else None
        return EvaluationCase(volumes.case, view[None], matrix, image.grid, image.source, mask)
