"""A table of any columns, every cell kept as text: identifiers and bar codes keep their leading zeros."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuse_examples.imaging.oai_example.data.problem_lists import shortened
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_table

SEPARATORS = (",", ";", "\t", "|")
PATH_COLUMNS = ("path", "img_path", "seg_path")


@dataclass(frozen=True)
class TextTable:
    """Header and rows of a file, blanks around cells removed.

    Attributes:
        path: the file.
        header: column names as written.
        rows: cells, each row as long as the header.
        lines: line number of each row; the header is line 1.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def column(self, name: str) -> list[str]:
        """Return the cells of a column, whatever the case of its name; raise `DataError` where it is missing or ambiguous."""
        return [row[self._place(name)] for row in self.rows] if self.rows else []

    def has(self, name: str) -> bool:
        """Whether the table has this column, whatever the case of its name."""
        return name.casefold() in (column.casefold() for column in self.header)

    def records(self, names: Sequence[str]) -> list[dict[str, str]]:
        """Return the rows as dictionaries of the wanted columns, under the names asked for."""
        places = {name: self._place(name) for name in names}
        return [{name: row[place] for name, place in places.items()} for row in self.rows]

    def _place(self, name: str) -> int:
        exact = [place for place, column in enumerate(self.header) if column == name]
        places = exact or [place for place, column in enumerate(self.header) if column.casefold() == name.casefold()]
        if len(places) != 1:
            shown = ", ".join(self.header[:12]) + (", ..." if len(self.header) > 12 else "")
            found = f"has {len(places)} columns {name}" if places else f"has no column {name}; found {shown}"
            raise DataError(f"{self.path}:1: {found}.")
        return places[0]


def read_text_table(path: Path, *, encodings: Sequence[str] = ("utf-8-sig",)) -> TextTable:
    """Read a table; of comma, semicolon, tab and pipe the header's most frequent one separates the cells.

    Raises:
        DataError: a file that cannot be read or decoded, without rows, or with rows longer than its header.
    """
    # Only at line ends: text in an older encoding may hold bytes that Unicode calls line separators, such as an ellipsis.
    lines = list(io.StringIO(_decoded(path, encodings), newline=""))
    if not lines or not lines[0].strip():
        raise DataError(f"{path}: is empty.")
    separator = max(SEPARATORS, key=lines[0].count)
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    header = tuple(cell.strip() for cell in next(reader))
    rows: list[tuple[str, ...]] = []
    numbers: list[int] = []
    problems: list[str] = []
    line = reader.line_num + 1
    for cells in reader:
        texts = [cell.strip() for cell in cells]
        if any(texts[len(header) :]):
            problems.append(f"{path}:{line}: has {len(texts)} cells, the header {len(header)} columns.")
        if any(texts):
            rows.append(tuple([*texts, *[""] * (len(header) - len(texts))][: len(header)]))
            numbers.append(line)
        line = reader.line_num + 1
    if problems:
        raise DataError(shortened(problems))
    if not rows:
        raise DataError(f"{path}: has a header but no rows.")
    return TextTable(path, header, tuple(rows), tuple(numbers))


def _decoded(path: Path, encodings: Sequence[str]) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError as error:
            reason = error.reason
    raise DataError(f"{path}: is not UTF-8 text ({reason}). Save it as CSV UTF-8.")


def refuse_existing(paths: Iterable[Path], overwrite: bool) -> None:
    """Raise `DataError` naming every file that is there already, unless `overwrite`."""
    there = [f"{path}: exists already. Name another place, or pass --overwrite to replace it." for path in paths if path.exists()]
    if there and not overwrite:
        raise DataError(there)


def relative_path(target: Path, folder: Path) -> str:
    """Return `target` as a table in `folder` names it: relative, with forward slashes."""
    return Path(os.path.relpath(target.resolve(), folder.resolve())).as_posix()


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows with the columns of the first, whole."""
    header = list(rows[0])
    write_table(path, header, ([row.get(column) for column in header] for row in rows))


def moved_paths(table: TextTable, folder: Path, channels: Sequence[str] = ()) -> tuple[tuple[str, ...], ...]:
    """Return the table's rows with their relative paths as a table in `folder` has to write them; `channels` are columns of paths, too."""
    if folder.resolve() == table.path.parent.resolve():
        return table.rows
    places = [place for place, name in enumerate(table.header) if name in {*PATH_COLUMNS, *channels}]

    def moved(place: int, cell: str) -> str:
        if place not in places or not cell or os.path.isabs(cell):
            return cell
        return Path(os.path.relpath(os.path.abspath(table.path.parent / cell), folder.resolve())).as_posix()

    return tuple(tuple(moved(place, cell) for place, cell in enumerate(row)) for row in table.rows)
