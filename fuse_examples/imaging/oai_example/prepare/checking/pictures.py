"""A contact sheet: one slice of many cases, with their masks, to see at a glance what a table cannot say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.evaluation.overlay import BACKGROUND, PAPER, PLANES, STRUCTURE_COLOURS, cut, most_telling_index
from fuse_examples.imaging.oai_example.geometry.volume import Volume

COLUMNS = 8
INCHES = 1.75  # of a tile
ALARM = "#FF7A6B"
MASK_WEIGHT = 0.45


@dataclass(frozen=True)
class Tile:
    """A slice ready to be shown: (rows, columns, 3) from 0 to 1, the height of a pixel over its width, and the picture's edges."""

    pixels: NDArray[np.float32]
    aspect: float
    edges: tuple[str, str, str, str]


def tile_of(volume: Volume, mask: Volume | None, plane_name: str) -> Tile:
    """Return the slice of `plane_name` that shows most of the mask, else the middle one; the masks' structures tinted."""
    plane = next(plane for plane in PLANES if plane.name == plane_name)
    index = volume.array.shape[plane.axis] // 2 if mask is None else most_telling_index(mask.array, plane.axis)
    picture = cut(volume.array, plane, index).astype(np.float32)
    low, high = np.percentile(picture, [0.5, 99.5])
    grey = np.clip((picture - low) / max(float(high - low), 1e-6), 0, 1)
    pixels = np.repeat(grey[..., None], 3, axis=-1)
    if mask is not None and mask.array.shape == volume.array.shape:
        labels = cut(mask.array, plane, index)
        for label in np.unique(labels[labels > 0]):
            colour = np.array(to_rgb(STRUCTURE_COLOURS[(int(label) - 1) % len(STRUCTURE_COLOURS)]), np.float32)
            pixels[labels == label] = (1 - MASK_WEIGHT) * pixels[labels == label] + MASK_WEIGHT * colour
    return Tile(pixels, volume.spacing[plane.vertical] / volume.spacing[plane.horizontal], plane.edges)


def contact_sheet(entries: Sequence[tuple[str, Tile | None, bool]], heading: str) -> Figure:
    """Return a sheet of tiles.

    Args:
        entries: caption, picture (None where there is none), and whether something is amiss with the case.
        heading: a line above.
    """
    columns = min(COLUMNS, max(len(entries), 3))
    rows = -(-len(entries) // columns)
    figure = Figure(figsize=(INCHES * columns, (INCHES + 0.35) * rows + 0.5), layout="constrained", facecolor=BACKGROUND)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, (caption, tile, amiss) in zip(grid[: len(entries)], entries, strict=True):
        axes.set_title(caption, color=ALARM if amiss else PAPER, fontsize=6.5)
        if tile is None:
            axes.text(0.5, 0.5, "cannot be\nread", ha="center", va="center", color=ALARM, fontsize=9, transform=axes.transAxes)
            continue
        axes.imshow(tile.pixels, aspect=tile.aspect, interpolation="nearest")
        left, right, top, bottom = tile.edges
        for x, y, letter in ((0.02, 0.5, left), (0.98, 0.5, right), (0.5, 0.97, top), (0.5, 0.03, bottom)):
            horizontal = "left" if x < 0.1 else "right" if x > 0.9 else "center"
            vertical = "top" if y > 0.9 else "bottom" if y < 0.1 else "center"
            outline = [withStroke(linewidth=1.5, foreground=BACKGROUND)]  # readable on bone as on air
            axes.text(x, y, letter, ha=horizontal, va=vertical, color=PAPER, fontsize=6, transform=axes.transAxes, path_effects=outline)
    figure.suptitle(heading, color=PAPER, fontsize=10)
    return figure
