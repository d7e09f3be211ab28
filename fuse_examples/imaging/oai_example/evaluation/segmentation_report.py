"""The report of a segmentation test; every figure in it is read from the content of metrics.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.evaluation.figures import box_plot, save_png
from fuse_examples.imaging.oai_example.evaluation.report import Block, Paragraph, Picture, Report, Section, Table
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
from fuse_examples.imaging.oai_example.evaluation.segmentation_results import MEAN, CasePrediction, choose_examples
from fuse_examples.imaging.oai_example.evaluation.subgroups import subgroup_section

COLUMNS = {
    "surface_dice": "surface Dice",
    "hd95_mm": "HD95, mm",
    "assd_mm": "ASSD, mm",
    "volume_error_ml": "volume error, ml",
    "absolute_volume_error_ml": "absolute",
    "thickness_error_mm": "thickness error, mm",
    "absolute_thickness_error_mm": "absolute",
}
LONGEST_LIST = 10  # cases in the table of the lowest scores


def write_segmentation_report(
    folder: Path,
    run: RunFacts,
    cases: Sequence[CasePrediction],
    metrics: Mapping[str, Any],
    overlays: Mapping[str, bytes],
) -> Path:
    """Write report.html and dice.png into the test folder.

    Args:
        folder: the test folder.
        run: what was run.
        cases: the scored cases.
        metrics: what `write_segmentation_results` returned.
        overlays: case name -> PNG, for those of `choose_examples`; cases without a picture are left out.
    """
    structures = metrics["structures"]
    scores = {structure: [case.scores["dice"][structure] for case in cases] for structure in structures}
    png = save_png(box_plot(scores, "Dice"), folder / "dice.png")
    plot = Picture(png, "Box plot of Dice per structure with a dot for each case", "Dice of each case, per structure.", width=760)
    sections = [
        _headline(metrics),
        run_section(run),
        data_section(cases),
        Section("Dice per structure", [_table(metrics), *_notes(metrics), plot]),
        *_in_millimetres(metrics),
        *subgroup_section("Mean Dice in subgroups", metrics.get("subgroups", {}), {"dice": "mean Dice"}, [MEAN]),
        *_examples(cases, overlays),
        _lowest(cases),
        *curves_section(run.curves),
        configuration_section(run),
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
    blocks: list[Block] = [Paragraph(f"Mean Dice {three_digits(entry['value'])}{interval}", "headline")]
    return Section("Result", blocks)


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
    rows = []
    for structure in metrics["dice"]:
        entries = [metrics[metric].get(structure) for metric in found]
        rows.append([structure, *(f"{three_digits(entry['value'])} ({interval_text(entry)})" if entry else "" for entry in entries)])
    rules = metrics["rules"]
    how = " ".join(f"{COLUMNS[metric]}: {rules[metric]}." for metric in found if metric in rules)
    missed = [
        f"{structure}: absent in the prediction alone in {counts['in_prediction_only']}, in the truth alone in {counts['in_truth_only']}"
        for structure, counts in metrics["absent"].items()
        if any(counts.values())
    ]
    notes = [Paragraph(f"Cases with a structure in one mask only. {'; '.join(missed)}.", "note")] if missed else []
    tolerance = f"Tolerance of surface Dice: {metrics['surface_dice_tolerance_mm']:g} mm. Intervals: {level_text(metrics)}."
    table = Table(["structure", *found.values()], rows)
    return [Section("Surfaces, volumes and thickness", [table, *notes, Paragraph(f"{how} {tolerance}", "note")])]


def _notes(metrics: Mapping[str, Any]) -> list[Paragraph]:
    settings, rules = metrics["bootstrap"], metrics["rules"]
    how = (
        f"Dice = {rules['dice']}. Mean: {rules['mean']}. {rules['absent structure'].capitalize()}. "
        f"Intervals: {rules['interval']}, {settings['n_resamples']} resamples."
    )
    return [*(Paragraph(text, "note") for text in notes_of(metrics["dice"])), Paragraph(how, "note")]


def _examples(cases: Sequence[CasePrediction], overlays: Mapping[str, bytes]) -> list[Section]:
    pictures = [
        Picture(
            overlays[case.name],
            f"Three planes of {case.name} with the true and the predicted mask",
            f"{role.capitalize()}: {case.name}, mean Dice {three_digits(case.mean())}",
        )
        for role, case in choose_examples(cases).items()
        if case.name in overlays
    ]
    return [Section("Examples", pictures)] if pictures else []


def _lowest(cases: Sequence[CasePrediction]) -> Section:
    ranked = sorted((case for case in cases if case.mean() == case.mean()), key=lambda case: (case.mean(), case.name))[:LONGEST_LIST]
    rows = [[case.name, case.patient, case.fold, str(case.row), three_digits(case.mean())] for case in ranked]
    return Section("Lowest scores first", [Table(["case", "patient", "fold", "CSV line", "mean Dice"], rows, numbers=True)])
