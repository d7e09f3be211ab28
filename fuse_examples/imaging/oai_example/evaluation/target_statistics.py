"""The metrics of one target as statistics of weighted cases: the same for a value, its interval, a subgroup and a comparison."""

from collections.abc import Callable, Sequence

import numpy as np

from fuse_examples.imaging.oai_example.evaluation import classification_metrics as metric
from fuse_examples.imaging.oai_example.evaluation.bootstrap import Estimate, Statistic, estimate
from fuse_examples.imaging.oai_example.evaluation.classified_cases import Known, Target
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap

RULES = {
    "auc": "area under the ROC curve of the positive class; with more classes the mean of each class against the rest",
    "average_precision": "precision weighted by gain in recall, of the positive class; with more classes the mean of each against the rest",
    "balanced_accuracy": "mean recall of the classes that occur",
    "f1": "2 TP / (2 TP + FP + FN) of the positive class; with more classes the mean of those that occur",
    "accuracy": "share of cases whose class was predicted",
}
PRIMARY = "auc"
"""The metric that stands for a target where there is room for one."""
OF_CASES = ("accuracy",)
"""Metrics of single cases: their intervals ask for enough patients, not for enough of each class."""


def target_statistics(known: Known, target: Target) -> dict[str, Statistic]:
    """Return every metric of a target by its name in metrics.json."""
    size = len(target.classes)
    return {
        "auc": _ranking(metric.auc, known, target),
        "average_precision": _ranking(metric.average_precision, known, target),
        "balanced_accuracy": metric.balanced_accuracy(known.truth, known.predicted, size),
        "f1": metric.f1(known.truth, known.predicted, size, target.positive),
        "accuracy": metric.accuracy(known.truth, known.predicted),
    }


def class_statistics(index: int, known: Known, target: Target) -> dict[str, Statistic]:
    """Return AUC and average precision of a class against the rest, and its F1."""
    truth, score = known.truth == index, known.probabilities[:, index]
    return {
        "auc": metric.auc(truth, score),
        "average_precision": metric.average_precision(truth, score),
        "f1": metric.f1(known.truth, known.predicted, len(target.classes), index),
    }


def strata_names(name: str, known: Known) -> list[str] | None:
    """Return the class of each case where the metric `name` needs enough patients of each class, else None."""
    return None if name in OF_CASES else known.names


def estimate_known(statistic: Statistic, known: Known, classes: Sequence[str] | None, settings: Bootstrap) -> Estimate:
    """Return a metric of the known cases with its interval, and the reason where it is undefined."""
    present = sorted(set(classes or ()))
    if not known.names:
        why = "no case has a value for this target"
    elif len(present) == 1:
        why = f"all cases are of class {present[0]!r}"
    else:
        why = "not defined for these cases"
    return estimate(statistic, known.patients, classes=classes, why_undefined=why, settings=settings)


def _ranking(kind: Callable[..., Statistic], known: Known, target: Target) -> Statistic:
    """AUC or average precision: of the positive class, or the mean over the classes that occur, each against the rest."""
    if target.positive is not None:
        return kind(known.truth == target.positive, known.probabilities[:, target.positive])
    return metric.macro([kind(known.truth == index, known.probabilities[:, index]) for index in np.unique(known.truth)])
