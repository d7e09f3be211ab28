"""Pictures of a scan with the true and the predicted mask, as a radiologist is used to seeing them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.geometry.volume import Grid, Volume, from_file_order

# Bright on a dark image, distinguishable with every kind of colour vision (Okabe & Ito); line styles repeat them after seven.
STRUCTURE_COLOURS = ("#56B4E9", "#E69F00", "#00B887", "#F0E442", "#CC79A7", "#E8601C", "#FFFFFF")
BACKGROUND = "#000000"
PAPER = "#EDEDED"


@dataclass(frozen=True)
class Plane:
    """A way to cut a volume in RAS order.

    Attributes:
        name: as radiologists call it.
        axis: the array axis it is perpendicular to.
        horizontal, vertical: the array axes along the picture's width and height.
        edges: the patient directions at the picture's left, right, top and bottom.
    """

    name: str
    axis: int
    horizontal: int
    vertical: int
    edges: tuple[str, str, str, str]


# Radiological convention: the patient faces the reader, so the patient's right is at the left; in a sagittal picture anterior is at
# the left. In RAS order the index grows towards right, anterior and superior: both directions of every picture run against it.
PLANES = (
    Plane("sagittal", 0, 1, 2, ("A", "P", "S", "I")),
    Plane("coronal", 1, 0, 2, ("R", "L", "S", "I")),
    Plane("axial", 2, 0, 1, ("R", "L", "A", "P")),
)


def cut(array: NDArray[Any], plane: Plane, index: int) -> NDArray[Any]:
    """Return one slice (rows, columns) of an array in RAS order as it is shown: first row at the top, first column at the left."""
    picture: NDArray[Any] = np.moveaxis(array, plane.axis, 0)[index]  # the two axes left, in ascending order: (horizontal, vertical)
    return picture[::-1, ::-1].T


def most_telling_index(labels: NDArray[Any], axis: int) -> int:
    """Return the slice across `axis` that shows the most structures, among these the one with most voxels; the middle if empty.

    The mask's centre would do for one lump; between two menisci or two kidneys it shows neither.
    """
    others = tuple(other for other in range(3) if other != axis)
    areas = np.array([(labels == label).sum(axis=others) for label in np.unique(labels[labels > 0])])
    if not areas.size:
        return int(labels.shape[axis] // 2)
    shown = (areas > 0).sum(axis=0)
    return int(np.lexsort((areas.sum(axis=0), shown))[-1])


def overlay_figure(
    image: NDArray[Any],
    truth: NDArray[Any] | None,
    predicted: NDArray[Any] | None,
    grid: Grid,
    structures: Sequence[str],
    title: str = "",
) -> Figure:
    """Show three planes, above as they are, below with the masks: truth as area, prediction as line. Without masks there is one row.

    Args:
        image, truth, predicted: (D, H, W) arrays in one axis order, whichever; labels from 1 on as `structures`. No truth: no areas;
            no prediction: no lines.
        grid: where they lie.
        structures: names for the legend; those that do not occur are left out.
        title: a line above.
    """
    scan = from_file_order(image, grid.affine)
    true_labels = None if truth is None else from_file_order(truth, grid.affine).array
    predicted_labels = None if predicted is None else from_file_order(predicted, grid.affine).array
    masks = [labels for labels in (true_labels, predicted_labels) if labels is not None]
    reference = next((labels for labels in masks if labels.any()), np.zeros(scan.array.shape, dtype=np.uint8))
    low, high = np.percentile(scan.array, [0.5, 99.5])
    figure = Figure(figsize=(9.6, 7.4 if masks else 3.9), layout="constrained", facecolor=BACKGROUND)
    widths = [scan.array.shape[plane.horizontal] * scan.spacing[plane.horizontal] for plane in PLANES]
    ratios = np.maximum(widths, 0.4 * max(widths))  # titles of thin slabs stay apart
    rows = figure.subplots(2 if masks else 1, 3, squeeze=False, gridspec_kw={"width_ratios": ratios})
    for plane, column in zip(PLANES, rows.T, strict=True):
        index = most_telling_index(reference, plane.axis)
        for axes in column:
            _show(axes, scan, plane, index, (float(low), float(high)))
        if true_labels is not None:
            _areas(column[-1], cut(true_labels, plane, index), len(structures))
        if predicted_labels is not None:
            _lines(column[-1], cut(predicted_labels, plane, index), len(structures))
        position = _millimetres(scan, plane, index)
        column[0].set_title(f"{plane.name}, {'xyz'[plane.axis]} = {position:.1f} mm", color=PAPER, fontsize=11)
    seen = {label for labels in masks for label in np.unique(labels).tolist()}
    if masks:
        _legend(figure, [(label, name) for label, name in enumerate(structures, start=1) if label in seen], truth is not None)
    if title:
        figure.suptitle(title, color=PAPER, fontsize=13)
    return figure


def planes_figure(volumes: Sequence[tuple[str, Volume]]) -> Figure:
    """Show the middle slices of several volumes in RAS order, a row for each, below its name."""
    figure = Figure(figsize=(7.6, 2.5 * len(volumes)), layout="constrained", facecolor=BACKGROUND)
    for (name, scan), row in zip(volumes, figure.subplots(len(volumes), 3, squeeze=False), strict=True):
        low, high = np.percentile(scan.array, [0.5, 99.5])
        for plane, axes in zip(PLANES, row, strict=True):
            _show(axes, scan, plane, scan.array.shape[plane.axis] // 2, (float(low), float(high)))
        size = " x ".join(f"{length * count:.0f}" for length, count in zip(scan.spacing, scan.array.shape, strict=True))
        row[1].set_title(f"{name}, {size} mm", color=PAPER, fontsize=10)
    return figure


def _show(axes: Axes, scan: Volume, plane: Plane, index: int, window: tuple[float, float]) -> None:
    spacing = scan.spacing
    aspect = spacing[plane.vertical] / spacing[plane.horizontal]
    axes.imshow(cut(scan.array, plane, index), cmap="gray", vmin=window[0], vmax=window[1], aspect=aspect, interpolation="bilinear")
    axes.set_axis_off()
    axes.set_autoscale_on(False)  # contours get a rim of a voxel and must not widen the picture
    left, right, top, bottom = plane.edges
    style: dict[str, Any] = {"transform": axes.transAxes, "color": PAPER, "fontsize": 11, "fontweight": "bold"}
    style["path_effects"] = [withStroke(linewidth=3, foreground=BACKGROUND)]  # readable on bone as on air
    axes.text(0.02, 0.5, left, ha="left", va="center", **style)
    axes.text(0.98, 0.5, right, ha="right", va="center", **style)
    axes.text(0.5, 0.98, top, ha="center", va="top", **style)
    axes.text(0.5, 0.02, bottom, ha="center", va="bottom", **style)


def _areas(axes: Axes, labels: NDArray[Any], count: int) -> None:
    for label in range(1, count + 1):
        mask = np.pad((labels == label).astype(float), 1)  # a rim, so that contours at the picture's edge close
        if mask.any():
            axes.contourf(*_coordinates(mask), mask, levels=[0.5, 1.5], colors=[structure_colour(label)], alpha=0.45)


def _lines(axes: Axes, labels: NDArray[Any], count: int) -> None:
    for label in range(1, count + 1):
        mask = np.pad((labels == label).astype(float), 1)
        if mask.any():
            axes.contour(
                *_coordinates(mask), mask, levels=[0.5], colors=[structure_colour(label)], linewidths=1.4, linestyles=_style(label)
            )


def _coordinates(mask: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    return np.arange(mask.shape[1]) - 1, np.arange(mask.shape[0]) - 1


def _legend(figure: Figure, structures: Sequence[tuple[int, str]], with_truth: bool) -> None:
    handles: list[Any] = []
    if with_truth:
        handles.append(Patch(facecolor=PAPER, alpha=0.45, label="area: truth"))
    handles.append(Line2D([], [], color=PAPER, linewidth=1.4, label="line: prediction"))
    handles += [
        Line2D([], [], color=structure_colour(label), linestyle=_style(label), linewidth=4, label=name.replace("_", " "))
        for label, name in structures
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False, labelcolor=PAPER, fontsize=10)


def structure_colour(label: int) -> str:
    """Colour of a label, 1 or more, as "#RRGGBB"."""
    return STRUCTURE_COLOURS[(label - 1) % len(STRUCTURE_COLOURS)]


def _style(label: int) -> Literal["-", "--", ":"]:
    styles: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")
    return styles[(label - 1) // len(STRUCTURE_COLOURS) % 3]


def _millimetres(scan: Volume, plane: Plane, index: int) -> float:
    centre = (np.array(scan.array.shape) - 1) / 2
    centre[plane.axis] = index
    return float((scan.affine @ [*centre, 1])[plane.axis])
