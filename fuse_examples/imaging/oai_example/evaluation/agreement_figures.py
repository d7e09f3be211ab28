"""Plots of how predictions agree with the truth: calibration of probabilities, and predicted against true numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.evaluation.figures import FAINT, INK, PALETTE, plain_axes


def calibration_plot(curve: Mapping[str, Sequence[float]], what: str) -> Figure:
    """Draw the observed share against the mean probability of each bin; the area of a dot is its number of cases.

    Args:
        curve: from `calibration_curve`.
        what: whose probability it is, for the axes.
    """
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axes = plain_axes(figure)
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle=":", label="calibrated")
    counts = np.asarray(curve["n_cases"], dtype=float)
    axes.plot(curve["mean_probability"], curve["observed_share"], color=PALETTE[0], linewidth=1.2)
    sizes = 12 + 180 * counts / max(counts.sum(), 1)
    axes.scatter(curve["mean_probability"], curve["observed_share"], s=sizes, color=PALETTE[0], zorder=3, clip_on=False)
    axes.set(xlabel=f"probability of {what}", ylabel="observed share", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_aspect("equal")
    axes.grid(color=FAINT, linewidth=0.7)
    axes.legend(loc="upper left", frameon=True, framealpha=0.9, fontsize=9)
    return figure


def scatter_plot(truth: NDArray[Any], predicted: NDArray[Any], name: str) -> Figure:
    """Draw predicted against true numbers, (n,) each, with the line where they are equal."""
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axes = plain_axes(figure)
    both = np.concatenate([truth, predicted])
    ends = [float(both.min()), float(both.max())]
    axes.plot(ends, ends, color="#888888", linewidth=1, linestyle=":", label="equal")
    axes.scatter(truth, predicted, s=16, color=PALETTE[0], edgecolor=INK, linewidths=0.3, alpha=0.8, zorder=3)
    axes.set(xlabel=f"true {name}", ylabel=f"predicted {name}")
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(color=FAINT, linewidth=0.7)
    axes.legend(loc="upper left", frameon=True, framealpha=0.9, fontsize=9)
    return figure
