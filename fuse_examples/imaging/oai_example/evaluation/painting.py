"""What lies over the grey slices of a report: masks as areas or as lines, and maps as a glow. Transparent PNGs of few colours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from fuse_examples.imaging.oai_example.evaluation.overlay import STRUCTURE_COLOURS, Plane, cut
from fuse_examples.imaging.oai_example.evaluation.slices import Paint

Pixels = NDArray[np.uint8]
AREA = 95  # opacity of an area, of 255
LINE = 1 / 220  # width of a line, of the picture's longer side
DASH = 6  # in line widths
LEVELS = 64  # of a map
GLOW = 140  # opacity of a map's maximum, of 255


@dataclass(frozen=True)
class StructureLegend:
    """The structures' colours as a list in the report; `(label, name)` for each."""

    structures: Sequence[tuple[int, str]]

    def html(self) -> str:
        """Return a <ul>."""
        return f'<ul class="legend">{"".join(self._item(label, name) for label, name in self.structures)}</ul>'

    @staticmethod
    def _item(label: int, name: str) -> str:
        colour = colour_of(label)
        dashes = ' stroke-dasharray="4 3"' if is_dashed(label) else ""
        swatch = (
            f'<svg viewBox="0 0 32 18" aria-hidden="true"><rect width="32" height="18" fill="{colour}" fill-opacity="0.4"/>'
            f'<path d="M0 9H32" stroke="{colour}" stroke-width="4"{dashes}/></svg>'
        )
        return f"<li>{swatch}{escape(name.replace('_', ' '))}</li>"


def painted_areas(labels: NDArray[Any], plane: Plane) -> Paint:
    """Return the structures of a label map (D, H, W, in RAS order) as areas that let the scan shine through."""
    return _painter(labels, plane, AREA, lambda enlarged: enlarged)


def painted_lines(labels: NDArray[Any], plane: Plane) -> Paint:
    """Return the outlines of the structures of a label map; dashed where there are more structures than colours."""
    return _painter(labels, plane, 255, outlines)


def painted_map(values: NDArray[np.floating], plane: Plane) -> Paint:
    """Return a map (D, H, W, in RAS order) of values from 0 to 1 as a glow: the higher, the brighter and the less transparent."""
    colours = np.asarray(colormaps["inferno"](np.linspace(0.3, 0.95, LEVELS))[:, :3] * 255, dtype=np.uint8)
    opacity = np.linspace(0, GLOW, LEVELS).astype(np.uint8)

    def paint(index: int, size: tuple[int, int]) -> bytes | None:
        picture = cut(values, plane, index)
        if not (picture > 1 / LEVELS).any():
            return None
        # A map is smooth: half the pixels show the same.
        small = Image.fromarray(np.ascontiguousarray(picture, dtype=np.float32)).resize(
            (max(1, size[0] // 2), max(1, size[1] // 2)), Image.Resampling.BILINEAR
        )
        return _png(np.asarray(np.clip(np.asarray(small), 0, 1) * (LEVELS - 1) + 0.5, dtype=np.uint8), colours, opacity)

    return paint


def colour_of(label: int) -> str:
    """Return the colour of a label's area and line, as #rrggbb."""
    return STRUCTURE_COLOURS[(label - 1) % len(STRUCTURE_COLOURS)]


def is_dashed(label: int) -> bool:
    """Whether a label's line is dashed, because an earlier one has its colour."""
    return (label - 1) // len(STRUCTURE_COLOURS) % 2 == 1


def outlines(labels: Pixels) -> Pixels:
    """Return those pixels of a label map (H, W) that lie within a line's width of another label, inside their own; else 0."""
    width = max(1, round(LINE * max(labels.shape)))
    inner = np.ones(labels.shape, dtype=bool)
    padded = np.pad(labels, width)
    for axis in (0, 1):
        for step in (-width, width):
            inner &= np.roll(padded, step, axis)[width:-width, width:-width] == labels
    lines: Pixels = np.where(inner, np.uint8(0), labels)
    dashed = np.array([label > 0 and is_dashed(label) for label in range(int(labels.max()) + 1)])
    rows, columns = np.indices(labels.shape)
    lines[((rows + columns) // (DASH * width) % 2 == 1) & dashed[labels]] = 0
    return lines


def _painter(labels: NDArray[Any], plane: Plane, opacity: int, draw: Callable[[Pixels], Pixels]) -> Paint:
    few = np.minimum(labels, 255).astype(np.uint8)  # a palette has no more
    highest = int(few.max(initial=0))
    colours = np.array([(0.0, 0.0, 0.0), *(to_rgb(colour_of(label)) for label in range(1, highest + 1))])
    opacities = np.array([0, *[opacity] * highest], dtype=np.uint8)

    def paint(index: int, size: tuple[int, int]) -> bytes | None:
        picture = cut(few, plane, index)
        if not picture.any():
            return None
        enlarged = np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.NEAREST))
        return _png(draw(enlarged), np.asarray(colours * 255, dtype=np.uint8), opacities)

    return paint


def _png(indices: Pixels, colours: NDArray[np.uint8], opacity: NDArray[np.uint8]) -> bytes:
    image = Image.frombytes("P", (indices.shape[1], indices.shape[0]), indices.tobytes())
    image.putpalette(colours.tobytes())
    buffer = BytesIO()
    image.save(buffer, "PNG", transparency=opacity.tobytes())
    return buffer.getvalue()
