"""study.html: the answer of a study, its figures and tables, and how they were computed."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.configuration.yaml_source import write_text
from fuse_examples.imaging.oai_example.evaluation.bootstrap import Estimate
from fuse_examples.imaging.oai_example.evaluation.figures import save_png
from fuse_examples.imaging.oai_example.evaluation.report import Block, Folded, Paragraph, Picture, Report, Section, Table
from fuse_examples.imaging.oai_example.evaluation.study_figures import curve_figure, difference_figure, score_figure
from fuse_examples.imaging.oai_example.evaluation.study_sentences import needed_text, p_text, sentences
from fuse_examples.imaging.oai_example.evaluation.study_statistics import StudyAnswer

PAGE = "study.html"
METHOD = (
    "Intervals: percentile bootstrap crossed over seeds and test patients; a patient's cases are drawn together, seeds and patients each "
    "on their own (Owen 2007). With few seeds the part of the interval that is theirs is too narrow, by a fifth with three. Differences: "
    "both initialisations on the same draws, paired by subset and seed. p: two-sided, (1 + count) / (B + 1), count of the B resamples "
    "whose difference lies at least as far from the observed one as that from 0; corrected by Holm for all differences of this page. The "
    "test folds choose nothing: learning rates and epochs are chosen by validation patients."
)
LABELS = (
    "Labelled patients are those learnt from. As many again, at most those of the validation folds, choose learning rate and epoch; the "
    "table of runs has both numbers. The learning rate is searched at one budget and used at all."
)
SPEED = (
    "Steps of the reference to its own best validation score, their median over seeds; and the share of them after which the other has "
    "that same score with the same patients and seed, seed by seed and as the median. Scores are taken at every validation, so steps are "
    "known to that distance. The shares have no confidence interval; two starts that are alike reach each other's best about every other "
    "time."
)
SAVED = (
    "Labelled patients with which the reference has the same score, by interpolation between its budgets on a logarithmic scale; the "
    "interval is that of the crossed bootstrap."
)


def write_study_report(answer: StudyAnswer, folder: Path) -> Path:
    """Write study.html with its figures beside it."""
    results = answer.results
    first, *rest = sentences(answer)
    sections = [
        Section("What the data say", [Paragraph(first, "headline"), *map(Paragraph, rest)]),
        _scores(answer, folder),
        *([_differences(answer, folder)] if answer.differences else []),
        _speed(answer, folder),
        *([Section("Labels saved", [saved_table(answer), Paragraph(SAVED, "note")])] if answer.saved else []),
        Section("Runs", [*(Paragraph(note, "note") for note in results.notes), _cell_table(answer)]),
        Section("To repeat it", [*_protocol(results.protocol)]),
    ]
    subtitle = f"{len(results.cells)} runs, {len(results.cases)} test cases of {len({case.patient for case in results.cases})} patients"
    path = folder / PAGE
    Report(f"Label efficiency: {results.name}", subtitle, sections).write(path)
    return path


def _scores(answer: StudyAnswer, folder: Path) -> Section:
    metric = answer.results.metric
    picture = Picture(
        save_png(score_figure(answer), folder / "scores.png"),
        f"{metric} against labelled patients for {', '.join(answer.results.initialisations)}",
        "Mean over seeds with its 95 % interval; small rings are single seeds.",
        width=820,
    )
    return Section(f"{metric[0].upper()}{metric[1:]} against labels", [picture, score_table(answer), Paragraph(LABELS, "note")])


def _differences(answer: StudyAnswer, folder: Path) -> Section:
    picture = Picture(
        save_png(difference_figure(answer), folder / "differences.png"),
        f"Differences in {answer.results.metric} from {answer.reference} with intervals, against labelled patients",
        "Differences with 95 % intervals; above 0 is better than the reference.",
        width=820,
    )
    return Section("Differences", [picture, difference_table(answer), Paragraph(METHOD, "note")])


def _speed(answer: StudyAnswer, folder: Path) -> Section:
    picture = Picture(
        save_png(curve_figure(answer), folder / "curves.png"),
        "Validation score against optimiser steps for each number of labelled patients",
        "Mean over seeds, and every seed faintly.",
        width=900,
    )
    table: list[Block] = [speed_table(answer), Paragraph(SPEED, "note")] if answer.speeds else []
    return Section("Speed", [picture, *table])


def score_table(answer: StudyAnswer) -> Table:
    """Scores with intervals, a row for each budget."""
    results = answer.results
    rows = []
    for budget in results.budgets:
        entries = {entry.initialisation: entry for entry in answer.scores if entry.budget == budget}
        if entries:
            one = next(iter(entries.values()))
            found = [_with_interval(entries[name].estimate) if name in entries else "–" for name in results.initialisations]
            seeds = ", ".join(sorted({str(entry.n_seeds) for entry in entries.values()}))
            rows.append([str(one.n_train), seeds, *found])
    return Table(["labelled patients", "seeds", *results.initialisations], rows)


def difference_table(answer: StudyAnswer) -> Table:
    """Differences with intervals and p-values."""
    rows = []
    for entry in answer.differences:
        found = entry.difference.estimate
        interval = "–" if found.low is None or found.high is None else f"{found.low:+.3f} to {found.high:+.3f}"
        value = "–" if found.value is None else f"{found.value:+.3f}"
        rows.append([entry.initialisation, str(entry.n_train), value, interval, p_text(entry.difference.p_value), p_text(entry.holm)])
    return Table([f"minus {answer.reference}", "labelled patients", "difference", "95 % interval", "p", "p (Holm)"], rows)


def speed_table(answer: StudyAnswer) -> Table:
    """Steps to the reference's best validation score."""
    rows = []
    for entry in answer.speeds:
        shares = [_share(ratio) for ratio in sorted(entry.ratios)]
        rows.append([entry.initialisation, str(entry.n_train), f"{entry.reference_steps:g}", ", ".join(shares), _share(entry.share)])
    return Table(["initialisation", "labelled patients", f"steps of {answer.reference}", "share of them, each seed", "median share"], rows)


def _share(ratio: float) -> str:
    return "–" if math.isnan(ratio) else "not reached" if math.isinf(ratio) else f"{ratio:.2f}"


def saved_table(answer: StudyAnswer) -> Table:
    """Labels that the reference needs for the same score."""
    rows = []
    for entry in answer.saved:
        low, high = (f"more than {entry.most}" if math.isinf(bound) else f"{bound:.0f}" for bound in (entry.low, entry.high))
        rows.append([entry.initialisation, str(entry.n_train), needed_text(entry), f"{low} to {high}"])
    return Table(["initialisation", "its labelled patients", f"{answer.reference} needs", "95 % interval"], rows)


def _cell_table(answer: StudyAnswer) -> Table:
    results = answer.results
    order = {name: place for place, name in enumerate((*results.budgets, *results.initialisations))}
    rows = [
        [
            f"{cell.initialisation}, {cell.budget}, seed {cell.seed}",
            f"{cell.n_train} + {cell.n_val}",
            f"{cell.learning_rate:g}",
            f"{results.score(cell):.3f}",
            f"{cell.best[1]:.3f}",
            str(cell.best[0]),
        ]
        for cell in sorted(results.cells, key=lambda one: (order[one.budget], order[one.initialisation], one.seed))
    ]
    header = ["run", "patients", "learning rate", results.metric, "validation", "at step"]
    return Table(header, rows, caption="Every run, its patients learnt from + validated on; the same figures are in study.csv.")


def _protocol(protocol: Mapping[str, Any]) -> Sequence[Block]:
    text = write_text(dict(protocol))
    return [Paragraph("Runs can stand in one table where all of this is the same."), Folded("Protocol", text)]


def _with_interval(estimate: Estimate) -> str:
    if estimate.value is None:
        return "–"
    interval = "" if estimate.low is None else f" ({estimate.low:.3f} to {estimate.high:.3f})"
    return f"{estimate.value:.3f}{interval}"
