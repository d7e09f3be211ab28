"""What the cells of a study of label efficiency found, per test case: small enough to be kept for good, enough to compute all else from.

The file is JSON, one line for the study and one for each cell. It names cases and patients as the table does, and holds no image.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.evaluation.bootstrap import Statistic, mean_of, point_value
from fuse_examples.imaging.oai_example.evaluation.classified_cases import AnyTarget, ClassifiedCase, ContinuousTarget, Target
from fuse_examples.imaging.oai_example.evaluation.target_statistics import scored
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_whole

FORMAT = 1
METRIC = {"categorical": "auc", "ordinal": "quadratic_kappa", "continuous": "r2"}
"""By kind of target the metric that is compared; of all of them the larger is the better."""
NAMES = {"auc": "AUC", "quadratic_kappa": "quadratic kappa", "r2": "R²"}


@dataclass(frozen=True)
class TestedCase:
    """One case that every cell was tested on; `truth` is its class or number, None for a segmenter or an empty cell."""

    name: str
    patient: str
    truth: str | None = None


@dataclass(frozen=True)
class CellResult:
    """One cell.

    Attributes:
        initialisation, budget, seed, learning_rate: which one; the budget as tables name it ("n4").
        n_train, n_val, n_train_cases, n_val_cases: patients and cases that it learnt from and was validated on.
        curve: (optimiser step, score) of every validation.
        scores: by test case, in their order: a number, None where undefined (segmentation, continuous targets); else class probabilities.
        seconds: what training and testing took.
    """

    initialisation: str
    budget: str
    seed: int
    learning_rate: float
    n_train: int
    n_val: int
    n_train_cases: int
    n_val_cases: int
    curve: tuple[tuple[int, float], ...]
    scores: tuple[Any, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, int]:
        """What there is one cell of."""
        return self.initialisation, self.budget, self.seed

    @property
    def best(self) -> tuple[int, float]:
        """Step and score of the best validation, the first of equals; NaN where none was scored."""
        sound = [point for point in self.curve if not np.isnan(point[1])]
        return max(sound, key=lambda point: (point[1], -point[0])) if sound else (0, float("nan"))

    def steps_to(self, score: float) -> int | None:
        """The first validated step at which the score was reached; None where it never was."""
        return next((step for step, value in self.curve if value >= score), None)


@dataclass(frozen=True)
class StudyResults:
    """A study as far as it has come.

    Attributes:
        name: of the study.
        stage: "segmentation" or "classification".
        steps: optimiser steps of every cell.
        initialisations: names, the one that the others are compared with first.
        budgets: labels, in the order of the number of patients.
        target: facts of the compared column: name, kind, classes, positive; None for a segmenter.
        cases: the tested cases.
        protocol: what cells must share to stand in one table.
        notes: lines that a reader should know.
        cells: results.
    """

    name: str
    stage: str
    steps: int
    initialisations: tuple[str, ...]
    budgets: tuple[str, ...]
    target: Mapping[str, Any] | None
    cases: tuple[TestedCase, ...]
    protocol: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    cells: tuple[CellResult, ...] = ()

    @property
    def metric(self) -> str:
        """Name of the score as tables show it."""
        if self.target is None:
            return "mean Dice"
        return f"{NAMES[METRIC[self.target['kind']]]} of {self.target['name']}"

    @cached_property
    def scored_cases(self) -> list[int]:
        """Positions of the cases that can be scored: all of a segmenter, those with a truth of a classifier."""
        return [place for place, case in enumerate(self.cases) if self.target is None or case.truth is not None]

    @property
    def patients(self) -> list[str]:
        """The patient of each case that can be scored."""
        return [self.cases[place].patient for place in self.scored_cases]

    @property
    def classes(self) -> list[str] | None:
        """The true class of each of them; None where the score is not of classes."""
        if self.target is None or self.target["kind"] == "continuous":
            return None
        return [str(self.cases[place].truth) for place in self.scored_cases]

    def cell(self, initialisation: str, budget: str, seed: int) -> CellResult | None:
        """The cell, or None where it is not done."""
        return self._by_key.get((initialisation, budget, seed))

    @cached_property
    def _by_key(self) -> dict[tuple[str, str, int], CellResult]:
        return {cell.key: cell for cell in self.cells}

    def seeds(self, *initialisations: str, budget: str) -> list[int]:
        """The seeds with which all of the initialisations are done at a budget."""
        done = [{cell.seed for cell in self.cells if (cell.initialisation, cell.budget) == (name, budget)} for name in initialisations]
        return sorted(set.intersection(*done)) if done else []

    def n_train(self, budget: str) -> int:
        """Patients of a budget."""
        return next(cell.n_train for cell in self.cells if cell.budget == budget)

    def statistic(self, cell: CellResult) -> Statistic:
        """The score of a cell as a statistic of weighted cases, weights (R, n) -> (R,)."""
        if self.target is None:
            return mean_of([np.nan if score is None else score for score in cell.scores])
        target = _target(self.target)
        name = target.name
        cases = [
            ClassifiedCase(
                case.name,
                case.patient,
                "",
                0,
                {name: case.truth},
                {name: () if isinstance(target, ContinuousTarget) else scores},
                {name: scores} if isinstance(target, ContinuousTarget) else {},
            )
            for case, scores in zip(self.cases, cell.scores, strict=True)
        ]
        return scored(cases, target).statistics[METRIC[target.kind]]

    def score(self, cell: CellResult) -> float:
        """The score of a cell."""
        return point_value(self.statistic(cell), len(self.scored_cases))


def write_cells(results: StudyResults, path: Path) -> None:
    """Write the file, whole or not at all."""
    head = {name: value for name, value in asdict(results).items() if name != "cells"}
    head["cases"] = [list(asdict(case).values()) for case in results.cases]
    lines = [{"format": FORMAT, **head}, *(asdict(cell) for cell in results.cells)]
    write_whole(path, "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines))


def read_cells(paths: Sequence[Path]) -> StudyResults:
    """Read one file, or several of one study whose cells are put together.

    Raises:
        DataError: a file that cannot be read; files of different studies, or with different weights by one name; a cell in two files with
            different scores.
    """
    first, *others = (_read(path) for path in paths)
    cells = {cell.key: cell for cell in first.cells}
    for path, other in zip(paths[1:], others, strict=True):
        if not _comparable(first, other):
            raise DataError(
                f"{path}: is of another study than {paths[0]}: other settings, patients or weights. They cannot stand in one table."
            )
        if unlike := _unlike(first, other):
            raise DataError(
                f"{path}: {', '.join(unlike)} started from other weights or settings than in {paths[0]} (initialisations under protocol). "
                "Give them names of their own."
            )
        first = _with_what_is_told(first, other)
        for cell in other.cells:
            if cells.setdefault(cell.key, cell).scores != cell.scores:
                raise DataError(f"{path}: has other scores of {'_'.join(map(str, cell.key))} than another of the files. Keep one of them.")
    names = tuple(dict.fromkeys(name for one in (first, *others) for name in one.initialisations))
    merged = tuple(cells.values())
    sizes = {cell.budget: cell.n_train for cell in merged}
    return replace(first, cells=merged, initialisations=names, budgets=tuple(sorted(sizes, key=lambda label: (sizes[label], label))))


def _comparable(one: StudyResults, other: StudyResults) -> bool:
    """Whether two files are of one study. Settings that only one of them knows are younger than the other file."""
    same = (one.cases, one.target, one.steps, one.initialisations[0]) == (other.cases, other.target, other.steps, other.initialisations[0])
    return same and _agree(*({**results.protocol, "initialisations": {}} for results in (one, other)))


def _unlike(one: StudyResults, other: StudyResults) -> list[str]:
    """The initialisations that are not the same in both. Paths do not count: files may be moved, and have checksums."""
    ours, theirs = (
        {
            name: {key: value for key, value in entry.items() if key not in ("dino_weights", "suprem_weights")}
            for name, entry in results.protocol.get("initialisations", {}).items()
        }
        for results in (one, other)
    )
    return [name for name in ours if name in theirs and ours[name] != theirs[name]]


def _with_what_is_told(one: StudyResults, other: StudyResults) -> StudyResults:
    """The first with the second's initialisations in its protocol and with its notes."""
    entries = {**other.protocol.get("initialisations", {}), **one.protocol.get("initialisations", {})}
    protocol = {**one.protocol, "initialisations": entries} if entries else one.protocol
    return replace(one, protocol=protocol, notes=tuple(dict.fromkeys((*one.notes, *other.notes))))


def _agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two nested blocks have the same values of the keys that both have."""
    return all(
        _agree(one[key], other[key]) if isinstance(one[key], Mapping) and isinstance(other[key], Mapping) else one[key] == other[key]
        for key in one.keys() & other.keys()
    )


def _read(path: Path) -> StudyResults:
    try:
        head, *lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        if head.pop("format") != FORMAT:
            raise ValueError("another format")
        cells = tuple(CellResult(**{**line, "curve": tuple(map(tuple, line["curve"])), "scores": tuple(line["scores"])}) for line in lines)
        for name in ("initialisations", "budgets", "notes"):
            head[name] = tuple(head[name])
        return StudyResults(**{**head, "cases": tuple(TestedCase(*case) for case in head["cases"]), "cells": cells})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as the cells of a study ({error}). Give a cells.jsonl that a study wrote.") from error


def _target(facts: Mapping[str, Any]) -> AnyTarget:
    if facts["kind"] == "continuous":
        return ContinuousTarget(facts["name"])
    return Target(facts["name"], tuple(facts["classes"]), facts["positive"], facts["kind"] == "ordinal")
