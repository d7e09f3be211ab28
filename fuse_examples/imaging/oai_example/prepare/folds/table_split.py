"""Give a table of cases a column `fold`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fuse_examples.imaging.oai_example.configuration.fold_names import fold_name
from fuse_examples.imaging.oai_example.data.problem_lists import rows_in_words
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_table
from fuse_examples.imaging.oai_example.prepare.command_line import text_table
from fuse_examples.imaging.oai_example.prepare.folds.assignment import Shares, assign_folds, linked_groups
from fuse_examples.imaging.oai_example.prepare.tables.text_table import TextTable, moved_paths, read_text_table, refuse_existing


def split_table(
    csv_path: Path,
    output: Path,
    shares: Shares,
    *,
    stratify: Sequence[str],
    groups: Sequence[str],
    seed: int,
    overwrite: bool,
    channels: Sequence[str] = (),
) -> str:
    """Write `csv_path` with a fold per row to `output` and return a summary for the terminal.

    Args:
        shares: size of each fold by name.
        stratify: columns whose values (their combinations, if several) are spread evenly.
        groups: columns besides PatientID whose equal values stay in one fold; empty cells bind nothing.
        channels: columns of paths besides path, img_path and seg_path.

    Raises:
        DataError: a missing column, an empty PatientID, too few patients, or files that may not be replaced.
    """
    table = read_text_table(csv_path)
    patients = table.column("PatientID")
    _check(table, patients, output, overwrite)
    names = linked_groups(patients, *(table.column(column) for column in groups))
    classes = [" / ".join(values) for values in zip(*(table.column(column) for column in stratify), strict=True)] if stratify else None
    folds = assign_folds(names, shares, classes=classes, seed=seed)
    rows = [list(row) for row in moved_paths(table, output.parent, [name for name in channels if table.column(name)])]
    header = list(table.header)
    if "fold" not in header:
        header.append("fold")
        rows = [[*row, ""] for row in rows]
    for row, fold in zip(rows, folds, strict=True):
        row[header.index("fold")] = fold
    write_table(output, header, rows)
    return _summary(folds, patients, classes, shares)


def parse_shares(words: Sequence[str]) -> dict[str, float]:
    """Read words such as "train=0.7"; raise `DataError` naming every one that is not of this form, or is repeated."""
    shares: dict[str, float] = {}
    problems = []
    for word in words:
        name, _, number = word.rpartition("=")
        try:
            if fold_name(name) in shares:
                problems.append(f"--shares {word}: fold {name} is named twice.")
            shares[fold_name(name)] = float(number)
        except ValueError:
            problems.append(f"--shares {word}: is not of the form NAME=SHARE, such as train=0.7.")
    if problems:
        raise DataError(problems)
    return shares


def _check(table: TextTable, patients: Sequence[str], output: Path, overwrite: bool) -> None:
    empty = [line for line, patient in zip(table.lines, patients, strict=True) if not patient]
    if empty:
        raise DataError(f"{table.path}: PatientID is empty in {rows_in_words(empty)}. Fill it in or remove the row.")
    refuse_existing([output], overwrite)


def _summary(folds: Sequence[str], patients: Sequence[str], classes: Sequence[str] | None, shares: Shares) -> str:
    kinds = sorted(set(classes)) if classes else []
    rows: list[list[object]] = []
    for fold in shares:
        there = [row for row, name in enumerate(folds) if name == fold]
        counts = Counter(classes[row] for row in there) if classes else Counter()
        rows.append([fold, len(there), len({patients[row] for row in there}), *(counts[kind] for kind in kinds)])
    return text_table(["fold", "rows", "patients", *(kind or "(empty)" for kind in kinds)], rows)
