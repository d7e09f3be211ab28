"""Plots of the report, as matplotlib figures that know no global state.

Colours follow Okabe & Ito (2008), made for every kind of colour vision; no plot tells by colour alone.
"""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.evaluation.whole_files import write_whole

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C7A00", "#555555")
DOTS_PER_INCH = 150  # sharp on a screen of double density at the size the report shows
INK = "#222222"
FAINT = "#D8D8D8"


def png_bytes(figure: Figure) -> bytes:
    """Return the figure as PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def figure_pixels(figure: Figure) -> NDArray[np.uint8]:
    """Return a figure as (H, W, 3) pixels, for TensorBoard."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib's canvases have no annotations
    pixels: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]  # likewise
    return pixels


def save_png(figure: Figure, path: Path) -> bytes:
    """Write the figure to a file, whole or not at all, and return its bytes for the report."""
    content = png_bytes(figure)
    write_whole(path, content)
    return content


def box_plot(scores: Mapping[str, Sequence[float]], axis_label: str, *, limits: tuple[float, float] | None = (0.0, 1.0)) -> Figure:
    """Draw one box per name (quartiles, whiskers at 1.5 times the interquartile range) with a dot for every case; NaN are left out."""
    figure = Figure(figsize=(7.2, 1.3 + 0.45 * len(scores)), layout="constrained")
    axes = plain_axes(figure)
    names = list(scores)
    for place, name in enumerate(names):
        values = np.asarray(scores[name], dtype=float)
        values = values[~np.isnan(values)]
        colour = PALETTE[place % len(PALETTE)]
        axes.boxplot(
            [values],
            positions=[place],
            orientation="horizontal",
            widths=0.55,
            showfliers=False,
            medianprops={"color": INK, "linewidth": 1.8},
            boxprops={"color": INK},
            whiskerprops={"color": INK},
            capprops={"color": INK},
        )
        axes.scatter(values, place + _spread(len(values)), s=14, color=colour, alpha=0.75, linewidths=0, zorder=3, clip_on=False)
    axes.set_yticks(range(len(names)), [_readable(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    if limits:
        low = min([limits[0] + 0.0, *(float(np.nanmin(v)) for v in scores.values() if len(v) and not np.all(np.isnan(v)))])
        axes.set_xlim(low, limits[1])
    axes.set_xlabel(axis_label)
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    return figure


def roc_plot(curves: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]) -> Figure:
    """Draw ROC curves: legend text -> (false-positive rate, true-positive rate)."""
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axes = plain_axes(figure)
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle=":", label="chance")
    for index, (name, (x, y)) in enumerate(curves.items()):
        axes.plot(x, y, color=PALETTE[index % len(PALETTE)], linewidth=2, linestyle=line_style(index), label=name)
    axes.set(
        xlabel="1 - specificity (false-positive rate)", ylabel="sensitivity (true-positive rate)", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01)
    )
    axes.set_aspect("equal")
    axes.grid(color=FAINT, linewidth=0.7)
    axes.legend(loc="lower right", frameon=True, framealpha=0.9, fontsize=9)
    return figure


def precision_recall_plot(curves: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], prevalence: Mapping[str, float]) -> Figure:
    """Draw precision against recall: legend text -> (recall, precision); a dotted line at each class's share, which chance reaches."""
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axes = plain_axes(figure)
    for index, (name, (x, y)) in enumerate(curves.items()):
        colour = PALETTE[index % len(PALETTE)]
        # Up to each recall the precision of its own threshold holds: the area under the steps is the average precision.
        axes.step(x, y, where="pre", color=colour, linewidth=2, linestyle=line_style(index), label=name)
        axes.axhline(prevalence[name], color=colour, linewidth=1, linestyle=":")
    axes.set(xlabel="recall (sensitivity)", ylabel="precision (positive predictive value)", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_aspect("equal")
    axes.grid(color=FAINT, linewidth=0.7)
    axes.legend(loc="lower left", frameon=True, framealpha=0.9, fontsize=9)
    return figure


def confusion_plot(counts: NDArray[Any], classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix (K, K), row: truth, column: prediction; shade and per cent are shares of the row."""
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros(counts.shape), where=rows > 0)
    size = 2.4 + 0.9 * len(classes)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = plain_axes(figure)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.55 else INK
        axes.text(column, row, f"{int(counts[row, column])}\n{share:.0%}", ha="center", va="center", color=colour, fontsize=11)
    axes.set_xticks(range(len(classes)), [_wrapped(name, 14) for name in classes])
    axes.set_yticks(range(len(classes)), [_wrapped(name, 22) for name in classes])
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="truth")
    return figure


def plain_axes(figure: Figure) -> Axes:
    """Return axes without frame, with readable labels."""
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=10, colors=INK)
    axes.xaxis.label.set_fontsize(11)
    axes.yaxis.label.set_fontsize(11)
    return axes


def _spread(count: int) -> NDArray[np.float64]:
    """Return offsets that keep dots apart, the same every time (golden-ratio sequence)."""
    return np.asarray((np.arange(count) * 0.6180339887 % 1 - 0.5) * 0.36)


def line_style(index: int) -> str:
    """Return the line style of the curve with this index, which tells it apart without its colour."""
    return ("-", "--", "-.", ":")[index % 4]


def _readable(name: str) -> str:
    return _shortened(name.replace("_", " "))


def _wrapped(name: str, width: int) -> str:
    return "\n".join(textwrap.wrap(_shortened(name, 3 * width), width)) or name


def _shortened(name: str, length: int = 32) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
