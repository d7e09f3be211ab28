"""The plots of a target in the report, each also a file of its own."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fuse_examples.imaging.oai_example.evaluation.agreement_figures import calibration_plot, scatter_plot
from fuse_examples.imaging.oai_example.evaluation.classification_metrics import precision_recall_curve, roc_curve
from fuse_examples.imaging.oai_example.evaluation.classified_cases import (
    AnyTarget,
    ClassifiedCase,
    ContinuousTarget,
    Known,
    Target,
    known_cases,
    measured_cases,
)
from fuse_examples.imaging.oai_example.evaluation.figures import confusion_plot, precision_recall_plot, roc_plot, save_png
from fuse_examples.imaging.oai_example.evaluation.report import Block, Picture, Row
from fuse_examples.imaging.oai_example.evaluation.run_facts import three_digits


def class_pictures(folder: Path, target: Target, cases: Sequence[ClassifiedCase], entry: Mapping[str, Any]) -> list[Block]:
    """Draw the curves of the classes that have cases on both sides, the calibration curve, and the confusion matrix."""
    known = known_cases(cases, target)
    shown = [index for index in np.unique(known.truth).tolist() if 0 < np.sum(known.truth == index) < len(known.truth)]
    if target.positive is not None:
        shown = [index for index in shown if index == target.positive]
    pictures: list[Block] = []
    if shown:
        pictures += [_roc(folder, target, known, entry, shown), _precision_recall(folder, target, known, entry, shown)]
        pictures.append(_calibration(folder, target, entry))
    if known.names:
        figure = confusion_plot(np.array(entry["confusion"]), target.classes)
        png = save_png(figure, folder / f"confusion_{_file_part(target)}.png")
        alt = f"Confusion matrix of {target.name}: {entry['confusion']}"
        width = 240 + 80 * len(target.classes)
        pictures.append(Picture(png, alt, "Confusion matrix: cases, and their share of the true class.", width))
    return [Row(pictures)] if pictures else []


def number_pictures(folder: Path, target: ContinuousTarget, cases: Sequence[ClassifiedCase]) -> list[Block]:
    """Draw predicted against true numbers."""
    measured = measured_cases(cases, target)
    if not measured.patients:
        return []
    png = save_png(scatter_plot(measured.truth, measured.predicted, target.name), folder / f"scatter_{_file_part(target)}.png")
    return [Picture(png, f"Predicted against true {target.name}", "Predicted against true, a dot for each case.", 440)]


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


def _calibration(folder: Path, target: Target, entry: Mapping[str, Any]) -> Picture:
    what = entry["positive_class"] or "the most probable class"
    png = save_png(calibration_plot(entry["calibration_curve"], what), folder / f"calibration_{_file_part(target)}.png")
    error = three_digits(entry["calibration_error"]["value"])
    return Picture(png, f"Calibration curve of {target.name}, error {error}", f"Calibration, error {error}; larger dots: more cases.", 440)


def _legend(target: Target, entry: Mapping[str, Any], index: int, what: str) -> str:
    name = target.classes[index]
    values = entry if target.positive is not None else entry["per_class"][name]
    return f"{name} ({'AUC' if what == 'auc' else 'AP'} {three_digits(values[what]['value'])})"


def _file_part(target: AnyTarget) -> str:
    return re.sub(r"[^\w.-]", "_", target.name)
