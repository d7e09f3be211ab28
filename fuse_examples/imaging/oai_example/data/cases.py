"""The CSV file of a stage as a tuple of cases. All text stays text: identifiers keep their leading zeros, "NA" is a name like any other."""

import csv
import difflib
import gc
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.configuration.fold_names import fold_name
from fuse_examples.imaging.oai_example.data.problem_lists import rows_in_words, shortened
from fuse_examples.imaging.oai_example.errors import DataError

SEPARATORS = (",", ";", "\t")
MAX_NAME = 80  # characters of each part; names become file names
ODD_PATH = re.compile(r"//|\./|\.$|/$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Case:
    """One row of a CSV file.

    Attributes:
        row: line number in the CSV file; the header is line 1.
        name: unique and fit for a file name.
        patient: the PatientID, as written.
        image: DICOM folder or NIfTI file, absolute or relative to the working directory.
        mask: the same for the mask; None outside segmentation.
        fold: normalised by `fold_name`.
        targets: text per target column; None for an empty cell.
        extra: the same for further columns that a run asks for.
        further_images: where the image has several channels, those after the first.
    """

    row: int
    name: str
    patient: str
    image: Path
    mask: Path | None
    fold: str
    targets: Mapping[str, str | None]
    extra: Mapping[str, str | None] = field(default_factory=dict)
    further_images: tuple[Path, ...] = ()

    @property
    def images(self) -> tuple[Path, ...]:
        """All channels of the image."""
        return self.image, *self.further_images


def read_cases(
    csv_path: Path, *, masks: bool, targets: Sequence[str] = (), extra: Sequence[str] = (), channels: Sequence[str] = ()
) -> tuple[Case, ...]:
    """Read PatientID, path and fold, or with `masks` PatientID, img_path, seg_path and fold, `targets`, and `extra` columns.

    With `channels` these columns are the images, and `path` or `img_path` is not asked for. Other columns are passed over.
    Paths are relative to the CSV's folder. Whether they exist is `header_check`'s business.
    Raises `DataError` with all problems.
    """
    images = list(channels) or ["img_path" if masks else "path"]
    required = ["PatientID", *images, *(["seg_path"] if masks else []), "fold"]
    with _no_garbage_collection():
        rows, columns = _read_columns(csv_path, [*required, *targets, *extra])
        folds, unnamed = _fold_names(columns["fold"])
        problems = []
        for column in required:
            nothing = {"", *unnamed} if column == "fold" else {""}
            if nothing.isdisjoint(columns[column]):
                continue
            empty = [row for row, text in zip(rows, columns[column], strict=True) if text in nothing]
            problems.append(f"{csv_path}: {column} is empty in {rows_in_words(empty)}. Fill it in or remove the row.")
        problems += _repeated_images(csv_path, rows, columns[required[1]])
        if problems:
            raise DataError(problems)
        columns["fold"] = [folds[text] for text in columns["fold"]]
        return tuple(_cases(csv_path.parent, rows, columns, images, targets, extra))


def _cases(
    folder: Path, rows: list[int], columns: dict[str, list[str]], image_columns: Sequence[str], targets: Sequence[str], extra: Sequence[str]
) -> Iterator[Case]:
    names = _names(rows, columns["PatientID"], columns[image_columns[0]])
    masks = [folder / mask for mask in columns["seg_path"]] if "seg_path" in columns else [None] * len(rows)
    images = [folder / image for image in columns[image_columns[0]]]
    later = [[folder / image for image in columns[column]] for column in image_columns[1:]]
    further: Iterable[tuple[Path, ...]] = zip(*later, strict=True) if later else repeat(())
    labels, others = (_shared_mappings(wanted, columns, len(rows)) for wanted in (targets, extra))
    return map(
        Case,
        rows,
        names,
        columns["PatientID"],
        images,
        masks,
        columns["fold"],
        labels,
        others,
        further,
    )


def _shared_mappings(wanted: Sequence[str], columns: dict[str, list[str]], n_rows: int) -> Iterable[Mapping[str, str | None]]:
    """Return a mapping of the wanted columns for each row; rows with the same texts share one, which in a large table are nearly all."""
    if not wanted:
        return [{}] * n_rows
    known: dict[tuple[str, ...], Mapping[str, str | None]] = {}
    texts = list(zip(*(columns[column] for column in wanted), strict=True))
    for one in set(texts):
        known[one] = {column: text or None for column, text in zip(wanted, one, strict=True)}
    return map(known.__getitem__, texts)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Pause the collector, which would walk millions of new cases again and again: half of the time for a large table."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read_columns(csv_path: Path, wanted: list[str]) -> tuple[list[int], dict[str, list[str]]]:
    """Return line numbers and the wanted columns as stripped text, without blank lines."""
    try:
        with open(csv_path, encoding="utf-8-sig", newline="") as file:
            header, separator = _read_header(file.readline(), csv_path, wanted)
            file.seek(0)
            reader = csv.reader(file, delimiter=separator, skipinitialspace=True)
            next(reader)
            rows, columns = _read_rows(reader, header, [header.index(column) for column in wanted], csv_path)
    except OSError as error:
        raise DataError(f"{csv_path}: cannot be read ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{csv_path}: is not UTF-8 text ({error.reason}). Save it as CSV UTF-8.") from error
    if not rows:
        raise DataError(f"{csv_path}: has a header but no rows.")
    return rows, dict(zip(wanted, columns, strict=True))


def _read_rows(reader: Any, header: list[str], picked: list[int], csv_path: Path) -> tuple[list[int], list[list[str]]]:
    rows: list[int] = []
    columns: list[list[str]] = [[] for _ in picked]
    problems: list[str] = []
    try:
        row = reader.line_num + 1
        for cells in reader:
            if len(cells) != len(header):
                if any(cell.strip() for cell in cells[len(header) :]):
                    problems.append(
                        f"{csv_path}:{row}: has {len(cells)} cells, the header {len(header)} columns. "
                        f"A text that contains the separator needs quotes."
                    )
                cells += [""] * (len(header) - len(cells))
            texts = [cells[position].strip() for position in picked]
            if any(texts):
                rows.append(row)
                for column, text in zip(columns, texts, strict=True):
                    column.append(text)
            row = reader.line_num + 1
    except csv.Error as error:
        problems.append(f"{csv_path}:{reader.line_num}: cannot be read as a table: {error}.")
    if problems:
        raise DataError(shortened(problems))
    return rows, columns


def _read_header(line: str, csv_path: Path, wanted: list[str]) -> tuple[list[str], str]:
    """Return the column names and the separator: of comma, semicolon and tab the one that finds most of the wanted columns."""
    if not line.strip():
        raise DataError(f"{csv_path}: is empty. It needs the columns {', '.join(wanted)}.")
    headers = {separator: [name.strip() for name in next(csv.reader([line], delimiter=separator))] for separator in SEPARATORS}
    best = max(SEPARATORS, key=lambda separator: (len(set(wanted) & set(headers[separator])), len(headers[separator])))
    _check_columns(csv_path, headers[best], wanted)
    return headers[best], best


def _check_columns(csv_path: Path, header: list[str], wanted: list[str]) -> None:
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


def _fold_names(texts: Iterable[str]) -> tuple[dict[str, str], set[str]]:
    """Return the normalised name of every text of the fold column, and the texts that name none ("nan")."""
    names: dict[str, str] = {}
    unnamed: set[str] = set()
    for text in set(texts):
        try:
            names[text] = fold_name(text)
        except ValueError:
            unnamed.add(text)
    return names, unnamed


def _repeated_images(csv_path: Path, rows: Sequence[int], images: Sequence[str]) -> list[str]:
    # Most paths are plain; only those that could be spelt otherwise take the slow way.
    plain = images
    if ODD_PATH.search("\n".join(images)):
        plain = [os.path.normpath(image) if ODD_PATH.search(image) else image for image in images]
    if len(set(plain)) == len(plain):
        return []
    repeated = {image for image, count in Counter(plain).items() if count > 1 and image}
    members: dict[str, list[int]] = {}
    for row, image in zip(rows, plain, strict=True):
        if image in repeated:
            members.setdefault(image, []).append(row)
    return list(
        shortened([f"{csv_path}: {rows_in_words(numbers)} name the same image, {image}. Keep one." for image, numbers in members.items()])
    )


def _names(rows: Sequence[int], patients: Sequence[str], images: Sequence[str]) -> list[str]:
    """Return the PatientID where it is unique, else with the image's name, else with the row; safe as a file name on any system."""
    safe = {patient: _safe(patient) for patient in set(patients)}
    bases = [safe[patient] for patient in patients]
    names = bases
    for by_row in (False, True):
        counts = Counter(map(str.casefold, names))  # some file systems do not tell A from a
        if len(counts) == len(names) and "" not in counts:
            return names
        names = [
            name if name and counts[name.casefold()] == 1 else f"{base}_row{row}" if by_row else f"{base}_{_safe(_stem(image))}"
            for name, base, row, image in zip(names, bases, rows, images, strict=True)
        ]
    taken: set[str] = set()
    for index, name in enumerate(names):
        name = name.lstrip("_")
        while name.casefold() in taken:  # only where a PatientID looks like another one with its suffix
            name += f"_row{rows[index]}"
        taken.add(name.casefold())
        names[index] = name
    return names


def _stem(path: str) -> str:
    path = path.rstrip("/\\")
    name = path[max(path.rfind("/"), path.rfind("\\")) + 1 :]
    if "." not in name:
        return name
    for ending in (".gz", ".nii"):
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    return name


def _safe(text: str) -> str:
    return text if text.isalnum() and len(text) <= MAX_NAME else re.sub(r"[^\w.-]+", "_", text).strip("._-")[:MAX_NAME]
