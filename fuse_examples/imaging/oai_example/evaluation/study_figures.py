"""Figures of a study of label efficiency: scores against labels, differences, and validation scores against steps."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from fuse_examples.imaging.oai_example.evaluation.bootstrap import Estimate
from fuse_examples.imaging.oai_example.evaluation.figures import FAINT, INK, PALETTE, plain_axes
from fuse_examples.imaging.oai_example.evaluation.study_cells import StudyResults
from fuse_examples.imaging.oai_example.evaluation.study_statistics import StudyAnswer

MARKERS, LINES = "osD^vP", ("-", "--", "-.", ":")
WIDTH = 4.2  # inches of one of the small axes of validation curves


def score_figure(answer: StudyAnswer) -> Figure:
    """Draw the score against labelled patients: a line for each initialisation with its interval, and a dot for every seed."""
    results = answer.results
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axes = plain_axes(figure)
    for place, name in enumerate(results.initialisations):
        entries = [
            (entry, value) for entry in answer.scores if entry.initialisation == name and (value := entry.estimate.value) is not None
        ]
        colour, shift = PALETTE[place % len(PALETTE)], _aside(place, len(results.initialisations))
        at = [entry.n_train * shift for entry, _ in entries]
        line, marker = LINES[place % 4], MARKERS[place % len(MARKERS)]
        axes.plot(
            at,
            [value for _, value in entries],
            color=colour,
            linewidth=2,
            markersize=6,
            label=name,
            zorder=3,
            linestyle=line,
            marker=marker,
        )
        for x, (entry, _) in zip(at, entries, strict=True):
            _interval(axes, x, entry.estimate, colour)
            seeds = [results.score(cell) for cell in results.cells if (cell.initialisation, cell.budget) == (name, entry.budget)]
            # Hollow, so that they are seen on the interval's line of the same colour.
            axes.scatter([x] * len(seeds), seeds, s=14, facecolors="white", edgecolors=colour, linewidths=0.9, zorder=4)
    _label_axis(axes, results)
    axes.set_ylabel(f"{results.metric} on the test folds")
    axes.legend(frameon=False, fontsize=10)
    return figure


def difference_figure(answer: StudyAnswer) -> Figure:
    """Draw differences from the reference with their intervals, against labelled patients."""
    results = answer.results
    others = results.initialisations[1:]
    figure = Figure(figsize=(7.6, 3.2), layout="constrained")
    axes = plain_axes(figure)
    axes.axhline(0, color=INK, linewidth=1)
    for place, name in enumerate(others, start=1):
        colour, shift = PALETTE[place % len(PALETTE)], _aside(place - 1, len(others))
        label: str | None = f"{name} minus {answer.reference}"
        for entry in (one for one in answer.differences if one.initialisation == name):
            found, x = entry.difference.estimate, entry.n_train * shift
            if found.value is not None:
                _interval(axes, x, found, colour)
                axes.plot([x], [found.value], color=colour, marker=MARKERS[place % len(MARKERS)], linestyle="", markersize=7, label=label)
                label = None
    _label_axis(axes, results)
    axes.set_ylabel(f"difference in {results.metric}")
    axes.legend(frameon=False, fontsize=10)
    return figure


def curve_figure(answer: StudyAnswer) -> Figure:
    """Draw the validation score against optimiser steps, one axes for each budget: the mean over seeds, and every seed faintly."""
    results = answer.results
    n_columns = min(2, len(results.budgets))
    n_rows = -(-len(results.budgets) // n_columns)
    figure = Figure(figsize=(0.6 + WIDTH * n_columns, 0.5 + 2.6 * n_rows), layout="constrained")
    grid: Sequence[Axes] = np.atleast_1d(figure.subplots(n_rows, n_columns, sharex=True, squeeze=True)).ravel().tolist()
    for axes, budget in zip(grid[: len(results.budgets)], results.budgets, strict=True):
        for place, name in enumerate(results.initialisations):
            curves = [cell.curve for cell in results.cells if (cell.initialisation, cell.budget) == (name, budget)]
            _curves(axes, curves, PALETTE[place % len(PALETTE)], LINES[place % 4], name)
        axes.set_title(_patients(results, budget), fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelbottom=True)  # also where the axes below are empty
        axes.grid(color=FAINT, linewidth=0.7)
    for axes in grid[len(results.budgets) :]:
        axes.set_visible(False)
    figure.supxlabel("optimiser steps", fontsize=11)
    figure.supylabel("validation score", fontsize=11)
    grid[0].legend(frameon=False, fontsize=9)
    return figure


def _curves(axes: Axes, curves: Sequence[Sequence[tuple[int, float]]], colour: str, line: str, name: str) -> None:
    for curve in curves:
        axes.plot([step for step, _ in curve], [value for _, value in curve], color=colour, linewidth=0.8, alpha=0.35)
    if curves:
        at = _mean(curves)
        axes.plot(list(at), list(at.values()), color=colour, linestyle=line, linewidth=2, label=name)


def _mean(curves: Sequence[Sequence[tuple[int, float]]]) -> Mapping[int, float]:
    """Step -> mean over the curves that have it."""
    values: dict[int, list[float]] = {}
    for curve in curves:
        for step, value in curve:
            values.setdefault(step, []).append(value)
    return {step: float(np.mean(values[step])) for step in sorted(values)}


def _aside(place: int, n_places: int) -> float:
    """A factor that keeps what belongs to one number of labels apart on a logarithmic axis."""
    return float(1.05 ** (place - (n_places - 1) / 2))


def _interval(axes: Axes, x: float, found: Estimate, colour: str) -> None:
    if found.low is not None and found.high is not None:
        axes.plot([x, x], [found.low, found.high], color=colour, linewidth=1.8, zorder=2)


def _label_axis(axes: Axes, results: StudyResults) -> None:
    sizes = [results.n_train(budget) for budget in results.budgets if any(cell.budget == budget for cell in results.cells)]
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(min(sizes) / 1.35, max(sizes) * 1.35)
    axes.set_xlabel("labelled training patients")
    axes.grid(color=FAINT, linewidth=0.7)


def _patients(results: StudyResults, budget: str) -> str:
    cells = [cell for cell in results.cells if cell.budget == budget]
    if not cells:
        return budget
    return f"{cells[0].n_train} to learn from, {cells[0].n_val} to validate on"
