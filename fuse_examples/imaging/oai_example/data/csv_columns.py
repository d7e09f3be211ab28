"""Columns of a CSV file as text, with the line of each row: quick for a million rows, and with every row at fault named."""

import csv
import difflib
from collections.abc import Iterator, Sequence
from itertools import compress, islice
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.data.problem_lists import shortened
from fuse_examples.imaging.oai_example.errors import DataError

SEPARATORS = (",", ";", "\t")
ROWS_AT_ONCE = 200  # what fits into a processor's cache: more take up to twice the time


def read_columns(csv_path: Path, wanted: Sequence[str]) -> tuple[list[int], dict[str, list[str]]]:
    """Return line numbers and the wanted columns as stripped text, without rows that are blank in all of them.

    The header is line 1. Of comma, semicolon and tab the separator is the one that finds most of the wanted columns.

    Raises:
        DataError: a file that cannot be read or decoded, that has no rows, or lacks columns; all rows with more cells than the header.
    """
    try:
        with open(csv_path, encoding="utf-8-sig", newline="") as file:
            header, separator = _read_header(file.readline(), csv_path, wanted)
            file.seek(0)
            reader = csv.reader(file, delimiter=separator, skipinitialspace=True)
            next(reader)
            rows, columns = _read_rows(reader, header, [header.index(column) for column in wanted], csv_path)
    except OSError as error:
        raise DataError(f"{csv_path}: cannot be read ({error.strerror or error}).") from error
    except csv.Error as error:
        raise DataError(f"{csv_path}:1: cannot be read as the header of a table: {error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{csv_path}: is not UTF-8 text ({error.reason}). Save it as CSV UTF-8.") from error
    if not rows:
        raise DataError(f"{csv_path}: has a header but no rows.")
    return rows, dict(zip(wanted, columns, strict=True))


def _read_rows(reader: Any, header: list[str], picked: list[int], csv_path: Path) -> tuple[list[int], list[list[str]]]:
    rows: list[int] = []
    columns: list[list[str]] = [[] for _ in picked]
    problems: list[str] = []
    end = reader.line_num
    try:
        for records, ends in _blocks(reader):
            starts = [end + 1, *(line + 1 for line in ends[:-1])]
            end = ends[-1]
            if set(map(len, records)) != {len(header)}:
                problems += _of_equal_length(records, starts, len(header), csv_path)
            cells = list(zip(*records, strict=True))
            texts = [list(map(str.strip, cells[position])) for position in picked]
            if any("" in column for column in texts):
                filled = list(map(any, zip(*texts, strict=True)))
                starts, *texts = (list(compress(column, filled)) for column in (starts, *texts))
            rows += starts
            for column, more in zip(columns, texts, strict=True):
                column += more
    except csv.Error as error:
        problems.append(f"{csv_path}:{reader.line_num}: cannot be read as a table: {error}.")
    if problems:
        raise DataError(shortened(problems))
    return rows, columns


def _blocks(reader: Any) -> Iterator[tuple[list[list[str]], list[int]]]:
    """Records with the line that each ends in, so many at a time that work on whole columns pays and memory stays small.

    A record that `csv` cannot read raises its error after all that came before it.
    """
    numbered = ((record, reader.line_num) for record in reader)
    broken: csv.Error | None = None
    while broken is None:
        block: list[tuple[list[str], int]] = []
        try:
            block.extend(islice(numbered, ROWS_AT_ONCE))  # what came before an error stays in it
        except csv.Error as error:
            broken = error
        if not block:
            break
        records, ends = map(list, zip(*block, strict=True))
        yield records, ends
    if broken is not None:
        raise broken


def _of_equal_length(records: list[list[str]], rows: list[int], length: int, csv_path: Path) -> list[str]:
    """Cut and fill records to `length`; return a problem for each that has text beyond it."""
    problems = []
    for row, cells in zip(rows, records, strict=True):
        if any(cell.strip() for cell in cells[length:]):
            problems.append(
                f"{csv_path}:{row}: has {len(cells)} cells, the header {length} columns. A text that contains the separator needs quotes."
            )
        cells[length:] = [""] * (length - len(cells))
    return problems


def _read_header(line: str, csv_path: Path, wanted: Sequence[str]) -> tuple[list[str], str]:
    """Return the column names and the separator: of comma, semicolon and tab the one that finds most of the wanted columns."""
    if not line.strip():
        raise DataError(f"{csv_path}: is empty. It needs the columns {', '.join(wanted)}.")
    headers = {separator: [name.strip() for name in next(csv.reader([line], delimiter=separator))] for separator in SEPARATORS}
    best = max(SEPARATORS, key=lambda separator: (len(set(wanted) & set(headers[separator])), len(headers[separator])))
    _check_columns(csv_path, headers[best], wanted)
    return headers[best], best


def _check_columns(csv_path: Path, header: list[str], wanted: Sequence[str]) -> None:
    problems = []
    for column in dict.fromkeys(wanted):
        if header.count(column) > 1:
            problems.append(f"{csv_path}:1: has {header.count(column)} columns named {column}. Keep one.")
        elif column not in header:
            folded = {name.casefold(): name for name in header}
            close = difflib.get_close_matches(column.casefold(), list(folded), n=1)
            hint = f" Did you mean {folded[close[0]]}?" if close else ""
            problems.append(f"{csv_path}:1: has no column {column}; found {', '.join(header)}.{hint}")
    if problems:
        raise DataError(problems)


def column_names(csv_path: Path) -> list[str]:
    """Return the names in the header, by whichever separator finds `path` or `img_path`, else most names; none of a file without one."""
    try:
        with open(csv_path, encoding="utf-8-sig", newline="") as file:
            line = file.readline()
        headers = [[name.strip() for name in next(csv.reader([line], delimiter=separator), [])] for separator in SEPARATORS]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []  # told when the columns are read
    return max(headers, key=lambda names: (bool({"path", "img_path"} & set(names)), len(names)))
