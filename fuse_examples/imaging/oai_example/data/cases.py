"""The CSV file of a stage as a tuple of cases. All text stays text: identifiers keep their leading zeros, "NA" is a name like any other."""

import gc
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path

from fuse_examples.imaging.oai_example.configuration.fold_names import fold_name
from fuse_examples.imaging.oai_example.data.csv_columns import column_names, read_columns
from fuse_examples.imaging.oai_example.data.problem_lists import rows_in_words, shortened
from fuse_examples.imaging.oai_example.errors import DataError

MAX_NAME = 80  # characters of each part; names become file names
ODD_IN_PATHS = ("//", "./", ".\n", "/\n")
"""A path with one of these, before a line's end, may be another spelling of a plainer one."""


AnyPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Case:
    """One row of a CSV file.

    A million paths as text take a fifth of the time and room that they take as `Path`; those become one when they are asked for.

    Attributes:
        row: line number in the CSV file; the header is line 1.
        name: unique and fit for a file name.
        patient: the PatientID, as written.
        image_file: DICOM folder or NIfTI file, absolute or relative to the working directory.
        mask_file: the same for the mask; None outside segmentation.
        fold: normalised by `fold_name`.
        targets: text per target column; None for an empty cell.
        extra: the same for further columns that a run asks for.
        further_files: where the image has several channels, those after the first.
    """

    row: int
    name: str
    patient: str
    image_file: AnyPath
    mask_file: AnyPath | None
    fold: str
    targets: Mapping[str, str | None]
    extra: Mapping[str, str | None] = field(default_factory=dict)
    further_files: tuple[AnyPath, ...] = ()

    @property
    def image(self) -> Path:
        """The image; the first channel where it has several."""
        return Path(self.image_file)

    @property
    def mask(self) -> Path | None:
        """The mask, None outside segmentation."""
        return None if self.mask_file is None else Path(self.mask_file)

    @property
    def further_images(self) -> tuple[Path, ...]:
        """The channels after the first."""
        return tuple(map(Path, self.further_files))

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
        rows, columns = read_columns(csv_path, [*required, *targets, *extra])
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


def read_scans(csv_path: Path, *, channels: Sequence[str] = (), extra: Sequence[str] = ()) -> tuple[Case, ...]:
    """Read the scans of a table for prediction: of any stage's table, or of one that has `path` or `img_path` alone.

    Folds, masks and targets are passed over; the patient is "" where the table has no PatientID. Raises `DataError` with all problems.
    """
    names = column_names(csv_path)
    images = list(channels) or [next((name for name in ("path", "img_path") if name in names), "path")]
    patient = ["PatientID"] if "PatientID" in names else []
    rows, columns = read_columns(csv_path, [*patient, *images, *extra])
    problems = []
    for column in images:
        empty = [row for row, text in zip(rows, columns[column], strict=True) if not text]
        if empty:
            problems.append(f"{csv_path}: {column} is empty in {rows_in_words(empty)}. Fill it in or remove the row.")
    problems += _repeated_images(csv_path, rows, columns[images[0]])
    if problems:
        raise DataError(problems)
    columns["fold"] = [""] * len(rows)
    columns.setdefault("PatientID", list(map(_stem, columns[images[0]])))  # names the case
    cases = _cases(csv_path.parent, rows, columns, images, (), extra)
    return tuple(case if patient else replace(case, patient="") for case in cases)


def _cases(
    folder: Path, rows: list[int], columns: dict[str, list[str]], image_columns: Sequence[str], targets: Sequence[str], extra: Sequence[str]
) -> Iterator[Case]:
    first, *later = ([*_located(folder, columns[column])] for column in image_columns)
    masks: Iterable[str | None] = _located(folder, columns["seg_path"]) if "seg_path" in columns else repeat(None, len(rows))
    labels, others = (_shared_mappings(wanted, columns, len(rows)) for wanted in (targets, extra))
    return map(
        Case,
        rows,
        _names(rows, columns["PatientID"], columns[image_columns[0]]),
        columns["PatientID"],
        first,
        masks,
        columns["fold"],
        labels,
        others,
        zip(*later, strict=True) if later else repeat(()),
    )


def _located(folder: Path, paths: Iterable[str]) -> Iterator[str]:
    """Paths relative to `folder` as the working directory sees them; absolute ones stay."""
    above = os.path.join(folder, "")
    return (path if path.startswith(os.sep) else above + path for path in paths)


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
    joined = "\n".join(["", *images, ""])
    plain = images
    if any(odd in joined for odd in ODD_IN_PATHS):
        plain = [os.path.normpath(image) if any(odd in f"{image}\n" for odd in ODD_IN_PATHS) else image for image in images]
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
    n_rows = Counter(patients)
    safe = {patient: _safe(patient) for patient in n_rows}
    counts: Counter[str] = Counter()
    for patient, base in safe.items():
        counts[base.casefold()] += n_rows[patient]  # some file systems do not tell A from a
    alone = {patient for patient, base in safe.items() if base and counts[base.casefold()] == 1}
    names = [
        safe[patient] if patient in alone else f"{safe[patient]}_{_safe(_stem(image))}"
        for patient, image in zip(patients, images, strict=True)
    ]
    folded = list(map(str.casefold, names))
    if len(set(folded)) == len(names):
        return names
    counts = Counter(folded)
    taken: set[str] = set()
    for index, (name, fold) in enumerate(zip(names, folded, strict=True)):
        if counts[fold] > 1:
            name = f"{safe[patients[index]]}_row{rows[index]}"
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
