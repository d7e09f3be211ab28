"""How the earlier OAI example made the views of a scan, kept to compare with: from its description, with its steps in its order.

Files in the order of their names; the whole volume to float64 with percentiles over all voxels; for each view a deep copy, a crop in the
slice, rotations about the three axes one after the other, flips and noise, all at full resolution; at last a zoom to the view's size.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from scipy import ndimage

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class ViewDraw:
    """The random numbers of one view, the same for every way of making it.

    Attributes:
        size: voxels of the view.
        start, edge: the crop along each axis, in voxels.
        angles: degrees about each axis; 0 where the chance of one half fell out against the rotation.
        flips: axes that run backwards.
        noise_std: deviation of the noise, in units of the normalised intensity; 0 for none.
        seed: of the noise.
    """

    size: Shape
    start: Shape
    edge: Shape
    angles: tuple[float, float, float]
    flips: tuple[bool, bool, bool]
    noise_std: float
    seed: int


def load(folder: Path) -> NDArray[np.int16]:
    return np.stack([pydicom.dcmread(file).pixel_array for file in sorted(folder.iterdir())])


def normalise(volume: NDArray[np.int16]) -> NDArray[np.float64]:
    low, high = np.percentile(volume, (0.5, 99.5))
    clipped = np.clip(volume, low, high)
    return (clipped - clipped.min()) / (clipped.max() - clipped.min())


def view_of(view: NDArray[np.float64], draw: ViewDraw) -> NDArray[np.float32]:
    view = view[tuple(slice(start, start + edge) for start, edge in zip(draw.start, draw.edge, strict=True))]
    for axis, angle in enumerate(draw.angles):
        if angle:
            view = ndimage.rotate(view, angle, ((axis + 1) % 3, (axis + 2) % 3), reshape=False, order=1)
    for axis, flip in enumerate(draw.flips):
        if flip:
            view = np.flip(view, axis)
    if draw.noise_std:
        view = view + np.random.default_rng(draw.seed).normal(0, draw.noise_std, view.shape)
    return ndimage.zoom(view, np.array(draw.size) / view.shape, order=1).astype(np.float32)


def views_from_dicom(folder: Path, draws: list[ViewDraw]) -> list[NDArray[np.float32]]:
    volume = normalise(load(folder))
    copies = [copy.deepcopy(volume) for _ in draws]
    return [view_of(each, draw) for each, draw in zip(copies, draws, strict=True)]
