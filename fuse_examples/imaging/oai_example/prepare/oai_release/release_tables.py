"""The CSV files of a release."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuse_examples.imaging.oai_example.data.problem_lists import shortened
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.prepare.command_line import text_table
from fuse_examples.imaging.oai_example.prepare.folds.assignment import assign_folds, equal_shares
from fuse_examples.imaging.oai_example.prepare.oai_release.clinical import Grades, Participant, read_grades, read_participants
from fuse_examples.imaging.oai_example.prepare.oai_release.listing import listed_series
from fuse_examples.imaging.oai_example.prepare.oai_release.selection import LeftOut, Selected, SelectionOptions, select
from fuse_examples.imaging.oai_example.prepare.tables.text_table import refuse_existing, relative_path, write_rows

Row = dict[str, object]
NOBODY = Participant("", "")


@dataclass(frozen=True)
class ReleaseOptions:
    """How a release becomes tables.

    Attributes:
        selection: which series.
        tables: folder of the clinical tables; None writes self_supervised.csv only.
        cohorts: whose knees go into classification.csv, as `clinical.COHORTS` names them.
        projects: reading projects for the Kellgren-Lawrence grade, the preferred first.
        folds, seed: see `assign_folds`.
        overwrite: replace files that are there.
    """

    selection: SelectionOptions
    tables: Path | None
    cohorts: tuple[str, ...]
    projects: tuple[str, ...]
    folds: int
    seed: int
    overwrite: bool


def write_release_tables(root: Path, lists: Sequence[Path], output: Path, options: ReleaseOptions) -> str:
    """Write self_supervised.csv (all chosen series), classification.csv (of the chosen cohorts) and left_out.csv; return a summary.

    A participant is in one fold, the same in both files; cohorts are spread evenly over folds.

    Raises:
        DataError: lists or tables that cannot be read, no series, files that may not be replaced.
    """
    names = ["self_supervised.csv", "classification.csv", "left_out.csv"] if options.tables else ["self_supervised.csv", "left_out.csv"]
    refuse_existing([output / name for name in names], options.overwrite)
    participants = read_participants(options.tables) if options.tables else {}
    grades = _grades(options)
    listed, source = listed_series(root, lists)
    selected, left = select(listed, options.selection)
    if not selected:
        reasons = [f"{entry.series.name}: {entry.reason}" for entry in left]
        raise DataError([*shortened(reasons), f"{root}: no series can be used."])
    rows = [_row(found, participants, grades, output, options) for found in selected]
    people = [str(row["PatientID"]) for row in rows]
    cohorts = [participants.get(person, NOBODY).cohort for person in people]
    for row, fold in zip(rows, assign_folds(people, equal_shares(options.folds), classes=cohorts, seed=options.seed), strict=True):
        row["fold"] = fold
    labelled = [row for row in rows if row.get("V00COHORT") in options.cohorts]
    write_rows(output / "self_supervised.csv", rows)
    written = [output / "self_supervised.csv"]
    if options.tables and labelled:
        written.append(output / "classification.csv")
        write_rows(written[1], labelled)
    (output / "left_out.csv").unlink(missing_ok=True)
    if left:
        write_rows(output / "left_out.csv", [_left_row(entry) for entry in sorted(left, key=lambda entry: entry.series.name)])
    notes = _notes(selected, left, rows, labelled, participants, grades, output, options)
    return f"{len(listed)} series listed in {source}.\n\n{_summary(rows, labelled, options)}\n\n{_ending(written, notes)}"


def _grades(options: ReleaseOptions) -> dict[str, Grades | None]:
    if options.tables is None:
        return {}
    return {visit: read_grades(options.tables, visit, options.projects) for visit in options.selection.visits}


def _row(
    found: Selected, participants: Mapping[str, Participant], grades: Mapping[str, Grades | None], output: Path, options: ReleaseOptions
) -> Row:
    series = found.series
    assert series.folder is not None
    row: Row = {"PatientID": series.patient, "path": relative_path(series.folder, output), "fold": "", "side": series.side}
    if options.tables:
        person = participants.get(series.patient, NOBODY)
        of_visit = grades.get(series.visit)
        grade = of_visit.by_knee.get((series.patient, series.side), "") if of_visit else ""
        row |= {"V00COHORT": person.cohort, "sex": person.sex, "KL": grade, "age": person.age, "bmi": person.bmi}
    row |= {"visit": series.visit, "release": series.release, "date": series.date, "barcode": series.barcode}
    return row | {"description": series.description, "position": found.position}


def _left_row(entry: LeftOut) -> Row:
    series = entry.series
    row: Row = {"PatientID": series.patient, "visit": series.visit, "series": series.name, "description": series.description}
    return row | {"barcode": series.barcode, "reason": entry.reason}


def _summary(rows: Sequence[Row], labelled: Sequence[Row], options: ReleaseOptions) -> str:
    lines: list[list[object]] = []
    for visit in options.selection.visits:
        here = [row for row in rows if row["visit"] == visit]
        sides = Counter(str(row["side"]) for row in here)
        lines.append([visit, len(here), len({row["PatientID"] for row in here}), sides["LEFT"], sides["RIGHT"]])
    parts = [text_table(["visit", "series", "participants", "left", "right"], lines)]
    if options.tables:
        kinds = [*options.cohorts]
        table: list[list[object]] = []
        for fold in sorted({str(row["fold"]) for row in rows}):
            mine = [row for row in labelled if row["fold"] == fold]
            counts = [len({row["PatientID"] for row in mine if row["V00COHORT"] == kind}) for kind in kinds]
            table.append([fold, sum(row["fold"] == fold for row in rows), len(mine), *counts])
        parts.append(text_table(["fold", "series", "labelled", *(f"participants {kind}" for kind in kinds)], table))
        grades = Counter(str(row["KL"]) for row in labelled)
        parts.append(text_table(["KL grade", "knees"], [[grade or "(none)", count] for grade, count in sorted(grades.items())]))
    return "\n\n".join(parts)


def _notes(
    selected: Sequence[Selected], left: Sequence[LeftOut], rows: Sequence[Row], labelled: Sequence[Row],
    participants: Mapping[str, Participant], grades: Mapping[str, Grades | None], output: Path, options: ReleaseOptions,
) -> list[str]:  # fmt: skip
    notes = []
    if left:
        notes.append(f"Left out: {len(left)} series of the chosen kind, with the reason for each in {output / 'left_out.csv'}.")
    opposite = [found.series.name for found in selected if found.position == "disagrees"]
    if opposite:
        notes.append(f"{len(opposite)} series lie on the other side of the scanner than described, such as {opposite[0]}; look at them.")
    if options.tables:
        unknown = {str(row["PatientID"]) for row in rows} - set(participants)
        if unknown:
            notes.append(f"{len(unknown)} participants are not in Enrollees, such as {min(unknown)}.")
        if not labelled:
            notes.append(f"No participant is of the cohorts {', '.join(options.cohorts)}, so there is no classification.csv.")
    for visit, table in grades.items():
        if table is None:
            notes.append(f"There is no kXR_SQ_BU{visit[1:]}, so KL is empty at {visit}.")
        elif table.contradictory:
            notes.append(f"{len(table.contradictory)} knees have several different KL grades at {visit}; theirs is left empty.")
    return notes


def _ending(written: Sequence[Path], notes: Sequence[str]) -> str:
    commands = [f"  python -m fuse_examples.imaging.oai_example.prepare.check {path}" for path in written]
    commands.append(f"  python fuse_examples/imaging/oai_example/self_supervised/dino.py --check csv_path={written[0]}")
    if len(written) > 1:
        commands.append(f"  python fuse_examples/imaging/oai_example/downstream/classification.py --check csv_path={written[1]}")
    return "\n".join([*notes, f"Wrote {' and '.join(map(str, written))}. Next:", *commands])
