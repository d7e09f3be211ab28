"""What a report says about the run besides its figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fuse_examples.imaging.oai_example.evaluation.figures import learning_curves, png_bytes
from fuse_examples.imaging.oai_example.evaluation.report import Block, Facts, Folded, Paragraph, Picture, Section, Table


@dataclass(frozen=True)
class RunFacts:
    """Where the figures come from.

    Attributes:
        experiment: the experiment's name.
        command: the command line that made them.
        checkpoint: the checkpoint that was tested.
        csv_path: the case table.
        test_folds: the folds that were tested.
        versions: name -> version of what was used, device and commit included.
        configuration: the resolved configuration as YAML text.
        notes: lines a reader must know, for example an overridden check.
        curves: learning curves: axis label -> legend text -> (epochs, values).
    """

    experiment: str
    command: str = ""
    checkpoint: str = ""
    csv_path: str = ""
    test_folds: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    configuration: str = ""
    notes: Sequence[str] = ()
    curves: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]] = field(default_factory=dict)


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
    items = {"Experiment": run.experiment, "Command": run.command, "Checkpoint": run.checkpoint, "Case table": run.csv_path}
    facts = Facts({name: value for name, value in items.items() if value})
    return Section("What was run", [facts, *(Paragraph(note, "note") for note in run.notes)])


def data_section(cases: Sequence[CaseRow]) -> Section:
    """Count cases and patients, per fold and in all."""
    folds = sorted({case.fold for case in cases})
    members = {fold: [case for case in cases if case.fold == fold] for fold in folds}
    if len(folds) > 1:
        members["all"] = list(cases)
    rows = [[fold, str(len(who)), str(len({case.patient for case in who}))] for fold, who in members.items()]
    return Section("Data", [Table(["test fold", "cases", "patients"], rows)])


def curves_section(curves: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]]) -> list[Section]:
    """Draw learning curves: axis label -> legend text -> (epochs, values). Nothing, no section."""
    pictures = [
        Picture(png_bytes(learning_curves(lines, label)), f"{label} over epochs: {', '.join(lines)}", width=760)
        for label, lines in curves.items()
        if lines
    ]
    return [Section("Learning curves", pictures)] if pictures else []


def configuration_section(run: RunFacts) -> Section:
    """Give the versions and the configuration, folded."""
    blocks: list[Block] = []
    if run.versions:
        blocks.append(Folded("Versions", "\n".join(f"{name}: {value}" for name, value in run.versions.items())))
    if run.configuration:
        blocks.append(Folded("Configuration", run.configuration))
    return Section("To repeat it", blocks)


def three_digits(value: float | None) -> str:
    """Return a value as tables show it: three digits, a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def interval_text(entry: Mapping[str, Any]) -> str:
    """Return the interval of a metrics.json entry as "low to high", a dash where there is none."""
    return "–" if entry["low"] is None else f"{entry['low']:.3f} to {entry['high']:.3f}"


def level_text(metrics: Mapping[str, Any]) -> str:
    """Return the level of the intervals, such as "95 %"."""
    return f"{100 * metrics['bootstrap']['level']:g} %"


def notes_of(entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Collect the notes of entries, those with the same text together."""
    together: dict[str, list[str]] = {}
    for name, entry in entries.items():
        if entry.get("note"):
            together.setdefault(entry["note"], []).append(name)
    return [f"{', '.join(names)}: {note}." for note, names in together.items()]
