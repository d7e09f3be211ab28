"""The metrics of one target as statistics of weighted cases: the same for a value, its interval, a subgroup and a comparison."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fuse_examples.imaging.oai_example.evaluation import agreement, calibration
from fuse_examples.imaging.oai_example.evaluation import classification_metrics as metric
from fuse_examples.imaging.oai_example.evaluation.bootstrap import Estimate, Statistic, estimate
from fuse_examples.imaging.oai_example.evaluation.classified_cases import (
    AnyTarget,
    ClassifiedCase,
    ContinuousTarget,
    Known,
    Target,
    known_cases,
    measured_cases,
)
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap

CLASS_RULES = {
    "auc": "area under the ROC curve of the positive class; with more classes the mean of each class against the rest",
    "average_precision": "precision weighted by gain in recall, of the positive class; with more classes the mean of each against the rest",
    "balanced_accuracy": "mean recall of the classes that occur",
    "f1": "2 TP / (2 TP + FP + FN) of the positive class; with more classes the mean of those that occur",
    "accuracy": "share of cases whose class was predicted",
    "brier": "mean squared error of the probability of the positive class, 0 to 1; with more classes summed over all of them, 0 to 2",
    "calibration_error": "mean distance of predicted probability and observed share over cases, in 10 equal bins of the probability of the "
    "positive class; with more classes of the most probable one and whether it was right",
}
GRADE_RULES = {
    "quadratic_kappa": "Cohen's kappa with quadratic weights",
    "mae": "mean distance of predicted and true grade, in steps",
    "spearman": "rank correlation of the expected grade (the mean of the grades under their probabilities) with the true one",
}
NUMBER_RULES = {
    "mae": "mean distance of prediction and truth, in the column's own unit",
    "r2": "1 - squared error / squared deviation from the mean of the test cases; 0 is as good as that mean",
    "spearman": "rank correlation of prediction and truth",
}
PRIMARY = {"categorical": "auc", "ordinal": "quadratic_kappa", "continuous": "mae"}
"""By kind of target, the metric that stands for it where there is room for one."""
OF_CASES = ("accuracy",)
"""Metrics of classes whose intervals ask for enough patients only, not for enough of each class."""


@dataclass(frozen=True)
class Scored:
    """One target's metrics over the cases that have a value of it.

    Attributes:
        statistics: metric -> statistic of weighted cases.
        patients: of each case.
        names: true class of each case; None for numbers.
    """

    statistics: dict[str, Statistic]
    patients: list[str]
    names: list[str] | None

    def classes(self, name: str) -> list[str] | None:
        """Return the class of each case where the metric `name` needs enough patients of each class, else None."""
        return None if name in OF_CASES else self.names

    def intervals(self, settings: Bootstrap) -> dict[str, Any]:
        """Return every metric with its interval, as entries of metrics.json."""
        return {
            name: estimate_known(statistic, self.patients, self.classes(name), settings).as_dict()
            for name, statistic in self.statistics.items()
        }


def scored(cases: Sequence[ClassifiedCase], target: AnyTarget) -> Scored:
    """Return the metrics of a target over the cases that have a value of it. Raises ValueError as `known_cases`."""
    if isinstance(target, ContinuousTarget):
        measured = measured_cases(cases, target)
        pair = measured.truth, measured.predicted
        statistics = {
            "mae": agreement.mean_absolute_error(*pair),
            "r2": agreement.r_squared(*pair),
            "spearman": agreement.spearman(*pair),
        }
        return Scored(statistics, measured.patients, None)
    known = known_cases(cases, target)
    return Scored(class_target_statistics(known, target), known.patients, known.names)


def rules_of(target: AnyTarget) -> dict[str, str]:
    """Return the definition of each metric of a target."""
    if isinstance(target, ContinuousTarget):
        return NUMBER_RULES
    return GRADE_RULES | CLASS_RULES if target.ordinal else CLASS_RULES


def class_target_statistics(known: Known, target: Target) -> dict[str, Statistic]:
    """Return every metric of a target with classes by its name in metrics.json, grades' own first."""
    size = len(target.classes)
    statistics = {
        "auc": _ranking(metric.auc, known, target),
        "average_precision": _ranking(metric.average_precision, known, target),
        "balanced_accuracy": metric.balanced_accuracy(known.truth, known.predicted, size),
        "f1": metric.f1(known.truth, known.predicted, size, target.positive),
        "accuracy": metric.accuracy(known.truth, known.predicted),
        "brier": calibration.brier(known.truth, known.probabilities, target.positive),
        "calibration_error": calibration.calibration_error(*claims(known, target)),
    }
    if not target.ordinal:
        return statistics
    grades = {
        "quadratic_kappa": agreement.quadratic_kappa(known.truth, known.predicted, size),
        "mae": agreement.mean_absolute_error(known.truth, known.predicted),
        "spearman": agreement.spearman(known.truth, known.probabilities @ np.arange(size)),
    }
    return grades | statistics


def claims(known: Known, target: Target) -> tuple[Any, Any]:
    """Return what calibration is about: whether it is so, (n,), and the probability given to it, (n,)."""
    if target.positive is not None:
        return known.truth == target.positive, known.probabilities[:, target.positive]
    most = known.probabilities.argmax(axis=1) if len(known.truth) else known.truth
    return known.truth == most, known.probabilities.max(axis=1, initial=0.0)


def class_statistics(index: int, known: Known, target: Target) -> dict[str, Statistic]:
    """Return AUC and average precision of a class against the rest, and its F1."""
    truth, score = known.truth == index, known.probabilities[:, index]
    return {
        "auc": metric.auc(truth, score),
        "average_precision": metric.average_precision(truth, score),
        "f1": metric.f1(known.truth, known.predicted, len(target.classes), index),
    }


def estimate_known(statistic: Statistic, patients: Sequence[str], classes: Sequence[str] | None, settings: Bootstrap) -> Estimate:
    """Return a metric of the known cases with its interval, and the reason where it is undefined."""
    present = sorted(set(classes or ()))
    if not patients:
        why = "no case has a value for this target"
    elif len(present) == 1:
        why = f"all cases are of class {present[0]!r}"
    else:
        why = "not defined for these cases"
    return estimate(statistic, patients, classes=classes, why_undefined=why, settings=settings)


def _ranking(kind: Callable[..., Statistic], known: Known, target: Target) -> Statistic:
    """AUC or average precision: of the positive class, or the mean over the classes that occur, each against the rest."""
    if target.positive is not None:
        return kind(known.truth == target.positive, known.probabilities[:, target.positive])
    return metric.macro([kind(known.truth == index, known.probabilities[:, index]) for index in np.unique(known.truth)])
