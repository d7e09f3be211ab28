"""A scan that is looked through slice by slice inside the report: grey slices, and layers over them that can be shown and hidden.

Slices are those the scan was stacked from: the plane across its largest voxel spacing (axial where all are alike), shown as radiologists
are used to it. Each is an image of its own, so that without a script the first one to look at still stands there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fuse_examples.imaging.oai_example.evaluation.overlay import PLANES, Plane, cut
from fuse_examples.imaging.oai_example.evaluation.report import data_address
from fuse_examples.imaging.oai_example.geometry.volume import Volume

Paint = Callable[[int, tuple[int, int]], bytes | None]
"""Slice index and (width, height) in pixels -> an image with transparency of that size, or None where there is nothing to show."""

ENCODINGS = ((512, 80), (512, 65), (400, 60), (320, 55))
"""(pixels of the longer side, JPEG quality), tried in turn until all slices have room; after the last one slices are left out."""
_SAMPLED = 8  # slices by which the size of all is told beforehand
_MARGIN = 1.1  # for those that are larger
_ALIKE = 1.05  # ratio of spacings
_COUNTED_FROM = {"sagittal": "the patient's left", "coronal": "the back", "axial": "the feet"}


@dataclass(frozen=True)
class LayerOfSlices:
    """What lies over the slices: a short name for the box that hides it, and how a slice of it is painted."""

    name: str
    paint: Paint


@dataclass(frozen=True)
class Slice:
    """One slice of a stack: where it is, in words, and its images, the grey one and those of the layers."""

    position: str
    grey: bytes
    layers: Sequence[bytes | None]


@dataclass(frozen=True)
class SliceStack:
    """A scrollable block of the report.

    Attributes:
        name: of the case.
        plane: the plane of the slices.
        slices: those that are shown.
        layers: names of the layers.
        start: the slice that is shown first.
        aspect: width over height, in millimetres.
        caption: a line below.
    """

    name: str
    plane: Plane
    slices: Sequence[Slice]
    layers: Sequence[str]
    start: int
    aspect: float
    caption: str = ""

    def html(self) -> str:
        """Return a <figure> with all slices, of which one is shown."""
        plane, name = escape(self.plane.name), escape(self.name)
        edges = "".join(
            f'<span class="edge {where}">{letter}</span>'
            for where, letter in zip(("left", "right", "top", "bottom"), self.plane.edges, strict=True)
        )
        shown = "".join(self._slice(number, one) for number, one in enumerate(self.slices))
        boxes = "".join(
            f'<label><input type="checkbox" value="{number}" checked> {escape(layer)}</label>' for number, layer in enumerate(self.layers)
        )
        slider = (
            f'<label class="slider">slice <input type="range" min="0" max="{len(self.slices) - 1}" value="{self.start}" '
            f'aria-label="Slice of {name}"></label>'
        )
        position = escape(self.slices[self.start].position)
        width = min(720, round(520 * self.aspect))
        label = f"{plane} slices of {name}; arrow keys and the wheel change the slice"
        return (
            f'<figure class="scan stack"><div class="view" tabindex="0" role="group" aria-label="{label}" '
            f'style="aspect-ratio:{self.aspect:.4f};max-width:{width}px">{shown}{edges}</div>'
            f'<div class="controls">{slider}<output>{position}</output>{boxes}</div>'
            f'<figcaption><span class="printed-position">{position}</span> {escape(self.caption)}</figcaption></figure>'
        )

    def _slice(self, number: int, one: Slice) -> str:
        alt = escape(f"{self.name}, {one.position}, with {' and '.join(self.layers)}" if self.layers else f"{self.name}, {one.position}")
        over = "".join(
            f'<img class="layer-{layer}" src="{data_address(image)}" alt="">' for layer, image in enumerate(one.layers) if image is not None
        )
        hidden = "" if number == self.start else " hidden"
        images = f'<img src="{data_address(one.grey)}" alt="{alt}">{over}'
        return f'<div class="slice" data-position="{escape(one.position)}"{hidden}>{images}</div>'


def stacking_plane(volume: Volume) -> Plane:
    """Return the plane across the largest voxel spacing; of spacings that are about the same the axial, then the coronal one."""
    largest = max(volume.spacing)
    return next(plane for plane in reversed(PLANES) if volume.spacing[plane.axis] * _ALIKE >= largest)


def stack_of(
    name: str, scan: Volume, layers: Sequence[LayerOfSlices], start: int, most_bytes: int, plane: Plane, caption: str = ""
) -> SliceStack:
    """Return the slices of a scan as a block whose images take at most about `most_bytes` in the page.

    Args:
        name: of the case.
        scan: in RAS order.
        layers: what lies over the slices.
        start: index of the slice that is shown first; it is always among those that are shown.
        most_bytes: room in the page; `ENCODINGS` says what is given up for it.
        plane: the plane of the slices.
        caption: a line below; what was given up is added to it.
    """
    pixels, quality, step = _size_and_step(scan, layers, plane, most_bytes)
    indices = range(start % step, scan.array.shape[plane.axis], step)
    slices = [_slice(scan, layers, plane, index, pixels, quality) for index in indices]
    told = "" if step == 1 else f"Every {_ordinal(step)} of {scan.array.shape[plane.axis]} slices is shown."
    text = " ".join(part for part in (caption, told) if part)
    return SliceStack(name, plane, slices, [layer.name for layer in layers], indices.index(start), _aspect(scan, plane), text)


def _size_and_step(scan: Volume, layers: Sequence[LayerOfSlices], plane: Plane, most_bytes: int) -> tuple[int, int, int]:
    """Pixels, quality, and every how many slices, for a stack of at most about so many bytes; from a sample of its slices."""
    count = scan.array.shape[plane.axis]
    sample = sorted({round(place) for place in np.linspace(0, count - 1, min(count, _SAMPLED)).tolist()})
    for pixels, quality in ENCODINGS:
        sizes = [_bytes_in_page(_slice(scan, layers, plane, index, pixels, quality)) for index in sample]
        whole = _MARGIN * count * sum(sizes) / len(sizes)
        if whole <= most_bytes:
            return pixels, quality, 1
    return pixels, quality, min(count, ceil(whole / most_bytes))


def _slice(scan: Volume, layers: Sequence[LayerOfSlices], plane: Plane, index: int, pixels: int, quality: int) -> Slice:
    aspect = _aspect(scan, plane)
    size = (pixels, max(1, round(pixels / aspect))) if aspect >= 1 else (max(1, round(pixels * aspect)), pixels)
    grey = Image.fromarray(_grey(cut(scan.array, plane, index), scan))
    # Browsers enlarge by themselves; what is stored is never larger than the scan.
    grey = grey.resize((min(size[0], grey.width), min(size[1], grey.height)), Image.Resampling.BOX)
    painted = [layer.paint(index, size) for layer in layers]
    return Slice(_position(scan, plane, index), _encoded(grey, "JPEG", quality=quality), painted)


def _grey(picture: NDArray[Any], scan: Volume) -> NDArray[np.uint8]:
    low, high = _window(scan)
    return np.asarray(np.clip((picture.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1) * 255, dtype=np.uint8)


def _window(scan: Volume) -> tuple[float, float]:
    """The grey values shown as black and white: percentiles of a sample of the voxels, so that a large scan does not take long."""
    step = max(1, round((scan.array.size / 200_000) ** (1 / 3)))
    low, high = np.percentile(scan.array[::step, ::step, ::step], [0.5, 99.5])
    return float(low), float(high)


def _position(scan: Volume, plane: Plane, index: int) -> str:
    centre = (np.array(scan.array.shape) - 1) / 2
    centre[plane.axis] = index
    millimetres = float((scan.affine @ [*centre, 1])[plane.axis])
    count = scan.array.shape[plane.axis]
    return f"{plane.name}, slice {index + 1} of {count} from {_COUNTED_FROM[plane.name]}, {'xyz'[plane.axis]} = {millimetres:.1f} mm"


def _aspect(scan: Volume, plane: Plane) -> float:
    lengths = np.array(scan.array.shape) * scan.spacing
    return float(lengths[plane.horizontal] / lengths[plane.vertical])


def _bytes_in_page(one: Slice) -> int:
    return sum(4 * len(image) // 3 for image in (one.grey, *one.layers) if image is not None)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _ordinal(number: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")
