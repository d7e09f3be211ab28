"""Predictions of classified cases: the table of cases and, per target, the metrics with their intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.evaluation import classification_metrics as metric
from fuse_examples.imaging.oai_example.evaluation.bootstrap import Estimate, Statistic, estimate
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap, patients_per_class
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_json, write_table

RULES = {
    "auc": "area under the ROC curve of the positive class; with more classes the mean of each class against the rest",
    "average_precision": "precision weighted by gain in recall, of the positive class; with more classes the mean of each against the rest",
    "balanced_accuracy": "mean recall of the classes that occur",
    "f1": "2 TP / (2 TP + FP + FN) of the positive class; with more classes the mean of those that occur",
    "accuracy": "share of cases whose class was predicted",
    "predicted class": "the most probable one",
    "absent class": "a class without a case is left out of means over classes and listed in absent_classes",
    "interval": "percentile bootstrap over patients: a patient's cases are drawn together, stratified by class where one is rare",
}


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


def target_metrics(cases: Sequence[ClassifiedCase], target: Target, settings: Bootstrap | None = None) -> dict[str, Any]:
    """Return one target's entry of metrics.json: metrics with intervals, classes, counts and the confusion matrix."""
    settings = settings or Bootstrap()
    known = known_cases(cases, target)
    size = len(target.classes)
    per_class = patients_per_class(known.patients, known.names)
    entry: dict[str, Any] = {
        "auc": _ranking(metric.auc, known, target, settings).as_dict(),
        "average_precision": _ranking(metric.average_precision, known, target, settings).as_dict(),
    }
    decisions = {
        "balanced_accuracy": metric.balanced_accuracy(known.truth, known.predicted, size),
        "f1": metric.f1(known.truth, known.predicted, size, target.positive),
    }
    for name, statistic in decisions.items():
        entry[name] = _estimate(statistic, known, known.names, settings).as_dict()
    entry["accuracy"] = _estimate(metric.accuracy(known.truth, known.predicted), known, None, settings).as_dict()
    if target.positive is None:
        entry["per_class"] = {name: _one_class(index, known, target, settings) for index, name in enumerate(target.classes)}
    return entry | {
        "classes": list(target.classes),
        "positive_class": None if target.positive is None else target.classes[target.positive],
        "absent_classes": [name for name in target.classes if name not in per_class],
        "cases_per_class": {name: known.names.count(name) for name in target.classes},
        "patients_per_class": {name: per_class.get(name, 0) for name in target.classes},
        "confusion": _confusion_counts(known, size),
        "n_cases": len(known.names),
        "n_patients": len(set(known.patients)),
        "n_missing": len(cases) - len(known.names),
        "bootstrap": settings.as_dict(),
        "rules": RULES,
    }


def write_classification_results(
    folder: Path, cases: Sequence[ClassifiedCase], targets: Sequence[Target], settings: Bootstrap | None = None
) -> dict[str, Any]:
    """Write predictions.csv and metrics.json into `folder`; return the metrics as written: target -> entry."""
    if not cases:
        raise ValueError("no cases to evaluate")
    metrics = {target.name: target_metrics(cases, target, settings) for target in targets}
    header = ["case", "PatientID", "fold", "row"]
    for target in targets:
        header += [f"{target.name}_truth", f"{target.name}_predicted"]
        header += [f"{target.name}_probability_{name}" for name in target.classes]
    write_table(folder / "predictions.csv", header, (_table_row(case, targets) for case in cases))
    write_json(folder / "metrics.json", metrics)
    return metrics


def _ranking(kind: Callable[..., Statistic], known: Known, target: Target, settings: Bootstrap) -> Estimate:
    """Estimate AUC or average precision: of the positive class, or the mean over the classes that occur, each against the rest."""
    if target.positive is not None:
        return _estimate(kind(known.truth == target.positive, known.probabilities[:, target.positive]), known, known.names, settings)
    each = [kind(known.truth == index, known.probabilities[:, index]) for index in np.unique(known.truth)]
    return _estimate(metric.macro(each), known, known.names, settings)


def _one_class(index: int, known: Known, target: Target, settings: Bootstrap) -> dict[str, Any]:
    """Return AUC and average precision of a class against the rest, and its F1."""
    name = target.classes[index]
    sides = [name if other == name else f"not {name}" for other in known.names]
    truth, score = known.truth == index, known.probabilities[:, index]
    statistics = {
        "auc": metric.auc(truth, score),
        "average_precision": metric.average_precision(truth, score),
        "f1": metric.f1(known.truth, known.predicted, len(target.classes), index),
    }
    return {what: _estimate(statistic, known, sides, settings).as_dict() for what, statistic in statistics.items()}


def _estimate(statistic: Statistic, known: Known, classes: Sequence[str] | None, settings: Bootstrap) -> Estimate:
    present = sorted(set(classes or ()))
    if not known.names:
        why = "no case has a value for this target"
    elif len(present) == 1:
        why = f"all cases are of class {present[0]!r}"
    else:
        why = "not defined for these cases"
    return estimate(statistic, known.patients, classes=classes, why_undefined=why, settings=settings)


def _confusion_counts(known: Known, size: int) -> list[list[int]]:
    counts = metric.confusion(known.truth, known.predicted, size)(np.ones((1, len(known.names))))[0]
    return [[int(count) for count in row] for row in counts]


def _table_row(case: ClassifiedCase, targets: Sequence[Target]) -> list[Any]:
    row: list[Any] = [case.name, case.patient, case.fold, case.row]
    for target in targets:
        probabilities = [float(value) for value in case.probabilities[target.name]]
        row += [case.truth[target.name], target.classes[int(np.argmax(probabilities))], *probabilities]
    return row
