"""Predicted cases of a classifier: what was true and what was predicted, in memory and back from `predictions.csv`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.evaluation.prediction_files import IDENTIFIERS, read_metrics, read_predictions


@dataclass(frozen=True)
class Target:
    """A column of classes that was learned.

    Attributes:
        name: the column.
        classes: its classes in the order of the probabilities; of an ordinal target in their own order.
        positive_class: with two classes the one that metrics speak of; the second if not given. Unused with more, and of ordinal ones.
        ordinal: whether the classes are grades.
        threshold: probability of the positive class from which on it is predicted; None: the most probable class is.
    """

    name: str
    classes: tuple[str, ...]
    positive_class: str | None = None
    ordinal: bool = False
    threshold: float | None = None

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"target {self.name!r} has the classes {list(self.classes)}; at least two that differ are needed")
        if self.positive_class is not None and self.positive_class not in self.classes:
            raise ValueError(f"target {self.name!r} has no class {self.positive_class!r}, but {list(self.classes)}")

    @property
    def kind(self) -> str:
        """Its name in target_types."""
        return "ordinal" if self.ordinal else "categorical"

    @property
    def positive(self) -> int | None:
        """Index of the positive class; None with more than two classes."""
        if len(self.classes) > 2:
            return None
        return 1 if self.positive_class is None else self.classes.index(self.positive_class)

    def decide(self, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
        """Turn probabilities (n, K) into class indices (n,).

        Two classes: the positive one from the threshold on, else the more probable one. Grades: the median, the highest grade that is
        reached with a probability above one half. More classes: the most probable.
        """
        if self.ordinal:
            reached = np.cumsum(probabilities[:, ::-1], axis=1)[:, ::-1][:, 1:]
            return np.asarray((reached > 0.5).sum(axis=1), dtype=np.int64)
        if self.threshold is None or self.positive is None:
            return np.asarray(np.argmax(probabilities, axis=1), dtype=np.int64)
        called = probabilities[:, self.positive] >= self.threshold
        return np.where(called, self.positive, 1 - self.positive)


@dataclass(frozen=True)
class ContinuousTarget:
    """A column of numbers that was learned."""

    name: str

    @property
    def kind(self) -> str:
        """Its name in target_types."""
        return "continuous"


AnyTarget = Target | ContinuousTarget


@dataclass(frozen=True)
class ClassifiedCase:
    """What is known of one case.

    Attributes:
        name: the case's name.
        patient: the patient it belongs to.
        fold: its fold in the CSV file.
        row: its line in the CSV file, the header being line 1.
        truth: target -> class, or number as text; None where the cell is empty.
        probabilities: target -> probability of each class, in the order of the target's classes.
        values: continuous target -> predicted number.
        groups: column of `report_by` -> value; None where the cell is empty.
        called: target -> predicted class where it is decided already, as in a table read back; else the target decides.
    """

    name: str
    patient: str
    fold: str
    row: int
    truth: Mapping[str, str | None]
    probabilities: Mapping[str, Sequence[float]]
    values: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, str | None] = field(default_factory=dict)
    called: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """The cases that have a class of one target, as arrays."""

    patients: list[str]
    names: list[str]  # true class of each case
    truth: NDArray[np.int64]  # (n,)
    probabilities: NDArray[np.float64]  # (n, K)
    predicted: NDArray[np.int64]  # (n,)


@dataclass(frozen=True)
class Measured:
    """The cases that have a value of one continuous target, as arrays."""

    patients: list[str]
    truth: NDArray[np.float64]  # (n,)
    predicted: NDArray[np.float64]  # (n,)


def known_cases(cases: Sequence[ClassifiedCase], target: Target) -> Known:
    """Select the cases whose class is known.

    Raises:
        ValueError: an unknown class, or probabilities that are too few or not finite; it names the case.
    """
    for case in cases:
        name, probabilities = case.truth[target.name], case.probabilities[target.name]
        if name is not None and name not in target.classes:
            raise ValueError(f"{case.name}: {target.name} is {name!r}; the classes are {list(target.classes)}")
        if len(probabilities) != len(target.classes) or not np.isfinite(probabilities).all():
            raise ValueError(
                f"{case.name}: probabilities of {target.name} are {list(probabilities)}; expected {len(target.classes)} numbers"
            )
    chosen = [(case, name) for case in cases if (name := case.truth[target.name]) is not None]
    values = [case.probabilities[target.name] for case, _ in chosen]
    probabilities_of_all = np.array(values, dtype=np.float64).reshape(-1, len(target.classes))
    predicted = target.decide(probabilities_of_all)
    for place, (case, _) in enumerate(chosen):
        if target.name in case.called:
            predicted[place] = target.classes.index(case.called[target.name])
    return Known(
        patients=[case.patient for case, _ in chosen],
        names=[name for _, name in chosen],
        truth=np.array([target.classes.index(name) for _, name in chosen], dtype=np.int64),
        probabilities=probabilities_of_all,
        predicted=predicted,
    )


def measured_cases(cases: Sequence[ClassifiedCase], target: ContinuousTarget) -> Measured:
    """Select the cases whose value is known. Raises ValueError for a prediction that is not finite; it names the case."""
    for case in cases:
        if not np.isfinite(case.values[target.name]):
            raise ValueError(f"{case.name}: the prediction of {target.name} is {case.values[target.name]}; expected a number")
    chosen = [(case, float(text)) for case in cases if (text := case.truth[target.name]) is not None]
    truth = np.array([value for _, value in chosen], dtype=np.float64)
    return Measured(
        [case.patient for case, _ in chosen], truth, np.array([case.values[target.name] for case, _ in chosen], dtype=np.float64)
    )


def case_header(targets: Sequence[AnyTarget], groups: Sequence[str] = ()) -> list[str]:
    """Return the header of `predictions.csv`."""
    header = [*IDENTIFIERS, *(name for name in groups if name not in IDENTIFIERS)]
    for target in targets:
        header += [f"{target.name}_truth", f"{target.name}_predicted"]
        if isinstance(target, Target):
            header += [f"{target.name}_probability_{name}" for name in target.classes]
    return header


def case_cells(case: ClassifiedCase, targets: Sequence[AnyTarget], groups: Sequence[str] = ()) -> list[Any]:
    """Return a row of `predictions.csv`."""
    row: list[Any] = [case.name, case.patient, case.fold, case.row, *(case.groups[name] for name in groups if name not in IDENTIFIERS)]
    for target in targets:
        if isinstance(target, Target):
            probabilities = [float(value) for value in case.probabilities[target.name]]
            decided = target.classes[int(target.decide(np.array([probabilities]))[0])]
            row += [case.truth[target.name], case.called.get(target.name, decided), *probabilities]
        else:
            row += [case.truth[target.name], float(case.values[target.name])]
    return row


def read_classified(folder: Path) -> tuple[list[ClassifiedCase], list[AnyTarget]]:
    """Read what `write_classification_results` wrote into a test folder. Raises DataError."""
    metrics = read_metrics(folder)
    targets = [_target(name, entry) for name, entry in metrics.items()]
    groups = list(next(iter(metrics.values())).get("subgroups", {}))
    cases = []
    for row in read_predictions(folder, case_header(targets, groups)):
        probabilities = {
            target.name: [float(row[f"{target.name}_probability_{name}"]) for name in target.classes]
            for target in targets
            if isinstance(target, Target)
        }
        values = {target.name: float(row[f"{target.name}_predicted"]) for target in targets if isinstance(target, ContinuousTarget)}
        truth = {target.name: row[f"{target.name}_truth"] or None for target in targets}
        group = {name: row[name] or None for name in groups}
        called = {target.name: row[f"{target.name}_predicted"] for target in targets if isinstance(target, Target)}
        who = row["case"], row["PatientID"], row["fold"], int(row["row"])
        cases.append(ClassifiedCase(*who, truth, probabilities, values, group, called))
    return cases, targets


def _target(name: str, entry: Mapping[str, Any]) -> AnyTarget:
    if entry.get("type") == "continuous":
        return ContinuousTarget(name)
    threshold = (entry.get("threshold") or {}).get("value")
    return Target(name, tuple(entry["classes"]), entry["positive_class"], entry.get("type") == "ordinal", threshold)
