"""Plots over epochs."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fuse_examples.imaging.oai_example.evaluation.figures import FAINT, PALETTE, line_style, plain_axes
from fuse_examples.imaging.oai_example.evaluation.learning_curves import CurvePlot

FEW = 25  # epochs up to which each has a marker
SMALLEST_RANGE = 0.1  # of the vertical axis
ONE_COLUMN = 6  # curves up to which the legend stands inside


def curve_figure(plot: CurvePlot) -> Figure:
    """Draw the curves of a plot with their intervals, and a line at the best epoch."""
    figure = Figure(figsize=(6.2, 3.4), layout="constrained")
    axes = plain_axes(figure)
    for index, (name, curve) in enumerate(plot.curves.items()):
        colour = PALETTE[index % len(PALETTE)]
        marker = "o" if len(curve.values) < FEW else None
        style = line_style(index)
        axes.plot(curve.epochs, curve.values, color=colour, linestyle=style, linewidth=1.8, marker=marker, markersize=4, label=name)
        if curve.low:
            axes.fill_between(curve.epochs, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
    if plot.best is not None:
        axes.axvline(plot.best, color="#555555", linewidth=1, linestyle=":", label=f"best epoch: {plot.best}")
    axes.set(xlabel="epoch", ylabel=plot.title)
    low, high = axes.get_ylim()
    if high - low < SMALLEST_RANGE:  # noise in the third digit is not to look like learning
        axes.set_ylim((low + high - SMALLEST_RANGE) / 2, (low + high + SMALLEST_RANGE) / 2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=FAINT, linewidth=0.7)
    many = len(plot.curves) > ONE_COLUMN
    axes.legend(frameon=True, framealpha=0.85, edgecolor="none", fontsize=7.5 if many else 9, ncols=2 if many else 1)
    return figure
