"""Which series become rows: readable ones of the chosen visits and descriptions, of one side for sure, the later of repeated scans."""

import fnmatch
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fuse_examples.imaging.oai_example.data.dicom_files import regular_files
from fuse_examples.imaging.oai_example.data.problem_lists import shortened
from fuse_examples.imaging.oai_example.data.scans import read_header
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.geometry.volume import Grid
from fuse_examples.imaging.oai_example.prepare.archives.unpacking import unpack
from fuse_examples.imaging.oai_example.prepare.dicom_tree.identity import Identity, identity_of
from fuse_examples.imaging.oai_example.prepare.oai_release.series import PACKED, VISITS, OAISeries
from fuse_examples.imaging.oai_example.prepare.reading_many import collected_warnings, side_by_side
from fuse_examples.imaging.oai_example.prepare.sides import LEFT, RIGHT, side_in

MIN_OFFSET = 10.0  # mm from the scanner's middle, from which on the position says which knee it is


@dataclass(frozen=True)
class LeftOut:
    """A series without a row, and why."""

    series: OAISeries
    reason: str


@dataclass(frozen=True)
class Selected:
    """A series that becomes a row.

    Attributes:
        series: with folder and side.
        position: "agrees", "disagrees" or "unknown": whether it lies on that side of the scanner's middle.
    """

    series: OAISeries
    position: str


@dataclass(frozen=True)
class SelectionOptions:
    """What to select.

    Attributes:
        visits: such as V00.
        descriptions: patterns, without regard to capitals.
        unpack: unpack series that are still .tar.gz files.
        workers: series read at the same time.
    """

    visits: tuple[str, ...]
    descriptions: tuple[str, ...]
    unpack: bool
    workers: int


def visit_names(words: Sequence[str]) -> tuple[str, ...]:
    """Return visits given as V00 or as months (00m); raise `DataError` for others."""
    months = {month: visit for visit, month in VISITS.items()}
    unknown = [word for word in words if word.upper() not in VISITS and word.lower() not in months]
    if unknown:
        raise DataError(f"--visits {' '.join(unknown)}: visits are {', '.join(f'{visit} ({month})' for visit, month in VISITS.items())}.")
    return tuple(dict.fromkeys(months.get(word.lower(), word.upper()) for word in words))


def select(listed: Sequence[OAISeries], options: SelectionOptions) -> tuple[list[Selected], list[LeftOut]]:
    """Return the series that become rows, sorted, and those of the chosen kind that do not.

    Raises:
        DataError: no series of the chosen visits and descriptions.
    """
    of_visits = [series for series in listed if series.visit in options.visits]
    if not of_visits:
        visits = Counter(series.visit for series in listed)
        raise DataError(
            f"No series of {', '.join(options.visits)}; found {', '.join(f'{n} of {visit}' for visit, n in sorted(visits.items()))}."
        )
    with collected_warnings():
        described = side_by_side(_with_texts, of_visits, options.workers, "Reading descriptions", "series")
        fitting = [series for series in described if _fits(series.description, options.descriptions)]
        if not fitting:
            counts = Counter(series.description for series in described).most_common()
            lines = [f"  {count} x {text or '(none)'}" for text, count in counts]
            raise DataError([f"No series description fits {', '.join(options.descriptions)}. Found:", *shortened(lines)])
        results = side_by_side(lambda series: _examined(series, options.unpack), fitting, options.workers, "Reading headers", "series")
    kept, repeated = _latest([result for result in results if isinstance(result, Selected)])
    return sorted(kept, key=lambda found: found.series.name), [*repeated, *(result for result in results if isinstance(result, LeftOut))]


def _fits(description: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(description.casefold(), pattern.casefold()) for pattern in patterns)


def _with_texts(series: OAISeries) -> OAISeries:
    """Take from the header what no list says; a series whose header cannot be read keeps an empty description."""
    if series.description or series.folder is None or not series.folder.is_dir():
        return series
    identity = _identity(_image_folder(series.folder))
    return replace(series, description=identity.series, study=identity.study) if identity else series


def _identity(folder: Path) -> Identity | None:
    files = [file for file in regular_files(folder)[0] if not file.name.startswith(".")]
    try:
        return identity_of(files[0]) if files else None
    except DataError:
        return None


def _image_folder(folder: Path) -> Path:
    """Return where the files are: an unpacked archive may hold the series' folder once more."""
    while True:
        files, folders = regular_files(folder)
        if files or len(folders) != 1:
            return folder
        folder = folders[0]


def _latest(selected: Sequence[Selected]) -> tuple[list[Selected], list[LeftOut]]:
    """Of readable scans of one knee at one visit keep the latest: a scan is repeated where the first was not good enough."""
    groups: dict[tuple[str, ...], list[Selected]] = defaultdict(list)
    for found in selected:
        groups[found.series.patient, found.series.visit, found.series.description.casefold()].append(found)
    kept, left = [], []
    for members in groups.values():
        *earlier, last = sorted(members, key=lambda found: found.series.order)
        kept.append(last)
        left += [LeftOut(found.series, f"was repeated in the same visit; {last.series.name} is the later scan") for found in earlier]
    return kept, left


def _examined(series: OAISeries, may_unpack: bool) -> Selected | LeftOut:
    """Open a series; whatever makes it unfit for a row is the reason for leaving it out."""
    if series.folder is None:
        return LeftOut(series, f"its release {series.release} is not on this disk")
    if not series.folder.is_dir():
        archive = series.folder.with_name(series.folder.name + PACKED)
        if not archive.is_file():
            return LeftOut(series, f"{series.folder} does not exist")
        if not may_unpack:
            return LeftOut(series, f"{archive} is still packed; pass --unpack")
        try:
            unpack(archive, series.folder)
        except DataError as error:
            return LeftOut(series, error.problems[0])
    folder = _image_folder(series.folder)
    try:
        grid = read_header(folder).source
    except DataError as error:
        return LeftOut(series, error.problems[0].removeprefix(f"{folder}: "))
    identity = _identity(folder)
    clash = _clash(series, identity) if identity else ""
    if clash:
        return LeftOut(series, clash)
    series = replace(series, folder=folder, study=series.study or (identity.study if identity else ""))
    return Selected(series, _position(grid, series.side))


def _clash(series: OAISeries, identity: Identity) -> str:
    """Say what in the header contradicts the series' path, the list, or itself."""
    if identity.patient and identity.patient != series.patient:
        return f"its header names participant {identity.patient}, its path {series.patient}"
    if identity.series and identity.series.casefold() != series.description.casefold():
        return f"its header says {identity.series}, the list {series.description}"
    if not series.side:
        return f"its description {series.description!r} names no side"
    study = side_in(identity.study) or side_in(series.study)
    if study and study != series.side:
        return f"its series description says {series.side}, its study description {study}"
    return ""


def _position(grid: Grid, side: str) -> str:
    right = float(grid.corners()[:, 0].mean())  # mm to the patient's right of the scanner's middle
    if abs(right) < MIN_OFFSET:
        return "unknown"
    return "agrees" if (RIGHT if right > 0 else LEFT) == side else "disagrees"
