"""What a classification test writes: the table of cases and, per target, the metrics with their intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fuse_examples.imaging.oai_example.evaluation import classification_metrics as metric
from fuse_examples.imaging.oai_example.evaluation.classified_cases import (
    ClassifiedCase,
    Known,
    Target,
    case_cells,
    case_header,
    known_cases,
)
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap, patients_per_class
from fuse_examples.imaging.oai_example.evaluation.target_statistics import (
    RULES,
    class_statistics,
    estimate_known,
    strata_names,
    target_statistics,
)
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_json, write_table

COMMON_RULES = {
    "predicted class": "the most probable one",
    "absent class": "a class without a case is left out of means over classes and listed in absent_classes",
    "interval": "percentile bootstrap over patients: a patient's cases are drawn together, stratified by class where one is rare",
}


def target_metrics(cases: Sequence[ClassifiedCase], target: Target, settings: Bootstrap | None = None) -> dict[str, Any]:
    """Return one target's entry of metrics.json: metrics with intervals, classes, counts and the confusion matrix."""
    settings = settings or Bootstrap()
    known = known_cases(cases, target)
    per_class = patients_per_class(known.patients, known.names)
    entry: dict[str, Any] = metrics_with_intervals(known, target, settings)
    if target.positive is None:
        entry["per_class"] = {name: _one_class(index, known, target, settings) for index, name in enumerate(target.classes)}
    return entry | {
        "classes": list(target.classes),
        "positive_class": None if target.positive is None else target.classes[target.positive],
        "absent_classes": [name for name in target.classes if name not in per_class],
        "cases_per_class": {name: known.names.count(name) for name in target.classes},
        "patients_per_class": {name: per_class.get(name, 0) for name in target.classes},
        "confusion": _confusion_counts(known, len(target.classes)),
        "n_cases": len(known.names),
        "n_patients": len(set(known.patients)),
        "n_missing": len(cases) - len(known.names),
        "bootstrap": settings.as_dict(),
        "rules": RULES | COMMON_RULES,
    }


def metrics_with_intervals(known: Known, target: Target, settings: Bootstrap) -> dict[str, Any]:
    """Return every metric of a target with its interval, as entries of metrics.json."""
    return {
        name: estimate_known(statistic, known, strata_names(name, known), settings).as_dict()
        for name, statistic in target_statistics(known, target).items()
    }


def write_classification_results(
    folder: Path, cases: Sequence[ClassifiedCase], targets: Sequence[Target], settings: Bootstrap | None = None
) -> dict[str, Any]:
    """Write predictions.csv and metrics.json into `folder`; return the metrics as written, target -> entry."""
    if not cases:
        raise ValueError("no cases to evaluate")
    metrics = {target.name: target_metrics(cases, target, settings) for target in targets}
    write_table(folder / "predictions.csv", case_header(targets), (case_cells(case, targets) for case in cases))
    write_json(folder / "metrics.json", metrics)
    return metrics


def _one_class(index: int, known: Known, target: Target, settings: Bootstrap) -> dict[str, Any]:
    """Return AUC and average precision of a class against the rest, and its F1, with intervals."""
    name = target.classes[index]
    sides = [name if other == name else f"not {name}" for other in known.names]
    statistics = class_statistics(index, known, target)
    return {what: estimate_known(statistic, known, sides, settings).as_dict() for what, statistic in statistics.items()}


def _confusion_counts(known: Known, size: int) -> list[list[int]]:
    counts = metric.confusion(known.truth, known.predicted, size)(np.ones((1, len(known.names))))[0]
    return [[int(count) for count in row] for row in counts]
