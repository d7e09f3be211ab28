"""What a classification test writes: the table of cases and, per target, the metrics with their intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fuse_examples.imaging.oai_example.evaluation import classification_metrics as metric
from fuse_examples.imaging.oai_example.evaluation.baseline_results import RULE as BASELINE_RULE
from fuse_examples.imaging.oai_example.evaluation.baseline_results import Rival, baseline_metrics
from fuse_examples.imaging.oai_example.evaluation.baseline_table import write_baseline_table
from fuse_examples.imaging.oai_example.evaluation.calibration import calibration_curve
from fuse_examples.imaging.oai_example.evaluation.classified_cases import (
    AnyTarget,
    ClassifiedCase,
    Known,
    Target,
    case_cells,
    case_header,
    known_cases,
)
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap, patients_per_class
from fuse_examples.imaging.oai_example.evaluation.subgroups import subgroup_metrics
from fuse_examples.imaging.oai_example.evaluation.target_statistics import (
    claims,
    class_statistics,
    estimate_known,
    rules_of,
    scored,
)
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_json, write_table

INTERVAL_RULE = "percentile bootstrap over patients: a patient's cases are drawn together, stratified by class where one is rare"
ABSENT_RULE = "a class without a case is left out of means over classes and listed in absent_classes"


def target_metrics(
    cases: Sequence[ClassifiedCase], target: AnyTarget, settings: Bootstrap | None = None, rivals: Sequence[Rival] = ()
) -> dict[str, Any]:
    """Return one target's entry of metrics.json: metrics with intervals, counts, baselines, and what belongs to its kind."""
    settings = settings or Bootstrap()
    found = scored(cases, target)
    entry = found.intervals(settings)
    rules = rules_of(target) | {"interval": INTERVAL_RULE}
    if rivals:
        rules["baselines"] = BASELINE_RULE
    if isinstance(target, Target):
        entry |= _of_classes(known_cases(cases, target), target, settings)
        rules |= {"predicted class": decision_rule(target), "absent class": ABSENT_RULE}
    subgroups = subgroup_metrics(cases, lambda members: scored(members, target).intervals(settings))
    return entry | {
        "type": target.kind,
        **({"subgroups": subgroups} if subgroups else {}),
        **({"baselines": baseline_metrics(cases, target, rivals, settings)} if rivals else {}),
        "n_cases": len(found.patients),
        "n_patients": len(set(found.patients)),
        "n_missing": len(cases) - len(found.patients),
        "bootstrap": settings.as_dict(),
        "rules": rules,
    }


def write_classification_results(
    folder: Path,
    cases: Sequence[ClassifiedCase],
    targets: Sequence[AnyTarget],
    settings: Bootstrap | None = None,
    rivals: Mapping[str, Sequence[Rival]] | None = None,
) -> dict[str, Any]:
    """Write predictions.csv, baseline_predictions.csv and metrics.json into `folder`; return the metrics as written, target -> entry.

    `rivals`: target -> what its baselines predict for the same cases.
    """
    if not cases:
        raise ValueError("no cases to evaluate")
    metrics = {target.name: target_metrics(cases, target, settings, (rivals or {}).get(target.name, ())) for target in targets}
    groups = list(cases[0].groups)
    write_table(folder / "predictions.csv", case_header(targets, groups), (case_cells(case, targets, groups) for case in cases))
    write_baseline_table(folder, cases, targets, rivals or {})
    write_json(folder / "metrics.json", metrics)
    return metrics


def decision_rule(target: Target) -> str:
    """Say how probabilities become a class."""
    if target.ordinal:
        return "the median: the highest grade that is reached with a probability above one half"
    if target.threshold is None or target.positive is None:
        return "the most probable one"
    name = target.classes[target.positive]
    return f"{name!r} where its probability is at least {target.threshold:.6g}, chosen on validation cases"


def _of_classes(known: Known, target: Target, settings: Bootstrap) -> dict[str, Any]:
    """Return what a target with classes has besides its metrics: counts, the confusion matrix, the calibration curve, each class's own."""
    per_class = patients_per_class(known.patients, known.names)
    entry: dict[str, Any] = {}
    if target.positive is None:
        entry["per_class"] = {name: _one_class(index, known, target, settings) for index, name in enumerate(target.classes)}
    if target.threshold is not None:
        entry["threshold"] = {"value": target.threshold, "chosen": "on validation cases, for the highest balanced accuracy"}
    return entry | {
        "classes": list(target.classes),
        "positive_class": None if target.positive is None else target.classes[target.positive],
        "absent_classes": [name for name in target.classes if name not in per_class],
        "cases_per_class": {name: known.names.count(name) for name in target.classes},
        "patients_per_class": {name: per_class.get(name, 0) for name in target.classes},
        "confusion": _confusion_counts(known, len(target.classes)),
        "calibration_curve": calibration_curve(*claims(known, target)),
    }


def _one_class(index: int, known: Known, target: Target, settings: Bootstrap) -> dict[str, Any]:
    """Return AUC and average precision of a class against the rest, and its F1, with intervals."""
    name = target.classes[index]
    sides = [name if other == name else f"not {name}" for other in known.names]
    statistics = class_statistics(index, known, target)
    return {what: estimate_known(statistic, known.patients, sides, settings).as_dict() for what, statistic in statistics.items()}


def _confusion_counts(known: Known, size: int) -> list[list[int]]:
    counts = metric.confusion(known.truth, known.predicted, size)(np.ones((1, len(known.names))))[0]
    return [[int(count) for count in row] for row in counts]
