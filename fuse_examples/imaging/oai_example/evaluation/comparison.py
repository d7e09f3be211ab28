"""Tested runs held against each other on the same patients: which scores differ by more than chance.

The difference of two runs is a paired bootstrap: both are scored on the same resamples of patients (`paired_difference`). Of several
differences each p-value is corrected by Holm's method (Scand J Stat 1979): the chance of a single false alarm among all of them stays
below the level.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.evaluation.bootstrap import Difference, Statistic, mean_of, paired_difference, point_value
from fuse_examples.imaging.oai_example.evaluation.classified_cases import read_classified
from fuse_examples.imaging.oai_example.evaluation.prediction_files import number, read_metrics, read_predictions, results_folder
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.target_statistics import PRIMARY, scored

SHOWN = 20
SAME_VOLUME = 1e-6  # relative difference of the true volumes that two runs measured on one mask


@dataclass(frozen=True)
class Score:
    """One metric of one run, over the cases in their common order, (n,)."""

    statistic: Statistic
    patients: Sequence[str]
    classes: Sequence[str] | None = None


@dataclass(frozen=True)
class TestedRun:
    """A run's test, read back.

    Attributes:
        name: the folder, as given.
        truth: case -> column -> true class as text, or true volume; the case is (PatientID, name).
        scores: metric's name ("auc of diagnosis", "dice of femur") -> score, over the cases in the order of `truth`.
        primary: those of them that are compared where nothing else is asked for.
        settings: the bootstrap of its own metrics.
    """

    name: str
    truth: Mapping[tuple[str, str], Mapping[str, str | float | None]]
    scores: Mapping[str, Score]
    primary: Sequence[str]
    settings: Bootstrap


@dataclass(frozen=True)
class Comparison:
    """A line of the table: `second` minus `first` in one metric; `holm` is the corrected p-value."""

    metric: str
    first: str
    second: str
    values: tuple[float | None, float | None]
    difference: Difference
    holm: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the line as compare.json has it."""
        names = {"metric": self.metric, "first": self.first, "second": self.second}
        both = {"first_value": self.values[0], "second_value": self.values[1]}
        found = {"difference" if key == "value" else key: value for key, value in self.difference.as_dict().items()}
        return names | both | found | {"p_holm": self.holm}


def read_tested_run(folder: Path) -> TestedRun:
    """Read the results of a classification or segmentation test. Raises DataError."""
    place = results_folder(folder)
    metrics = read_metrics(place)
    return _segmentation(folder, place, metrics) if "structures" in metrics else _classification(folder, place, metrics)


def compare_runs(runs: Sequence[TestedRun], metrics: Sequence[str] = (), settings: Bootstrap | None = None) -> list[Comparison]:
    """Compare each run after the first with the first, in each metric.

    Args:
        runs: two or more, of the same cases.
        metrics: names or beginnings of names ("auc", "dice", "dice of femur"); empty for the primary ones.
        settings: of the bootstrap; those of the first run by default.

    Raises:
        DataError: other cases or truths, or a metric that a run does not have.
    """
    first = runs[0]
    check_same_cases(runs)
    chosen = _chosen_metrics(runs, metrics)
    lines = []
    for other in runs[1:]:
        for name in chosen:
            one, two = first.scores[name], other.scores[name]
            difference = paired_difference(
                one.statistic, two.statistic, one.patients, classes=one.classes, settings=settings or first.settings
            )
            lines.append(Comparison(name, first.name, other.name, (_value(one), _value(two)), difference))
    corrected = holm([line.difference.p_value for line in lines])
    return [
        Comparison(line.metric, line.first, line.second, line.values, line.difference, p) for line, p in zip(lines, corrected, strict=True)
    ]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p-values for their number: the i-th smallest of m times m - i + 1, at least a smaller one's, at most 1. None stays None."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    so_far = 0.0
    for place, (p, index) in enumerate(known):
        so_far = max(so_far, min(1.0, p * (len(known) - place)))
        corrected[index] = so_far
    return corrected


def check_same_cases(runs: Sequence[TestedRun]) -> None:
    """Refuse runs whose test cases or truths differ from the first's. Raises DataError with all of them."""
    first = runs[0]
    problems: list[str] = []
    for other in runs[1:]:
        for one, two in ((first, other), (other, first)):
            lone = sorted(set(one.truth) - set(two.truth))
            if lone:
                problems.append(f"{one.name} tests {len(lone)} case(s) that {two.name} does not: {_listed(_case(*case) for case in lone)}.")
        both = sorted(set(first.truth) & set(other.truth))
        differing = [case for case in both if not _same_truth(first.truth[case], other.truth[case])]
        if differing:
            told = (f"{_case(*case)} ({_told(first.truth[case])} and {_told(other.truth[case])})" for case in differing)
            problems.append(f"{first.name} and {other.name} differ in the truth of {len(differing)} case(s): {_listed(told)}.")
    if problems:
        raise DataError([*problems, "Runs can be compared on the same patients with the same truth only: test them on the same folds."])


def _classification(folder: Path, place: Path, metrics: Mapping[str, Any]) -> TestedRun:
    cases, targets = read_classified(place)
    cases.sort(key=lambda case: (case.patient, case.name))
    scores: dict[str, Score] = {}
    for target in targets:
        found = scored(cases, target)
        for name, statistic in found.statistics.items():
            scores[f"{name} of {target.name}"] = Score(statistic, found.patients, found.classes(name))
    truth = {(case.patient, case.name): dict(case.truth) for case in cases}
    return TestedRun(
        str(folder), truth, scores, [f"{PRIMARY[target.kind]} of {target.name}" for target in targets], _settings(metrics[targets[0].name])
    )


def _segmentation(folder: Path, place: Path, metrics: Mapping[str, Any]) -> TestedRun:
    names = [name for name, entry in metrics.items() if isinstance(entry, dict) and "mean" in entry and "value" in (entry["mean"] or {})]
    true = {structure: f"true_volume_ml_{structure}" for structure in metrics["structures"]}
    columns = {f"{name} of {structure}": f"{name}_{structure}" for name in names for structure in metrics[name]}
    rows = sorted(
        read_predictions(place, ["case", "PatientID", *columns.values(), *true.values()]), key=lambda row: (row["PatientID"], row["case"])
    )
    patients = [row["PatientID"] for row in rows]
    scores = {name: Score(mean_of([number(row[column]) for row in rows]), patients) for name, column in columns.items()}
    truth = {(row["PatientID"], row["case"]): {name: number(row[column]) for name, column in true.items()} for row in rows}
    return TestedRun(str(folder), truth, scores, [f"dice of {structure}" for structure in metrics["dice"]], _settings(metrics))


def _settings(entry: Mapping[str, Any]) -> Bootstrap:
    told = entry["bootstrap"]
    return Bootstrap(told["n_resamples"], told["level"], told["seed"])


def _chosen_metrics(runs: Sequence[TestedRun], wanted: Sequence[str]) -> list[str]:
    if not wanted:
        chosen = list(runs[0].primary)
    else:
        chosen = [name for name in runs[0].scores if any(name == word or name.startswith(f"{word} of ") for word in wanted)]
        unknown = [word for word in wanted if not any(name == word or name.startswith(f"{word} of ") for name in runs[0].scores)]
        if unknown:
            raise DataError(f"{runs[0].name} has no metric {', '.join(unknown)}; it has {', '.join(runs[0].scores)}.")
    lacking = [(run.name, name) for run in runs for name in chosen if name not in run.scores]
    if lacking:
        raise DataError(
            [f"{run} has no metric '{name}', which {runs[0].name} has: the runs are of different tasks." for run, name in lacking]
        )
    return chosen


def _value(score: Score) -> float | None:
    value = point_value(score.statistic, len(score.patients))
    return None if np.isnan(value) else value


def _same_truth(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    if one.keys() != two.keys():
        return False
    for name, value in one.items():
        if isinstance(value, float) and isinstance(two[name], float):
            if not np.isclose(value, two[name], rtol=SAME_VOLUME, atol=0):
                return False
        elif value != two[name]:
            return False
    return True


def _case(patient: str, name: str) -> str:
    return patient if patient == name else f"{patient} ({name})"


def _told(truth: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {'nothing' if value is None else value}" for name, value in truth.items())


def _listed(words: Iterable[str]) -> str:
    every = list(words)
    return ", ".join(every[:SHOWN]) + (f", ... and {len(every) - SHOWN} more" if len(every) > SHOWN else "")
