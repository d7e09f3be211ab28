"""Random changes of a view: drawn in one place from (seed, epoch, row, view), applied in another.

A draw never depends on a worker's state, so a run gives the same views with any number of workers, and a resumed run the views it would
have had.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fuse_examples.imaging.oai_example.configuration.blocks import AugmentationSettings
from fuse_examples.imaging.oai_example.geometry.maps import rotation_matrix

N_SHADING = 9
"""Coefficients of `shade`."""
_AXIS_OF_FLIP = {"left_right": "RL", "posterior_anterior": "AP", "inferior_superior": "SI"}


@dataclass(frozen=True)
class SpatialDraw:
    """One random pose: a (3, 3) rotation in millimetres, a scale (above 1 the view covers more), and the axes that are mirrored."""

    rotation: NDArray[np.float64]
    scale: float
    flips: tuple[bool, bool, bool]


@dataclass(frozen=True)
class IntensityDraw:
    """One random change of grey values at the output's size.

    Attributes:
        gamma: exponent.
        noise_std: deviation of Gaussian noise, drawn from `noise_seed`.
        noise_seed: a seed of its own, so that few numbers are drawn here.
        blur_std: deviation of a Gaussian blur, in voxels of the view.
        shading: coefficients of `shade`, or none.
    """

    gamma: float
    noise_std: float
    noise_seed: int
    blur_std: float = 0.0
    shading: tuple[float, ...] = ()


NO_POSE = SpatialDraw(np.eye(3), 1.0, (False, False, False))


def generator(seed: int, epoch: int, row: int, view: int = 0) -> np.random.Generator:
    """The random numbers of one view."""
    return np.random.default_rng((seed, epoch, row, view))


def draw_pose(
    rng: np.random.Generator, settings: AugmentationSettings, orientation: str, magnification: tuple[float, float] = (1.0, 1.0)
) -> SpatialDraw:
    """Rotation and magnification with the settings' probability each; a flip of each allowed axis with probability one half.

    Args:
        rng: the view's generator.
        settings: rotation in degrees (each angle uniform in plus-minus) and allowed flips.
        orientation: axis codes of the arrays, to find the axis of a named flip.
        magnification: smallest and largest; drawn so that a structure is as often twice as large as half as large.
    """
    angles = np.deg2rad(rng.uniform(-settings.rotation_degrees, settings.rotation_degrees, 3)).tolist()
    scale = float(np.exp(-rng.uniform(*np.log(magnification))))
    rotate, rescale = rng.random(2) < settings.probability
    mirrored = rng.random(3) < 0.5
    allowed = flippable_axes(settings.flip_axes, orientation)
    flips = (bool(mirrored[0] and allowed[0]), bool(mirrored[1] and allowed[1]), bool(mirrored[2] and allowed[2]))
    return SpatialDraw(rotation_matrix(angles) if rotate else np.eye(3), scale if rescale else 1.0, flips)


def flippable_axes(names: Sequence[str], orientation: str) -> tuple[bool, bool, bool]:
    """Which array axes the named flips concern, for arrays with these axis codes."""
    letters = "".join(_AXIS_OF_FLIP[name] for name in names)
    return orientation[0] in letters, orientation[1] in letters, orientation[2] in letters


def mirrors_sides(draw: SpatialDraw, orientation: str) -> bool:
    """Whether left and right are exchanged, so that labels that name them must be exchanged too."""
    return any(flip and code in "RL" for flip, code in zip(draw.flips, orientation, strict=True))


def draw_intensity(rng: np.random.Generator, settings: AugmentationSettings, blur_std: float = 0.0, shading: float = 0.0) -> IntensityDraw:
    """Gamma (log-uniform in its range), noise, blur and shading, each with the settings' probability.

    Args:
        rng: the view's generator.
        settings: gamma, noise, probability.
        blur_std: largest deviation; it is uniform up to there, as that of noise.
        shading: largest coefficient of `shade`; each is uniform in plus-minus.
    """
    low, high = np.log(settings.gamma_range)
    gamma, noise = float(np.exp(rng.uniform(low, high))), float(rng.uniform(0, settings.noise_std))
    blur = float(rng.uniform(0, blur_std))
    with_gamma, with_noise, with_blur = rng.random(3) < settings.probability
    seed = int(rng.integers(2**62))
    # Drawn last, so that everything else is as without it.
    with_shading = shading > 0 and rng.random() < settings.probability
    coefficients = tuple(rng.uniform(-shading, shading, N_SHADING).tolist()) if with_shading else ()
    return IntensityDraw(gamma if with_gamma else 1.0, noise if with_noise else 0.0, seed, blur if with_blur else 0.0, coefficients)


def apply_intensity(view: Tensor, draw: IntensityDraw) -> Tensor:
    """Change a normalised view (D, H, W). Shading and gamma act on the view's own range, so that they also suit z-scores."""
    if draw.shading:
        view = shade(view, draw.shading)
    if draw.blur_std > 0:
        view = gaussian_blur(view, draw.blur_std)
    if draw.gamma != 1.0:
        low, high = view.aminmax()
        span = (high - low).clamp_min(1e-6)
        # The power by way of the logarithm: half of the time of `pow`; 0 stays 0.
        view = ((view - low) / span).log_().mul_(draw.gamma).exp_().mul_(span).add_(low)
    if draw.noise_std > 0:
        noise = torch.randn(view.shape, generator=torch.Generator(view.device).manual_seed(draw.noise_seed), device=view.device)
        view = noise.mul_(draw.noise_std).add_(view)
    return view


def shade(view: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Multiply (D, H, W), above its smallest value, by the exponential of a polynomial of second degree, scaled to mean 1.

    This is how the sensitivity of a coil varies over a field of view (Van Leemput et al. 1999, IEEE Trans Med Imaging 18:885).

    Args:
        view: the image.
        coefficients: of x, y, z, x², y², z², yz, xz, xy, with x, y and z from -1 to 1 along the three axes.
    """
    x, y, z = (
        torch.linspace(-1, 1, n, device=view.device).reshape([-1 if axis == own else 1 for axis in range(3)])
        for own, n in enumerate(view.shape)
    )
    terms = (x, y, z, x * x, y * y, z * z, y * z, x * z, x * y)
    field = sum(coefficient * term for coefficient, term in zip(coefficients, terms, strict=True))
    factor = torch.as_tensor(field).exp()
    low = view.min()
    return (view - low).mul_(factor / factor.mean()).add_(low)


def gaussian_blur(view: Tensor, std: float) -> Tensor:
    """Blur (D, H, W) along each axis with a Gaussian of `std` voxels, cut off at three of them; edges are repeated."""
    reach = max(1, int(np.ceil(3 * std)))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / std) ** 2)
    weights: list[float] = (kernel / kernel.sum()).tolist()
    for axis in range(3):  # sums of shifted views: a tenth of the time of a convolution with one channel
        padding = [0] * 6
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = reach
        padded = F.pad(view[None, None], padding, mode="replicate")[0, 0]
        length = view.shape[axis]
        view = padded.narrow(axis, reach, length) * weights[reach]
        for shift in (*range(reach), *range(reach + 1, 2 * reach + 1)):
            view.add_(padded.narrow(axis, shift, length), alpha=weights[shift])
    return view


def exchange_labels(mask: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Swap the labels of each pair, as a left-right flip requires where labels name the side."""
    exchanged = mask.clone()
    for one, other in pairs:
        exchanged[mask == one] = other
        exchanged[mask == other] = one
    return exchanged
