"""Random changes of a segmentation view beyond its pose: an elastic field, and grey values as a scanner might have given them.

The kinds and their order are those of nnU-Net (Isensee et al., Nat Methods 2021): noise, blur, brightness, contrast, low resolution,
gamma. Everything is drawn in one place and applied in another; the elastic field goes into the one resampling, for image and mask alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fuse_examples.imaging.oai_example.configuration.segmentation_augmentation import SegmentationAugmentation
from fuse_examples.imaging.oai_example.data.augmentation import gaussian_blur


@dataclass(frozen=True)
class GreyDraw:
    """One random change of grey values; the defaults change nothing.

    Attributes:
        noise_std: deviation of Gaussian noise, drawn from `noise_seed`.
        blur_std: deviation of a Gaussian blur, in voxels of the view.
        brightness: factor of all values.
        contrast: factor of the distances from the mean.
        zoom: size, relative to the view, that it is reduced to and enlarged from again.
        gamma: exponent of a curve over the view's own range.
        inverted: whether the curve acts on the negative, so that it bends the bright end.
    """

    noise_std: float = 0.0
    noise_seed: int = 0
    blur_std: float = 0.0
    brightness: float = 1.0
    contrast: float = 1.0
    zoom: float = 1.0
    gamma: float = 1.0
    inverted: bool = False


def draw_elastic(rng: np.random.Generator, settings: SegmentationAugmentation, extent: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Displacements in mm at control points that cover a view of `extent` mm, (3, d, h, w); None where there are none.

    Each is uniform in plus-minus `elastic_mm`, but at most a sixth of the points' distance, with which the map cannot fold: no derivative
    of the displacement then reaches 1/3, nor its matrix of nine the norm 1. Points are `elastic_spacing_mm` apart, or a little more.
    """
    seed, chance = int(rng.integers(2**62)), rng.random()
    if settings.elastic_mm == 0 or chance >= settings.probability:
        return None
    points = np.maximum(np.floor(extent / settings.elastic_spacing_mm).astype(int), 1) + 1
    largest = min(settings.elastic_mm, float((extent / (points - 1)).min()) / 6)
    return np.random.default_rng(seed).uniform(-largest, largest, (3, *points)).astype(np.float32)


def elastic_field(points: NDArray[np.float32], output_shape: Sequence[int], spacing: Sequence[float]) -> Tensor:
    """The displacement of each voxel of a view, in voxels of the input, for `resample`: (3, *output_shape).

    Args:
        points: displacements in mm at points from the first to the last voxel of the view, along the input's axes.
        output_shape: voxels of the view.
        spacing: voxel size of the input in mm.
    """
    field = F.interpolate(torch.from_numpy(points)[None], size=tuple(output_shape), mode="trilinear", align_corners=True)[0]
    return field / torch.tensor(spacing, dtype=torch.float32)[:, None, None, None]


def draw_grey(rng: np.random.Generator, settings: SegmentationAugmentation) -> GreyDraw:
    """Each change with the settings' probability; how many numbers are drawn does not depend on what comes of them."""
    values = rng.random(6)
    happens = rng.random(6) < settings.probability
    inverted = bool(rng.random() < settings.gamma_inverted)
    seed = int(rng.integers(2**62))
    noise, blur, brightness, contrast, zoom, gamma = (float(value) for value in values)
    return GreyDraw(
        noise_std=noise * settings.noise_std if happens[0] else 0.0,
        noise_seed=seed,
        blur_std=blur * settings.blur_std if happens[1] else 0.0,
        brightness=_log_uniform(settings.brightness_range, brightness) if happens[2] else 1.0,
        contrast=_log_uniform(settings.contrast_range, contrast) if happens[3] else 1.0,
        zoom=1.0 - zoom * (1.0 - settings.lowest_resolution) if happens[4] else 1.0,
        gamma=_log_uniform(settings.gamma_range, gamma) if happens[5] else 1.0,
        inverted=inverted,
    )


def apply_grey(view: Tensor, draw: GreyDraw) -> Tensor:
    """Change a normalised view (D, H, W)."""
    if draw.noise_std > 0:
        noise = torch.randn(view.shape, generator=torch.Generator(view.device).manual_seed(draw.noise_seed), device=view.device)
        view = view + noise * draw.noise_std
    if draw.blur_std > 0:
        view = gaussian_blur(view, draw.blur_std)
    if draw.brightness != 1.0:
        view = view * draw.brightness
    if draw.contrast != 1.0:
        low, high = view.aminmax()
        mean = view.mean()
        view = ((view - mean) * draw.contrast + mean).clamp(low, high)
    if draw.zoom < 1.0:
        view = _at_low_resolution(view, draw.zoom)
    if draw.gamma != 1.0:
        view = -_gamma(-view, draw.gamma) if draw.inverted else _gamma(view, draw.gamma)
    return view


def _at_low_resolution(view: Tensor, zoom: float) -> Tensor:
    """What a scanner with larger voxels would have seen: averaged over area, and enlarged linearly."""
    size = [max(1, round(length * zoom)) for length in view.shape]
    small = F.interpolate(view[None, None], size=size, mode="area")
    return F.interpolate(small, size=tuple(view.shape), mode="trilinear", align_corners=False)[0, 0]


def _gamma(view: Tensor, exponent: float) -> Tensor:
    low, high = view.aminmax()
    span = (high - low).clamp_min(1e-6)
    return ((view - low) / span).pow(exponent) * span + low


def _log_uniform(bounds: tuple[float, float], draw: float) -> float:
    low, high = np.log(bounds)
    return float(np.exp(low + draw * (high - low)))
