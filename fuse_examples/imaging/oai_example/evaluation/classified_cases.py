"""Classified cases: what was true and what was predicted, in memory and back from `predictions.csv`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.evaluation.prediction_files import read_metrics, read_predictions


@dataclass(frozen=True)
class Target:
    """A column that was learned.

    Attributes:
        name: the column.
        classes: its classes in the order of the probabilities.
        positive_class: with two classes the one that metrics speak of; the second if not given. Unused with more.
    """

    name: str
    classes: tuple[str, ...]
    positive_class: str | None = None

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"target {self.name!r} has the classes {list(self.classes)}; at least two that differ are needed")
        if self.positive_class is not None and self.positive_class not in self.classes:
            raise ValueError(f"target {self.name!r} has no class {self.positive_class!r}, but {list(self.classes)}")

    @property
    def positive(self) -> int | None:
        """Index of the positive class; None with more than two classes."""
        if len(self.classes) > 2:
            return None
        return 1 if self.positive_class is None else self.classes.index(self.positive_class)


@dataclass(frozen=True)
class ClassifiedCase:
    """What is known of one classified case.

    Attributes:
        name: the case's name.
        patient: the patient it belongs to.
        fold: its fold in the CSV file.
        row: its line in the CSV file, the header being line 1.
        truth: target -> class; None where the cell is empty.
        probabilities: target -> probability of each class, in the order of the target's classes.
    """

    name: str
    patient: str
    fold: str
    row: int
    truth: Mapping[str, str | None]
    probabilities: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Known:
    """The cases that have a value for one target, as arrays."""

    patients: list[str]
    names: list[str]  # true class of each case
    truth: NDArray[np.int64]  # (n,)
    probabilities: NDArray[np.float64]  # (n, K)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each case, (n,)."""
        return np.asarray(np.argmax(self.probabilities, axis=1), dtype=np.int64)


def known_cases(cases: Sequence[ClassifiedCase], target: Target) -> Known:
    """Select the cases whose target is known.

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
    return Known(
        patients=[case.patient for case, _ in chosen],
        names=[name for _, name in chosen],
        truth=np.array([target.classes.index(name) for _, name in chosen], dtype=np.int64),
        probabilities=np.array([case.probabilities[target.name] for case, _ in chosen], dtype=np.float64).reshape(-1, len(target.classes)),
    )


def case_header(targets: Sequence[Target]) -> list[str]:
    """Return the header of `predictions.csv`."""
    header = ["case", "PatientID", "fold", "row"]
    for target in targets:
        header += [f"{target.name}_truth", f"{target.name}_predicted"]
        header += [f"{target.name}_probability_{name}" for name in target.classes]
    return header


def case_cells(case: ClassifiedCase, targets: Sequence[Target]) -> list[Any]:
    """Return a row of `predictions.csv`."""
    row: list[Any] = [case.name, case.patient, case.fold, case.row]
    for target in targets:
        probabilities = [float(value) for value in case.probabilities[target.name]]
        row += [case.truth[target.name], target.classes[int(np.argmax(probabilities))], *probabilities]
    return row


def read_classified(folder: Path) -> tuple[list[ClassifiedCase], list[Target]]:
    """Read what `write_classification_results` wrote into a test folder. Raises DataError."""
    metrics = read_metrics(folder)
    targets = [Target(name, tuple(entry["classes"]), entry["positive_class"]) for name, entry in metrics.items()]
    cases = [
        ClassifiedCase(
            row["case"],
            row["PatientID"],
            row["fold"],
            int(row["row"]),
            {target.name: row[f"{target.name}_truth"] or None for target in targets},
            {target.name: [float(row[f"{target.name}_probability_{name}"]) for name in target.classes] for target in targets},
        )
        for row in read_predictions(folder, case_header(targets))
    ]
    return cases, targets
