"""The report of a classification test; every figure in it is read from the content of metrics.json."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fuse_examples.imaging.oai_example.evaluation.classification_metrics import precision_recall_curve, roc_curve
from fuse_examples.imaging.oai_example.evaluation.classified_cases import ClassifiedCase, Known, Target, known_cases
from fuse_examples.imaging.oai_example.evaluation.figures import confusion_plot, precision_recall_plot, roc_plot, save_png
from fuse_examples.imaging.oai_example.evaluation.report import Block, Paragraph, Picture, Report, Row, Section, Table
from fuse_examples.imaging.oai_example.evaluation.run_facts import (
    RunFacts,
    configuration_section,
    curves_section,
    data_section,
    interval_text,
    level_text,
    notes_of,
    run_section,
    three_digits,
)

READABLE = {
    "auc": "AUC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "accuracy": "accuracy",
}


def write_classification_report(
    folder: Path, run: RunFacts, cases: Sequence[ClassifiedCase], targets: Sequence[Target], metrics: Mapping[str, Any]
) -> Path:
    """Write report.html and its plots (roc_, precision_recall_ and confusion_<target>.png) into the test folder.

    Args:
        folder: the test folder.
        run: what was run.
        cases: the classified cases.
        targets: the targets, as given to `write_classification_results`.
        metrics: what that returned.
    """
    sections = [_headline(targets, metrics), run_section(run), data_section(cases)]
    sections += [_target_section(folder, target, known_cases(cases, target), metrics[target.name]) for target in targets]
    sections += [*curves_section(run.curves), configuration_section(run)]
    patients = len({case.patient for case in cases})
    folds = f", test folds: {', '.join(run.test_folds)}" if run.test_folds else ""
    path = folder / "report.html"
    Report(f"Classification test: {run.experiment}", f"{len(cases)} cases of {patients} patients{folds}", sections).write(path)
    return path


def _headline(targets: Sequence[Target], metrics: Mapping[str, Any]) -> Section:
    lines: list[Block] = []
    for target in targets:
        entry = metrics[target.name]["auc"]
        interval = "" if entry["low"] is None else f" ({level_text(metrics[target.name])} confidence interval {interval_text(entry)})"
        lines.append(Paragraph(f"{target.name}: AUC {three_digits(entry['value'])}{interval}", "headline"))
    return Section("Result", lines)


def _target_section(folder: Path, target: Target, known: Known, entry: Mapping[str, Any]) -> Section:
    metrics = {readable: entry[name] for name, readable in READABLE.items()}
    rows = [_row(readable, value) for readable, value in metrics.items()]
    header = ["metric", "value", f"{level_text(entry)} interval", "cases", "patients"]
    blocks: list[Block] = [Paragraph(_meaning(target, entry)), Table(header, rows), _class_table(target, entry)]
    if "per_class" in entry:
        each = [(f"{name} ({READABLE[what]})", value) for name, values in entry["per_class"].items() for what, value in values.items()]
        metrics |= dict(each)
    blocks += [Paragraph(text, "note") for text in notes_of(metrics)]
    return Section(target.name, [*blocks, *_pictures(folder, target, known, entry), Paragraph(_rules(entry), "note")])


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


def _meaning(target: Target, entry: Mapping[str, Any]) -> str:
    what = f"Positive class: {entry['positive_class']}." if entry["positive_class"] else "Means over the classes, each against the rest."
    absent = f" Without a case, left out: {', '.join(entry['absent_classes'])}." if entry["absent_classes"] else ""
    missing = f" {entry['n_missing']} cases have no value for this target." if entry["n_missing"] else ""
    return what + absent + missing


def _rules(entry: Mapping[str, Any]) -> str:
    settings, rules = entry["bootstrap"], entry["rules"]
    definitions = ". ".join(f"{readable[0].upper() + readable[1:]}: {rules[name]}" for name, readable in READABLE.items())
    return (
        f"{definitions}. Predicted class: {rules['predicted class']}. Intervals: {rules['interval']}, {settings['n_resamples']} resamples."
    )


def _pictures(folder: Path, target: Target, known: Known, entry: Mapping[str, Any]) -> list[Block]:
    """Draw the curves of the classes that have cases on both sides, and the confusion matrix."""
    shown = [index for index in np.unique(known.truth).tolist() if 0 < np.sum(known.truth == index) < len(known.truth)]
    if target.positive is not None:
        shown = [index for index in shown if index == target.positive]
    pictures: list[Block] = []
    if shown:
        pictures += [_roc(folder, target, known, entry, shown), _precision_recall(folder, target, known, entry, shown)]
    if known.names:
        figure = confusion_plot(np.array(entry["confusion"]), target.classes)
        png = save_png(figure, folder / f"confusion_{_file_part(target)}.png")
        alt = f"Confusion matrix of {target.name}: {entry['confusion']}"
        width = 240 + 80 * len(target.classes)
        pictures.append(Picture(png, alt, "Confusion matrix: cases, and their share of the true class.", width))
    return [Row(pictures)] if pictures else []


def _roc(folder: Path, target: Target, known: Known, entry: Mapping[str, Any], shown: Sequence[int]) -> Picture:
    curves = {_legend(target, entry, index, "auc"): roc_curve(known.truth == index, known.probabilities[:, index]) for index in shown}
    png = save_png(roc_plot(curves), folder / f"roc_{_file_part(target)}.png")
    return Picture(png, f"ROC curve: {', '.join(curves)}", "ROC curve.", 440)


def _precision_recall(folder: Path, target: Target, known: Known, entry: Mapping[str, Any], shown: Sequence[int]) -> Picture:
    names = {index: _legend(target, entry, index, "average_precision") for index in shown}
    curves = {names[index]: precision_recall_curve(known.truth == index, known.probabilities[:, index]) for index in shown}
    shares = {names[index]: float(np.mean(known.truth == index)) for index in shown}
    png = save_png(precision_recall_plot(curves, shares), folder / f"precision_recall_{_file_part(target)}.png")
    return Picture(png, f"Precision-recall curve: {', '.join(curves)}", "Precision-recall curve; dotted: share of the class.", 440)


def _legend(target: Target, entry: Mapping[str, Any], index: int, what: str) -> str:
    name = target.classes[index]
    values = entry if target.positive is not None else entry["per_class"][name]
    return f"{name} ({'AUC' if what == 'auc' else 'AP'} {three_digits(values[what]['value'])})"


def _file_part(target: Target) -> str:
    return re.sub(r"[^\w.-]", "_", target.name)
