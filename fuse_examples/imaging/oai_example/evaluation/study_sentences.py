"""What the data of a study do and do not support, in plain sentences."""

import math
from collections.abc import Sequence

from fuse_examples.imaging.oai_example.evaluation.study_statistics import (
    MIN_SEEDS,
    DifferenceEntry,
    SavedEntry,
    SpeedEntry,
    StudyAnswer,
    median,
)

LEVEL = 0.05
"""Of the corrected p-values."""


def sentences(answer: StudyAnswer) -> list[str]:
    """Say for each initialisation where it is better, where worse, where neither, how soon it gets there, and what that rests on."""
    if len(answer.results.initialisations) < 2:
        return ["There is one initialisation only, so there is nothing to compare."]
    said: list[str] = []
    for name in answer.results.initialisations[1:]:
        said += _of_one(answer, name)
    return [*said, _scope(answer)]


def patients_text(numbers: Sequence[int]) -> str:
    """Name budgets in prose: "1, 4 and 12 labelled patients"."""
    words = _listed([str(number) for number in numbers])
    return f"{words} labelled patient{'s' * (numbers[-1] != 1)}"


def _of_one(answer: StudyAnswer, name: str) -> list[str]:
    entries = [entry for entry in answer.differences if entry.initialisation == name]
    if not entries:
        return [f"{name} and {answer.reference} have no finished runs in common yet, so nothing can be said of {name}."]
    judged = [entry for entry in entries if entry.n_seeds >= MIN_SEEDS and entry.difference.estimate.low is not None]
    said = []
    if not judged:
        fewest, most = entries[0].difference.estimate.n_patients, max(entry.n_seeds for entry in entries)
        needed = f"at least {MIN_SEEDS} seeds and 10 patients (in each class) are needed"
        why = f"{most} seed{'s' * (most != 1)} and {fewest} test patients; {needed}"
        return [f"These data are too few to say whether {name} helps: {why}."]
    if len(judged) < len(entries):
        left = [entry.n_train for entry in entries if entry not in judged]
        said.append(f"With {patients_text(left)} there are too few runs to judge {name}.")
    better, worse = ([entry for entry in judged if _clear(entry, sign)] for sign in (1, -1))
    open_ones = [entry for entry in judged if entry not in better and entry not in worse]
    metric, reference = answer.results.metric, answer.reference
    for clear, word in ((better, "higher"), (worse, "lower")):
        if clear:
            where, each = patients_text([entry.n_train for entry in clear]), _listed([_difference_text(entry) for entry in clear])
            said.append(f"With {where} {name} has a {word} {metric} than {reference}: by {each}.")
    if open_ones:
        lows, highs = zip(*(_bounds(entry) for entry in open_ones), strict=True)
        room = f"differences from {min(lows):+.3f} to {max(highs):+.3f} are compatible with them"
        if not better and not worse:
            start = f"The data do not show that {name} changes {metric} at any of the numbers of labels"
        else:
            start = f"With {patients_text([entry.n_train for entry in open_ones])} the data do not tell {name} and {reference} apart"
        said.append(f"{start}; {room}.")
    said += _speed(answer, name)
    said += _labels(answer, name, [entry.n_train for entry in better])
    return said


def _bounds(entry: DifferenceEntry) -> tuple[float, float]:
    low, high = entry.difference.estimate.low, entry.difference.estimate.high
    assert low is not None  # it is judged
    assert high is not None
    return low, high


def _clear(entry: DifferenceEntry, sign: int) -> bool:
    low, high = _bounds(entry)
    return entry.holm is not None and entry.holm < LEVEL and (low > 0 if sign > 0 else high < 0)


def _difference_text(entry: DifferenceEntry) -> str:
    assert entry.difference.estimate.value is not None  # it is clear
    low, high = sorted(map(abs, _bounds(entry)))
    value = abs(entry.difference.estimate.value)
    return f"{value:.3f} (95 % interval {low:.3f} to {high:.3f}, corrected p {p_text(entry.holm)})"


def p_text(p_value: float | None) -> str:
    """A p-value as tables show it."""
    return "–" if p_value is None else f"{p_value:.4f}" if p_value >= 0.0001 else "< 0.0001"


def _speed(answer: StudyAnswer, name: str) -> list[str]:
    entries: list[SpeedEntry] = [entry for entry in answer.speeds if entry.initialisation == name]
    ratios = [ratio for entry in entries for ratio in entry.ratios]
    if not ratios:
        return []
    reached, middle = sum(math.isfinite(ratio) for ratio in ratios), median(ratios)
    of_all = f"{reached} of {len(ratios)} runs"
    best = f"{answer.reference}'s best validation score"
    if math.isinf(middle):
        return [f"{name} reaches {best} of the same budget and seed in {of_all}, which does not show that it is faster."]
    word = "no faster than it" if middle >= 1 else f"in {100 * middle:.0f} % of its steps"
    return [f"{name} reaches {best} of the same budget and seed {word} (median; reached in {of_all})."]


def _labels(answer: StudyAnswer, name: str, better: Sequence[int]) -> list[str]:
    """Labels that are saved, with the numbers of patients of a higher score alone: these intervals are not corrected for being several."""
    entries: list[SavedEntry] = [entry for entry in answer.saved if entry.initialisation == name]
    saving = [entry for entry in entries if entry.low > entry.n_train and entry.n_train in better]
    if not saving:
        return []
    told = _listed([f"{needed_text(entry)} in place of {entry.n_train}" for entry in saving])
    return [f"For the scores of {name} {answer.reference} needs more labelled patients: {told}."]


def needed_text(entry: SavedEntry) -> str:
    """Labelled patients that the reference needs, with "more than" beyond what was tried."""
    return f"more than {entry.most}" if math.isinf(entry.needed) else f"about {entry.needed:.0f}"


def _scope(answer: StudyAnswer) -> str:
    results = answer.results
    seeds = len({cell.seed for cell in results.cells})
    return (
        f"This is said of {len(set(results.patients))} test patients, {seeds} seed{'s' * (seeds != 1)} and {results.steps} optimiser steps "
        "a run; other data, networks or lengths of training may answer otherwise."
    )


def _listed(words: Sequence[str]) -> str:
    *front, last = words
    return f"{', '.join(front)} and {last}" if front else last
