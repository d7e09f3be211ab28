"""A map of features in two dimensions: what a pre-trained network finds alike lies close together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.evaluation.figures import FAINT, INK, PALETTE, plain_axes

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MOST_GROUPS = 12
REST = "other values"


@dataclass(frozen=True)
class PrincipalMap:
    """Cases in the plane of the two directions along which their features vary most.

    Attributes:
        places: (n, 2) coordinates; 0 in the second where there is one direction only.
        shares: of the features' variance that each of the two directions holds.
    """

    places: NDArray[np.float64]
    shares: tuple[float, float]


def principal_map(features: NDArray[Any]) -> PrincipalMap:
    """Principal component analysis of features (n, F)."""
    centred = np.asarray(features, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    directions, shares = principal_directions(centred, 2)
    places = np.zeros((len(centred), 2))
    places[:, : len(directions)] = centred @ directions.T
    first, second = (*shares.tolist(), 0.0, 0.0)[:2]
    return PrincipalMap(places, (first, second))


def principal_directions(centred: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The directions along which rows (n, F) of mean 0 vary most (Hotelling 1933), at most `count` of them.

    A direction points to where its largest weight is positive.

    Returns:
        Directions (k, F), and the share of the variance that each holds, (k,).
    """
    if len(centred) > centred.shape[1]:  # many rows, such as the cells of maps: the same directions from a small matrix
        centred = np.asarray(np.linalg.qr(centred, mode="r"))
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:count]
    largest = np.abs(directions).argmax(axis=1)
    directions *= np.sign(np.take_along_axis(directions, largest[:, None], axis=1))
    total = float((lengths**2).sum())
    shares: NDArray[np.float64] = lengths**2 / total if total > 0 else lengths * 0
    return directions, shares[:count]


def map_figure(found: PrincipalMap, groups: Sequence[str], title: str) -> Figure:
    """Draw a dot for each case, in the colour and shape of its group; groups beyond the most frequent ones share one."""
    names, counts = np.unique(np.array(groups, dtype=str), return_counts=True)
    kept = sorted(names[np.argsort(-counts, kind="stable")][:MOST_GROUPS].tolist())
    figure = Figure(figsize=(5.4, 4.4), layout="constrained")
    axes = plain_axes(figure)
    shown = np.array([name if name in kept else REST for name in groups])
    for number, name in enumerate([*kept, *([REST] if (shown == REST).any() else [])]):
        x, y = found.places[shown == name].T
        marker, colour = MARKERS[number % len(MARKERS)], PALETTE[number % len(PALETTE)]
        axes.scatter(x, y, s=26, color=colour, marker=marker, edgecolor=INK, linewidths=0.3, alpha=0.85, label=f"{name} ({len(x)})")
    first, second = found.shares
    axes.set(xlabel=f"1st direction ({first:.0%} of the variance)", ylabel=f"2nd direction ({second:.0%})")
    axes.grid(color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.legend(title=title, fontsize=8, title_fontsize=9, frameon=True, framealpha=0.85)
    return figure
