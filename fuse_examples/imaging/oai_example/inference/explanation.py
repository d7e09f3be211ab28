"""Where in a scan a network finds what speaks for its answer: coarse maps, and the way back to the scan's own grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fuse_examples.imaging.oai_example.geometry.maps import Matrix
from fuse_examples.imaging.oai_example.geometry.resampling import resample
from fuse_examples.imaging.oai_example.geometry.volume import Shape
from fuse_examples.imaging.oai_example.models.padding import first_cell_centre, padded_size

MOST_BOXES = 8
"""Occluded boxes along an axis."""
SMALLEST_STEP = 4
"""Voxels between the middles of two boxes, at least."""
_AT_ONCE = 4  # occluded copies of a scan in one batch


@dataclass(frozen=True)
class CoarseMap:
    """Values at evenly spaced places of a network's input.

    Attributes:
        values: (d, h, w) float32.
        first: where the middle of the first cell lies, in voxels of the input, along each axis.
        step: voxels from the middle of a cell to that of the next.
    """

    values: NDArray[np.float32]
    first: tuple[float, float, float]
    step: tuple[float, float, float]

    def on_grid(self, matrix: Matrix, shape: Shape) -> NDArray[np.float32]:
        """Interpolate to the voxels of a scan, (D, H, W).

        Args:
            matrix: (4, 4) map from an index of the network's input to one of the scan.
            shape: voxels of the scan.
        """
        to_cells = np.diag([*(1 / np.array(self.step)), 1.0])
        to_cells[:3, 3] = -np.array(self.first) / self.step
        on_scan: NDArray[np.float32] = resample(self.values, to_cells @ np.linalg.inv(matrix), shape).numpy()
        return on_scan


def grad_cam(deepest: Tensor, evidence: Callable[[Tensor], Tensor], size: Sequence[int], multiple: int) -> CoarseMap:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) on the deepest feature map: what a pooled classifier sees of the image.

    Args:
        deepest: (1, F, d, h, w) map of the image, padded to multiples of `multiple`.
        evidence: such a map to the number, (1,), that says how much speaks for the answer.
        size: the image's (D, H, W).
        multiple: what the network pads sizes to.

    Returns:
        ReLU of the features' sum over channels, each weighted with the mean of its gradient over space.
    """
    with torch.enable_grad():
        cells = deepest.detach().float().requires_grad_(True)
        (gradient,) = torch.autograd.grad(evidence(cells).sum(), cells)
    weighted = (gradient.mean(dim=(2, 3, 4), keepdim=True) * cells).sum(dim=1).relu()
    values = weighted[0].detach().cpu().numpy()
    depth, height, width = (whole / count for whole, count in zip(padded_size(size, multiple), values.shape, strict=True))
    first = [first_cell_centre(length, multiple, step) for length, step in zip(size, (depth, height, width), strict=True)]
    return CoarseMap(values, (first[0], first[1], first[2]), (depth, height, width))


@torch.no_grad()
def occlusion(image: Tensor, evidence: Callable[[Tensor], Tensor]) -> CoarseMap:
    """How much evidence is lost where a box of the image is covered with the image's mean (Zeiler and Fergus 2014, arXiv:1311.2901).

    Boxes are twice as long as the distance of their middles, so that each voxel is covered by eight of them.

    Args:
        image: (1, C, D, H, W).
        evidence: images (B, C, D, H, W) to the numbers, (B,), that say how much speaks for the answer.
    """
    shape = [max(1, min(MOST_BOXES, length // SMALLEST_STEP)) for length in image.shape[2:]]
    step = [length / count for length, count in zip(image.shape[2:], shape, strict=True)]
    whole, mean = float(evidence(image)[0]), image.mean(dim=(2, 3, 4), keepdim=True)[0]
    places = list(product(*(range(count) for count in shape)))
    lost: list[float] = []
    for start in range(0, len(places), _AT_ONCE):
        some = places[start : start + _AT_ONCE]
        covered = image.repeat(len(some), 1, 1, 1, 1)
        for copy, place in zip(covered, some, strict=True):
            copy[(slice(None), *(_box(index, length) for index, length in zip(place, step, strict=True)))] = mean
        lost += (whole - evidence(covered)).tolist()
    values = np.array(lost, dtype=np.float32).reshape(shape)
    return CoarseMap(values, (step[0] / 2 - 0.5, step[1] / 2 - 0.5, step[2] / 2 - 0.5), (step[0], step[1], step[2]))


def _box(index: int, step: float) -> slice:
    return slice(max(0, round((index - 0.5) * step)), round((index + 1.5) * step))
