"""A view that was drawn and is still to be made: here and now, or on the device that trains.

A worker draws and cuts out, which is cheap; the making can wait until the voxels are on a GPU. Both ways run the same code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import default_collate

from fuse_examples.imaging.oai_example.data.intensity import Normalisation
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.store import StoredImage
from fuse_examples.imaging.oai_example.geometry.maps import Matrix
from fuse_examples.imaging.oai_example.geometry.resampling import Mode, needed_part, resample
from fuse_examples.imaging.oai_example.geometry.volume import Shape


class _Seeded(Protocol):
    @property
    def noise_seed(self) -> int: ...


Draw = TypeVar("Draw", bound=_Seeded)


@dataclass(frozen=True)
class View:
    """Everything that one view is made from.

    Attributes:
        channels: a (D, H, W) array for each channel: memory maps, or the part that the view needs.
        matrix: (4, 4) map from the view's indices to those of `channels`.
        size: voxels of the view.
        normalisations: one for each channel; none for labels, which are sampled by the nearest voxel.
        displacement: (3, *size) elastic field in voxels of `channels`, or None.
        finish: what is done at the view's size, with (C, D, H, W); it can be pickled.
    """

    channels: tuple[NDArray[Any] | Tensor, ...]
    matrix: Matrix
    size: Shape
    normalisations: tuple[Normalisation, ...] = ()
    displacement: Tensor | None = None
    finish: Callable[[Tensor], Tensor] | None = None

    @property
    def _mode(self) -> Mode:
        return "linear" if self.normalisations else "nearest"

    def made(self) -> Tensor:
        """The view, (C, D, H, W) float32 on the device of the channels, or what `finish` makes of it."""
        views = []
        for number, channel in enumerate(self.channels):
            normalise = self.normalisations[number] if self.normalisations else None
            outside = normalise.background if normalise else 0.0
            view = resample(channel, self.matrix, self.size, self._mode, outside, self.displacement)
            views.append(normalise(view) if normalise else view)
        together = torch.stack(views) if len(views) > 1 else views[0][None]
        return together if self.finish is None else self.finish(together)

    def cut_out(self) -> "View":
        """The same view of copies of the voxels that it needs, in their number type: what is sent to a device."""
        box, matrix = needed_part(self.channels[0].shape, self.matrix, self.size, self._mode, self.displacement)
        parts = tuple(torch.from_numpy(np.array(channel[box])) for channel in self.channels)
        return replace(self, channels=parts, matrix=matrix)

    def to(self, device: torch.device, non_blocking: bool = False) -> "View":
        """The same view of voxels on `device`; called by Lightning."""
        parts = tuple(torch.as_tensor(channel).to(device, non_blocking=non_blocking) for channel in self.channels)
        field = None if self.displacement is None else self.displacement.to(device, non_blocking=non_blocking)
        return replace(self, channels=parts, displacement=field)


def image_view(
    images: Sequence[StoredImage],
    matrix: Matrix,
    size: Shape,
    preprocessing: Preprocessing,
    displacement: Tensor | None = None,
    finish: Callable[[Tensor], Tensor] | None = None,
) -> View:
    """A view of the channels of a case, each normalised by its own statistics."""
    normalisations = tuple(preprocessing.normalisation(image.statistics) for image in images)
    return View(tuple(image.array for image in images), matrix, size, normalisations, displacement, finish)


def change_channels(view: Tensor, apply: Callable[[Tensor, Draw], Tensor], draw: Draw) -> Tensor:
    """Change each channel of (C, D, H, W) by the same draw, with noise of its own."""
    changed = [apply(channel, replace(draw, noise_seed=draw.noise_seed + n)) for n, channel in enumerate(view)]  # type: ignore[type-var]  # draws are dataclasses
    return torch.stack(changed) if len(changed) > 1 else changed[0][None]


def make_views(batch: Any) -> Any:
    """A batch whose lists of views have become tensors; everything else stays as it is."""
    if isinstance(batch, dict):
        return {key: make_views(value) for key, value in batch.items()}
    if isinstance(batch, list):
        return torch.stack([view.made() for view in batch]) if batch and isinstance(batch[0], View) else [make_views(one) for one in batch]
    return batch


def collate_with_views(items: list[dict[str, Any]]) -> dict[str, Any]:
    """As PyTorch collates, but views stay a list."""
    return {
        key: [item[key] for item in items] if isinstance(first, View) else default_collate([item[key] for item in items])
        for key, first in items[0].items()
    }
