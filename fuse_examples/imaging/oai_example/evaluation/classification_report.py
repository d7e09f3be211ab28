"""The report of a classification test; every figure in it is read from the content of metrics.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.evaluation.baseline_results import baseline_section
from fuse_examples.imaging.oai_example.evaluation.classification_pictures import class_pictures, number_pictures
from fuse_examples.imaging.oai_example.evaluation.classified_cases import AnyTarget, ClassifiedCase, ContinuousTarget, Target
from fuse_examples.imaging.oai_example.evaluation.plain_words import MEANINGS, reading_section
from fuse_examples.imaging.oai_example.evaluation.report import Block, Paragraph, Report, Section, Table
from fuse_examples.imaging.oai_example.evaluation.run_facts import (
    RunFacts,
    curves_section,
    data_section,
    interval_text,
    intervals_explained,
    level_text,
    notes_of,
    repeat_section,
    run_section,
    three_digits,
)
from fuse_examples.imaging.oai_example.evaluation.subgroups import subgroup_section
from fuse_examples.imaging.oai_example.evaluation.target_statistics import PRIMARY, rules_of

READABLE = {
    "auc": "AUC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "accuracy": "accuracy",
    "brier": "Brier score",
    "calibration_error": "calibration error",
    "quadratic_kappa": "quadratic kappa",
    "mae": "mean absolute error",
    "r2": "R²",
    "spearman": "rank correlation",
}
OF_SUBGROUPS = {
    "categorical": ("auc", "average_precision", "balanced_accuracy", "brier"),
    "ordinal": ("quadratic_kappa", "mae", "balanced_accuracy"),
    "continuous": ("mae", "r2", "spearman"),
}
"""By kind of target, the metrics that the tables per subgroup show; metrics.json has all."""


def write_classification_report(
    folder: Path,
    run: RunFacts,
    cases: Sequence[ClassifiedCase],
    targets: Sequence[AnyTarget],
    metrics: Mapping[str, Any],
    explanations: Sequence[Section] = (),
) -> Path:
    """Write report.html and its plots (roc_, precision_recall_, confusion_, calibration_ or scatter_<target>.png) into the test folder.

    Args:
        folder: the test folder.
        run: what was run.
        cases: the classified cases.
        targets: the targets, as given to `write_classification_results`.
        metrics: what that returned.
        explanations: where the network looked.
    """
    sections = [_headline(targets, metrics), run_section(run), data_section(cases, run), curves_section(run)]
    for target in targets:
        entry = metrics[target.name]
        sections.append(_target_section(folder, target, cases, entry))
        sections += baseline_section(target, entry, READABLE)
        chosen = {name: READABLE[name] for name in OF_SUBGROUPS[target.kind]}
        sections += subgroup_section(f"{target.name} in subgroups", entry.get("subgroups", {}), chosen)
    sections += [*explanations, _reading(targets, metrics), repeat_section(run)]
    patients = len({case.patient for case in cases})
    folds = f", test folds: {', '.join(run.test_folds)}" if run.test_folds else ""
    path = folder / "report.html"
    Report(f"Classification test: {run.experiment}", f"{len(cases)} cases of {patients} patients{folds}", sections).write(path)
    return path


def _headline(targets: Sequence[AnyTarget], metrics: Mapping[str, Any]) -> Section:
    lines: list[Block] = []
    for target in targets:
        name = PRIMARY[target.kind]
        entry = metrics[target.name][name]
        interval = "" if entry["low"] is None else f" ({level_text(metrics[target.name])} confidence interval {interval_text(entry)})"
        lines.append(Paragraph(f"{target.name}: {READABLE[name]} {three_digits(entry['value'])}{interval}", "headline"))
    # Before the first table, a reader who does not know the metric is told what it is, once for each.
    meanings = {READABLE[PRIMARY[target.kind]]: MEANINGS[READABLE[PRIMARY[target.kind]]] for target in targets}
    lines += [Paragraph(f"{name}: {meaning[0].lower()}{meaning[1:]}") for name, meaning in meanings.items()]
    return Section("Result", lines)


def _target_section(folder: Path, target: AnyTarget, cases: Sequence[ClassifiedCase], entry: Mapping[str, Any]) -> Section:
    metrics = {READABLE[name]: entry[name] for name in rules_of(target)}
    rows = [_row(readable, value) for readable, value in metrics.items()]
    header = ["metric", "value", f"{level_text(entry)} interval", "cases", "patients"]
    blocks: list[Block] = [Paragraph(_meaning(target, entry)), Table(header, rows)]
    if isinstance(target, Target):
        blocks.append(_class_table(target, entry))
        blocks += _as_called(target, entry)
    if "per_class" in entry:
        each = [(f"{name} ({READABLE[what]})", value) for name, values in entry["per_class"].items() for what, value in values.items()]
        metrics |= dict(each)
    blocks += [Paragraph(text, "note") for text in notes_of(metrics)]
    pictures = class_pictures(folder, target, cases, entry) if isinstance(target, Target) else number_pictures(folder, target, cases)
    return Section(target.name, [*blocks, *pictures, *_decision(target, entry)])


def _row(name: str, entry: Mapping[str, Any]) -> list[str]:
    return [name, three_digits(entry["value"]), interval_text(entry), str(entry["n_cases"]), str(entry["n_patients"])]


def _class_table(target: Target, entry: Mapping[str, Any]) -> Table:
    """Count each class; with more than two, add its own metrics with their intervals."""
    own = entry.get("per_class", {})
    columns = [READABLE[what] for what in own[target.classes[0]]] if own else []
    rows = []
    for name in target.classes:
        counts = [str(entry["cases_per_class"][name]), str(entry["patients_per_class"][name])]
        rows.append([name, *counts, *(_value_and_interval(value) for value in own.get(name, {}).values())])
    return Table(["class against the rest" if own else "class", "cases", "patients", *columns], rows)


def _value_and_interval(entry: Mapping[str, Any]) -> str:
    return three_digits(entry["value"]) + ("" if entry["low"] is None else f" ({interval_text(entry)})")


def _meaning(target: AnyTarget, entry: Mapping[str, Any]) -> str:
    missing = f" {entry['n_missing']} cases have no value for this target." if entry["n_missing"] else ""
    if isinstance(target, ContinuousTarget):
        return f"A number, in the column's own unit.{missing}"
    what = f"Positive class: {entry['positive_class']}." if entry["positive_class"] else "Means over the classes, each against the rest."
    grades = f" Grades: {', '.join(target.classes)}." if target.ordinal else ""
    absent = f" Without a case, left out: {', '.join(entry['absent_classes'])}." if entry["absent_classes"] else ""
    return what + grades + absent + missing


def _as_called(target: Target, entry: Mapping[str, Any]) -> list[Block]:
    """With two classes, what physicians ask of a test, counted in the confusion matrix; none where no case is known."""
    if target.positive is None or not entry["n_cases"]:
        return []
    positive, negative = target.positive, 1 - target.positive
    counts = entry["confusion"]
    name, other = target.classes[positive], target.classes[negative]
    called = [counts[0][index] + counts[1][index] for index in range(2)]
    rows = [
        ["sensitivity", f"of {name}, called so", _share(counts[positive][positive], sum(counts[positive]))],
        ["specificity", f"of {other}, called so", _share(counts[negative][negative], sum(counts[negative]))],
        ["positive predictive value", f"of called {name}, in truth so", _share(counts[positive][positive], called[positive])],
        ["negative predictive value", f"of called {other}, in truth so", _share(counts[negative][negative], called[negative])],
    ]
    caption = f"As called, counted in the confusion matrix; predictive values hold where {name} is as frequent as here"
    return [Table(["at the threshold", "cases", "share"], rows, caption)]


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole}" + (f" ({part / whole:.1%})" if whole else "")


def _decision(target: AnyTarget, entry: Mapping[str, Any]) -> list[Block]:
    """How a class is called, where there are classes."""
    rule = entry["rules"].get("predicted class")
    return [Paragraph(f"Predicted class: {rule}.", "note")] if rule else []


def _reading(targets: Sequence[AnyTarget], metrics: Mapping[str, Any]) -> Section:
    """What the metrics of all targets mean, and how they are defined."""
    how: dict[str, str] = {}
    for target in targets:
        how |= {READABLE[name]: rule for name, rule in metrics[target.name]["rules"].items() if name in READABLE}
    asked = ["sensitivity", "specificity"] if any(isinstance(one, Target) and one.positive is not None for one in targets) else []
    first = metrics[targets[0].name]
    more = f"Intervals: {intervals_explained(first)} {first['rules']['interval'].capitalize()}."
    return reading_section([*(name for name in READABLE.values() if name in how), *asked], more, how=how)
