"""The report of a segmentation test; every figure in it is read from the content of metrics.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.evaluation.figures import box_plot, save_png
from fuse_examples.imaging.oai_example.evaluation.painting import StructureLegend
from fuse_examples.imaging.oai_example.evaluation.plain_words import DIRECTIONS, SCROLLING, reading_section
from fuse_examples.imaging.oai_example.evaluation.report import Block, Paragraph, Picture, Report, Row, Section, Subsection, Table
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
from fuse_examples.imaging.oai_example.evaluation.segmentation_results import MEAN, CasePrediction, shown_cases
from fuse_examples.imaging.oai_example.evaluation.subgroups import subgroup_section

COLUMNS = {
    "surface_dice": "surface Dice",
    "hd95_mm": "HD95, mm",
    "assd_mm": "ASSD, mm",
    "volume_error_ml": "volume error, ml",
    "absolute_volume_error_ml": "volume error without sign, ml",
    "thickness_error_mm": "thickness error, mm",
    "absolute_thickness_error_mm": "thickness error without sign, mm",
}
BOXES = {"dice": "Dice", "hd95_mm": "HD95, mm", "volume_error_ml": "volume error, ml", "thickness_error_mm": "thickness error, mm"}
"""The metrics that have a box plot; each is also a file."""
LONGEST_LIST = 10  # cases in the table of the lowest scores


def write_segmentation_report(
    folder: Path,
    run: RunFacts,
    cases: Sequence[CasePrediction],
    metrics: Mapping[str, Any],
    pictures: Mapping[str, Sequence[Block]],
) -> Path:
    """Write report.html and its box plots (dice.png, ...) into the test folder.

    Args:
        folder: the test folder.
        run: what was run.
        cases: the scored cases.
        metrics: what `write_segmentation_results` returned.
        pictures: case name -> what shows it, for those of `shown_cases`; cases without pictures have a table alone.
    """
    sections = [
        _headline(metrics),
        run_section(run),
        data_section(cases, run),
        curves_section(run),
        Section("Dice per structure", [_table(metrics), *(Paragraph(text, "note") for text in notes_of(metrics["dice"]))]),
        *_in_millimetres(metrics),
        Section("Spread over cases", _boxes(folder, cases, metrics)),
        *subgroup_section("Mean Dice in subgroups", metrics.get("subgroups", {}), {"dice": "mean Dice"}, [MEAN]),
        *_cases(cases, metrics, pictures),
        _lowest(cases),
        _reading(metrics),
        repeat_section(run),
    ]
    path = folder / "report.html"
    Report(f"Segmentation test: {run.experiment}", _subtitle(metrics, run), sections).write(path)
    return path


def _subtitle(metrics: Mapping[str, Any], run: RunFacts) -> str:
    folds = f", test folds: {', '.join(run.test_folds)}" if run.test_folds else ""
    return f"{metrics['n_cases']} cases of {metrics['n_patients']} patients{folds}"


def _headline(metrics: Mapping[str, Any]) -> Section:
    entry = metrics["dice"][MEAN]
    interval = f" ({level_text(metrics)} confidence interval {interval_text(entry)})" if entry["low"] is not None else ""
    count = len(metrics["structures"])
    words = (
        f"The network drew {count} structure{'s' if count > 1 else ''} in {metrics['n_cases']} test scans of "
        f"{metrics['n_patients']} patients. Dice is the overlap with the true masks: 1 is the same voxels, 0 no common voxel."
    )
    return Section("Result", [Paragraph(f"Mean Dice {three_digits(entry['value'])}{interval}", "headline"), Paragraph(words)])


def _table(metrics: Mapping[str, Any]) -> Table:
    rows = [
        [
            "mean" if name == MEAN else name,
            three_digits(entry["value"]),
            interval_text(entry),
            str(entry["n_cases"]),
            str(entry["n_patients"]),
            str(entry["n_absent"]),
        ]
        for name, entry in metrics["dice"].items()
    ]
    return Table(["structure", "Dice", f"{level_text(metrics)} interval", "cases", "patients", "absent in both"], rows)


def _in_millimetres(metrics: Mapping[str, Any]) -> list[Section]:
    """Surfaces, volumes and thickness; those of them that were measured."""
    found = {metric: name for metric, name in COLUMNS.items() if metric in metrics}
    if not found:
        return []
    tables: list[Block] = []
    for caption, chosen in _side_by_side(found):
        rows = []
        for structure in metrics["dice"]:
            entries = [metrics[metric].get(structure) for metric in chosen]
            cells = [_with_interval(entry) if entry else "" for entry in entries]
            rows += [[structure, *cells]] if any(cells) else []
        tables.append(Table(["structure", *(found[metric] for metric in chosen)], rows, f"{caption}, with {level_text(metrics)} intervals"))
    missed = [
        f"{structure}: absent in the prediction alone in {counts['in_prediction_only']}, in the truth alone in {counts['in_truth_only']}"
        for structure, counts in metrics["absent"].items()
        if any(counts.values())
    ]
    notes = [Paragraph(f"Cases with a structure in one mask only. {'; '.join(missed)}.", "note")] if missed else []
    tolerance = Paragraph(f"Tolerance of surface Dice: {metrics['surface_dice_tolerance_mm']:g} mm.", "note")
    return [Section("Surfaces, volumes and thickness", [*tables, *notes, tolerance])]


def _with_interval(entry: Mapping[str, Any]) -> str:
    value = three_digits(entry["value"])
    return value if entry["low"] is None else f"{value} ({interval_text(entry)})"


def _side_by_side(found: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """The metrics as tables that are narrow enough for a page."""
    kinds = {"Surfaces": ("surface_dice", "hd95_mm", "assd_mm"), "Volumes": ("volume",), "Thickness": ("thickness",)}
    chosen = [(caption, [metric for metric in found if any(part in metric for part in parts)]) for caption, parts in kinds.items()]
    return [(caption, metrics) for caption, metrics in chosen if metrics]


def _boxes(folder: Path, cases: Sequence[CasePrediction], metrics: Mapping[str, Any]) -> list[Block]:
    plots: list[Block] = []
    for metric, label in BOXES.items():
        structures = [name for name in metrics.get(metric, {}) if name != MEAN]
        if structures:
            scores = {name: [case.scores[metric][name] for case in cases] for name in structures}
            png = save_png(box_plot(scores, label, limits=(0.0, 1.0) if metric == "dice" else None), folder / f"{metric}.png")
            alt = f"Box plot of {label} per structure; " + ", ".join(
                f"{name} mean {three_digits(metrics[metric][name]['value'])}" for name in structures
            )
            plots.append(Picture(png, alt, f"{label}.", 620, file=f"{metric}.png"))
    words = "Per structure: the box holds the middle half of the cases, the line in it is the median, each dot is a case."
    return [Paragraph(words, "note"), Row(plots)]


def _cases(cases: Sequence[CasePrediction], metrics: Mapping[str, Any], pictures: Mapping[str, Sequence[Block]]) -> list[Section]:
    shown = shown_cases(cases)
    if not shown or not pictures:
        return []
    legend = StructureLegend(list(enumerate(metrics.get("labels", metrics["structures"]), start=1)))
    blocks: list[Block] = [
        Paragraph("The five cases of the lowest mean Dice first, then the median and the best. Area: true mask; line: prediction."),
        legend,
        Paragraph(f"{DIRECTIONS} {SCROLLING}", "note"),
    ]
    for rank, case in shown:
        title = f"{rank.capitalize()}: {case.name}, mean Dice {three_digits(case.mean())}"
        blocks.append(Subsection(title, [Row(pictures.get(case.name, ())), _case_table(case)]))
    return [Section("Cases, the worst first", blocks)]


def _case_table(case: CasePrediction) -> Table:
    header = ["structure", "Dice"] + (["HD95, mm"] if "hd95_mm" in case.scores else [])
    header += ["true volume, ml", "predicted volume, ml"] if case.volumes_ml else []
    rows = []
    for structure, dice in case.scores["dice"].items():
        cells = [_figure(dice)] + ([_figure(case.scores["hd95_mm"][structure])] if "hd95_mm" in case.scores else [])
        rows.append([structure, *cells, *(_figure(volume) for volume in case.volumes_ml.get(structure, ()))])
    return Table(header, rows, f"Patient {case.patient}, fold {case.fold}, line {case.row} of the case table")


def _figure(value: float) -> str:
    return three_digits(None if value != value else value)


def _lowest(cases: Sequence[CasePrediction]) -> Section:
    ranked = sorted((case for case in cases if case.mean() == case.mean()), key=lambda case: (case.mean(), case.name))[:LONGEST_LIST]
    rows = [[case.name, case.patient, case.fold, str(case.row), three_digits(case.mean())] for case in ranked]
    words = Paragraph("predictions.csv has all cases.", "note")
    return Section("Lowest scores first", [Table(["case", "patient", "fold", "CSV line", "mean Dice"], rows, numbers=True), words])


def _reading(metrics: Mapping[str, Any]) -> Section:
    rules = metrics["rules"]
    names = ["Dice", *(name.split(",")[0] for metric, name in COLUMNS.items() if metric in metrics and "without" not in name)]
    how = {
        "Dice": rules["dice"],
        **{COLUMNS[metric].split(",")[0]: rules[metric] for metric in COLUMNS if metric in metrics and metric in rules},
    }
    how |= {"mean": rules["mean"], "absent structure": rules["absent structure"]}
    return reading_section(names, f"Intervals: {intervals_explained(metrics)}", how=how)
