"""What a check leaves: a table for the terminal, check.csv, the contact sheet, and a table of the usable rows."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fuse_examples.imaging.oai_example.data.problem_lists import shortened
from fuse_examples.imaging.oai_example.evaluation.figures import png_bytes
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_table, write_whole
from fuse_examples.imaging.oai_example.prepare.checking.case_check import CheckedCase, plane_of, slice_axis
from fuse_examples.imaging.oai_example.prepare.checking.pictures import contact_sheet
from fuse_examples.imaging.oai_example.prepare.checking.table_check import CheckedTable
from fuse_examples.imaging.oai_example.prepare.command_line import text_table
from fuse_examples.imaging.oai_example.prepare.tables.text_table import moved_paths, write_rows

SHOWN_ROWS = 20
SHOWN_TEXT = 60  # characters of a problem in the terminal's table


def facts_of(entry: CheckedCase) -> dict[str, object]:
    """Return a case as a row of check.csv."""
    case, header = entry.case, entry.header
    facts: dict[str, object] = {"row": case.row, "PatientID": case.patient, "fold": case.fold, "usable": "no" if entry.problems else "yes"}
    if header is None:
        empty = ("format", "slices", "plane", "matrix", "spacing_mm", "orientation", "side", "type", "files", "description")
        facts |= dict.fromkeys(empty, "")
    else:
        across = slice_axis(header)
        within = [axis for axis in range(3) if axis != across]
        facts |= {
            "format": header.kind,
            "slices": header.source.shape[across],
            "plane": plane_of(header),
            "matrix": " x ".join(str(header.source.shape[axis]) for axis in within),
            "spacing_mm": " x ".join(f"{header.source.spacing[axis]:.4g}" for axis in (across, *within)),
            "orientation": header.source.orientation,
            "side": entry.side,
            "type": header.dtype,
            "files": header.n_files,
            "description": header.description,
        }
    facts["labels"] = " ".join(str(label) for label in sorted(entry.labels))
    facts |= {"problems": " | ".join(entry.problems), "notes": " | ".join(entry.notes)}
    return facts | {"image": str(case.image), "mask": str(case.mask or "")}


def write_results(checked: CheckedTable, folder: Path) -> list[Path]:
    """Write check.csv and, if cases are to be shown, contact_sheet.png to `folder`; return what was written."""
    written = [folder / "check.csv"]
    write_rows(written[0], [facts_of(entry) for entry in checked.cases])
    if not checked.shown:
        return written
    entries = [checked.cases[place] for place in checked.shown]
    tiles = [(f"{entry.case.name[-26:]}\nrow {entry.case.row}, fold {entry.case.fold}", entry.tile, _amiss(entry)) for entry in entries]
    heading = f"{checked.table.path.name}: {len(tiles)} of {len(checked.cases)} cases"
    written.append(folder / "contact_sheet.png")
    write_whole(written[1], png_bytes(contact_sheet(tiles, heading)))
    return written


def write_usable(checked: CheckedTable, path: Path) -> int:
    """Write the rows that can be used, with all their columns, to a table of their own; return their number."""
    usable = {entry.case.row for entry in checked.cases if not entry.problems}
    rows = moved_paths(checked.table, path.parent, checked.channels)
    kept = [row for row, line in zip(rows, checked.table.lines, strict=True) if line in usable]
    write_table(path, checked.table.header, kept)
    return len(kept)


def summary(checked: CheckedTable) -> str:
    """Return what the terminal shows: rows (odd ones first), labels, folds, and every problem."""
    parts = [_row_table(checked.cases), _fold_table(checked.cases)]
    if any(entry.labels for entry in checked.cases):
        parts.append(_label_table(checked.cases))
    noted = [f"row {entry.case.row}: patient {entry.case.patient}: {note}." for entry in checked.cases for note in entry.notes]
    if noted:
        parts.append("Worth a look:\n" + "\n".join(f"  {note}" for note in shortened(noted)))
    if checked.remarks:
        parts.append("Careful:\n" + "\n".join(f"  {remark}" for remark in shortened(checked.remarks)))
    return "\n\n".join(parts)


def problem_list(checked: CheckedTable) -> list[str]:
    """Return a line for each problem that makes a row unusable."""
    start = checked.table.path
    return [f"{start}:{entry.case.row}: patient {entry.case.patient}: {text}" for entry in checked.unusable for text in entry.problems]


def next_command(checked: CheckedTable) -> str:
    """Return the stage's command that tries the table out."""
    script = "self_supervised/dino.py"
    further = ""
    if checked.table.has("seg_path"):
        highest = max((label for entry in checked.cases for label in entry.labels), default=0)
        script, further = "downstream/segmentation.py", f" num_classes={highest + 1}"
    if checked.channels:
        further += f' channels="[{", ".join(checked.channels)}]"'
    return f"python fuse_examples/imaging/oai_example/{script} --check csv_path={checked.table.path}{further}"


def _amiss(entry: CheckedCase) -> bool:
    return bool(entry.problems or entry.notes)


def _row_table(cases: Sequence[CheckedCase]) -> str:
    odd_first = sorted(cases, key=lambda entry: (not entry.problems, not entry.notes, entry.case.row))
    columns = ("row", "PatientID", "fold", "slices", "spacing_mm", "matrix", "plane", "orientation", "side", "labels")
    rows = []
    for entry in odd_first[:SHOWN_ROWS]:
        facts = facts_of(entry)
        text = str(facts["problems"] or facts["notes"]).replace(f"{entry.case.image.parent}{os.sep}", "")
        rows.append([*(facts[column] for column in columns), text if len(text) <= SHOWN_TEXT else f"{text[: SHOWN_TEXT - 3]}..."])
    rest = f"\n... and {len(cases) - SHOWN_ROWS} more rows in check.csv" if len(cases) > SHOWN_ROWS else ""
    return text_table([*columns, "problems and notes"], rows) + rest


def _fold_table(cases: Sequence[CheckedCase]) -> str:
    folds = sorted({entry.case.fold for entry in cases})
    rows = []
    for fold in folds:
        members = [entry for entry in cases if entry.case.fold == fold]
        patients = len({entry.case.patient for entry in members})
        rows.append([fold, len(members), patients, sum(not entry.problems for entry in members)])
    return text_table(["fold", "rows", "patients", "usable"], rows)


def _label_table(cases: Sequence[CheckedCase]) -> str:
    masks = [entry.labels for entry in cases if entry.labels]
    voxels: Counter[int] = Counter()
    for labels in masks:
        voxels.update(labels)
    rows = [[label, sum(label in labels for labels in masks), voxels[label]] for label in sorted(voxels) if label]
    return text_table(["label", "masks", "voxels"], rows)
