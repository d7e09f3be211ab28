"""The masks of pre-training: which cells of a volume's global views the student does not see, a function of (seed, epoch, row, view)."""

from collections.abc import Sequence
from math import floor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from fuse_examples.imaging.oai_example.configuration.dino_config import MaskingSettings
from fuse_examples.imaging.oai_example.data.multi_crop import PretrainingViews, ViewCollation
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.sampler import SampleKey
from fuse_examples.imaging.oai_example.data.view import View

_CHOICE, _BLOCKS = 1, 2  # streams of random numbers beside the one that a view itself is drawn from


class Masking:
    """Draws the masks of the global views of one volume.

    Of each volume's global views `share_of_views` are masked: with a share of 0.5, one of two, whichever the draw says. So each batch
    has views of both kinds, which is what normalisation statistics need; where the share is no whole number of views, chance decides
    on the rest.

    Args:
        settings: how many views, and how much of them.
        n_global: global views of a volume.
        grid: cells (d, h, w) of the deepest feature map of such a view.
    """

    def __init__(self, settings: MaskingSettings, n_global: int, grid: Sequence[int]) -> None:
        self.settings, self.n_global, self.grid = settings, n_global, tuple(grid)

    def __call__(self, seed: int, key: SampleKey) -> Tensor:
        """(n_global, d, h, w), True where a cell is masked; nothing of a view that is not."""
        rng = np.random.default_rng((seed, key.epoch, key.row, 0, _CHOICE))
        n_masked = floor(self.settings.share_of_views * self.n_global + rng.random())
        masks = np.zeros((self.n_global, *self.grid), dtype=bool)
        for view in rng.permutation(self.n_global)[:n_masked]:
            of_view = np.random.default_rng((seed, key.epoch, key.row, int(view), _BLOCKS))
            masks[view] = draw_mask(of_view, self.grid, self.settings.ratio, self.settings.block_cells)
        return torch.from_numpy(masks)


def draw_mask(rng: np.random.Generator, grid: Sequence[int], ratio: tuple[float, float], block_cells: tuple[int, int]) -> NDArray[np.bool_]:
    """Blocks of whole cells, until their share is a ratio drawn from a range; at least one cell is masked and one is not.

    Each edge of a block is drawn for itself. A block may hang over the border and is cut there, so that every cell is as likely to be
    masked as any other; of the last one chance leaves out as many cells as meet the ratio.

    Args:
        rng: the view's random numbers.
        grid: (d, h, w), two cells or more in all.
        ratio: smallest and largest share of masked cells.
        block_cells: shortest and longest edge of a block.
    """
    n_cells = int(np.prod(grid))
    wanted = min(max(round(rng.uniform(*ratio) * n_cells), 1), n_cells - 1)
    mask, count = np.zeros(tuple(grid), dtype=bool), 0
    while count < wanted:
        edges = np.minimum(rng.integers(block_cells[0], block_cells[1] + 1, size=3), grid)
        starts = rng.integers(1 - edges, grid)
        block = np.zeros_like(mask)
        block[tuple(slice(max(start, 0), start + edge) for start, edge in zip(starts, edges, strict=True))] = True
        # In a drawn order: cut off in the order of the array, cells at its end would be masked less often.
        new = rng.permutation(np.flatnonzero(block & ~mask))[: wanted - count]
        mask.reshape(-1)[new] = True
        count += len(new)
    return mask


class MaskedSample(NamedTuple):
    """The views of one volume, and the masks (n_global, d, h, w) of the global ones."""

    views: list[Tensor] | list[View]
    masks: Tensor


class MaskedViews(Dataset[MaskedSample]):
    """Views as without masks, and masks beside them: which voxels are hidden, and from whom, is decided where the networks are."""

    def __init__(self, views: PretrainingViews, masking: Masking) -> None:
        self.views, self.masking = views, masking

    @property
    def volumes(self) -> tuple[CaseVolumes, ...]:
        """The cases that samples are made from."""
        return self.views.volumes

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, key: SampleKey) -> MaskedSample:
        return MaskedSample(self.views[key], self.masking(self.views.seed, key))


class MaskedCollation:
    """As `ViewCollation`, with {"masks": (n_global, B, d, h, w)} besides."""

    def __init__(self, n_global: int) -> None:
        self.collate = ViewCollation(n_global)

    def __call__(self, samples: list[MaskedSample]) -> dict[str, Any]:
        """Stack views and masks of all samples."""
        views: Any = [sample.views for sample in samples]
        return {**self.collate(views), "masks": torch.stack([sample.masks for sample in samples], dim=1)}
