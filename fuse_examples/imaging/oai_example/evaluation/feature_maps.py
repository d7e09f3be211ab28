"""What a backbone's deepest map says of each place: its first three principal components as colours, beside slices of the scan."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.evaluation.embedding_map import principal_directions
from fuse_examples.imaging.oai_example.evaluation.view_pictures import GAP, middle_slices
from fuse_examples.imaging.oai_example.models.padding import voxels_of_cells

Colours = NDArray[np.float32]
OUTERMOST = 2.0
"""Per cent of the cells at either end of a component that share its darkest and its brightest value."""


def principal_colours(maps: Sequence[NDArray[np.floating]]) -> list[Colours]:
    """Colours of the cells of deepest maps (F, d, h, w), as (3, d, h, w) from 0 to 1: red is the first component, green the second.

    The components are those of the cells of all maps together, so that one colour means the same in each of them (Oquab et al. 2024,
    arXiv:2304.07193, figure 1, without their removal of the background). A component that the cells do not have is 0.
    """
    cells = np.concatenate([one.reshape(len(one), -1).T for one in maps]).astype(np.float64)
    centre = cells.mean(axis=0)
    directions, _ = principal_directions(cells - centre, 3)
    places = (cells - centre) @ directions.T
    low, high = np.percentile(places, (OUTERMOST, 100 - OUTERMOST), axis=0)
    return [_coloured(one, centre, directions, low, high) for one in maps]


def map_sheet(image: NDArray[np.floating], colours: Colours, multiple: int) -> NDArray[np.uint8]:
    """The three middle slices of an image (D, H, W), and below each the colours of the cells (3, d, h, w) that it lies in: (H, W, 3).

    Args:
        image: as the network saw it.
        colours: of the cells of its deepest map.
        multiple: the backbone's `size_multiple`.
    """
    grey = middle_slices(image)
    height = len(grey) + GAP
    sheet = np.zeros((2 * height, grey.shape[1], 3), np.uint8)
    sheet[: len(grey)] = grey[:, :, None]
    for channel, values in enumerate(voxels_of_cells(torch.from_numpy(colours), image.shape, multiple)[:, 0].numpy()):
        sheet[height : height + len(grey), :, channel] = middle_slices(values, (0.0, 1.0))
    return sheet


def _coloured(
    one: NDArray[np.floating],
    centre: NDArray[np.float64],
    directions: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> Colours:
    places = np.tensordot(directions, one.astype(np.float64) - centre[:, None, None, None], axes=1)
    shares = (places - low[:, None, None, None]) / np.maximum(high - low, 1e-12)[:, None, None, None]
    colours = np.zeros((3, *one.shape[1:]), np.float32)
    colours[: len(shares)] = np.clip(shares, 0, 1)
    return colours
