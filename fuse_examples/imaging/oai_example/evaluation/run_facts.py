"""What a report says about the run besides its figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fuse_examples.imaging.oai_example.evaluation.curve_figures import curve_figure
from fuse_examples.imaging.oai_example.evaluation.figures import png_bytes
from fuse_examples.imaging.oai_example.evaluation.learning_curves import CurvePlot
from fuse_examples.imaging.oai_example.evaluation.report import Block, Facts, Folded, Paragraph, Picture, Row, Section, Table
from fuse_examples.imaging.oai_example.training.history import HISTORY

FoldCounts = Mapping[str, Mapping[str, Sequence[int]]]
"""Part of the table, such as "training" -> fold -> (cases, patients)."""


@dataclass(frozen=True)
class RunFacts:
    """Where the figures come from.

    Attributes:
        experiment: the experiment's name.
        command: the command line that made them.
        started: when, in UTC.
        checkpoint: the checkpoint that was tested.
        csv_path: the case table.
        test_folds: the folds that were tested.
        training: what is known of the training run, name -> text.
        learnt_from: what the checkpoint remembers of the cases it was trained and validated on.
        seed: of every random draw, those of the intervals included.
        versions: name -> version of what was used, device and commit included.
        configuration: the resolved configuration as YAML text.
        notes: lines a reader must know, for example an overridden check.
        curves: learning curves of the training run.
    """

    experiment: str
    command: str = ""
    started: str = ""
    checkpoint: str = ""
    csv_path: str = ""
    test_folds: Sequence[str] = ()
    training: Mapping[str, str] = field(default_factory=dict)
    learnt_from: FoldCounts = field(default_factory=dict)
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    configuration: str = ""
    notes: Sequence[str] = ()
    curves: Sequence[CurvePlot] = ()


class CaseRow(Protocol):
    """A scored case, of whichever task."""

    @property
    def patient(self) -> str:
        """The patient it belongs to."""

    @property
    def fold(self) -> str:
        """Its fold in the CSV file."""


def run_section(run: RunFacts) -> Section:
    """Say what was run, on which data, with which versions."""
    seed = "" if run.seed is None else str(run.seed)
    items = {
        "Experiment": run.experiment,
        "Date": run.started,
        "Command": run.command,
        "Checkpoint": run.checkpoint,
        **run.training,
        "Seed": seed,
        "Git commit": run.versions.get("commit", ""),
    }
    facts = Facts({name: value for name, value in items.items() if value})
    return Section("What was run", [facts, *(Paragraph(note, "note") for note in run.notes)])


def data_section(cases: Sequence[CaseRow], run: RunFacts) -> Section:
    """Count cases and patients per fold: those the network learnt from, those its best epoch was chosen by, and those of this report."""
    rows = [
        [part, fold, str(n_cases), str(n_patients)]
        for part, folds in run.learnt_from.items()
        for fold, (n_cases, n_patients) in folds.items()
    ]
    rows += _rows_of("test", cases)
    table = Table(["used for", "fold", "cases", "patients"], rows)
    words = "No patient is in more than one of training, validation and test, unless a note above says otherwise."
    blocks: list[Block] = [Facts({"Case table": run.csv_path})] if run.csv_path else []
    return Section("Data and folds", [*blocks, table, Paragraph(words, "note")])


def _rows_of(part: str, cases: Sequence[CaseRow]) -> list[list[str]]:
    folds = sorted({case.fold for case in cases})
    members = {fold: [case for case in cases if case.fold == fold] for fold in folds}
    if len(folds) > 1:
        members["all"] = list(cases)
    return [[part, fold, str(len(who)), str(len({case.patient for case in who}))] for fold, who in members.items()]


def curves_section(run: RunFacts) -> Section:
    """Draw the learning curves; say so where the training run has left none."""
    pictures = [_curve_picture(plot) for plot in run.curves if plot.curves]
    if not pictures:
        words = f"There is no {HISTORY} in the training run's folder, beside its checkpoints, so there are no curves to show."
        return Section("Learning curves", [Paragraph(words, "note")])
    words = (
        f"From {HISTORY} of the training run: training figures are means over an epoch, validation figures those at its end. "
        "Validation chooses the best epoch; the test cases play no part in training."
    )
    return Section("Learning curves", [Paragraph(words, "note"), Row(pictures)])


def _curve_picture(plot: CurvePlot) -> Picture:
    ends = ", ".join(f"{name} {curve.values[-1]:.3g} at epoch {curve.epochs[-1]:g}" for name, curve in plot.curves.items())
    return Picture(png_bytes(curve_figure(plot)), f"{plot.title} over epochs; at the end {ends}", f"{plot.title}.", 620)


def repeat_section(run: RunFacts) -> Section:
    """Give versions and configuration."""
    blocks: list[Block] = []
    if run.versions:
        blocks.append(Table(["what", "version"], list(run.versions.items()), "Versions", numbers=False))
    if run.configuration:
        blocks.append(Folded("Configuration, as config.yaml has it", run.configuration))
    return Section("Configuration and versions", blocks)


def three_digits(value: float | None) -> str:
    """Return a value as tables show it: three digits, a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def interval_text(entry: Mapping[str, Any]) -> str:
    """Return the interval of a metrics.json entry as "low to high", a dash where there is none."""
    return "–" if entry["low"] is None else f"{entry['low']:.3f} to {entry['high']:.3f}"


def level_text(metrics: Mapping[str, Any]) -> str:
    """Return the level of the intervals, such as "95 %"."""
    return f"{100 * metrics['bootstrap']['level']:g} %"


def intervals_explained(metrics: Mapping[str, Any]) -> str:
    """Say in plain words how the intervals are made and what they leave out."""
    settings, level = metrics["bootstrap"], level_text(metrics)
    return (
        f"The test patients are drawn anew {settings['n_resamples']} times, with replacement and each with all of its cases, and the "
        f"metric is taken each time; the interval holds the middle {level} of the results (percentile bootstrap). It tells how much chance "
        "there is in the choice of these patients. It does not tell what training the network again would change."
    )


def notes_of(entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Collect the notes of entries, those with the same text together."""
    together: dict[str, list[str]] = {}
    for name, entry in entries.items():
        if entry.get("note"):
            together.setdefault(entry["note"], []).append(name)
    return [f"{', '.join(names)}: {note}." for note, names in together.items()]
