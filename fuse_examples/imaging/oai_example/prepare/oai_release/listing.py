"""The series of a release: from `contents.csv` of any release, from NDA's `image03.txt`, or from the folders alone."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.prepare.oai_release.series import PACKED, RELEASE, OAISeries, series_of_path
from fuse_examples.imaging.oai_example.prepare.tables.text_table import TextTable, read_text_table

MAX_DEPTH = 6  # folders above a release: package, results, image03, data, visit
BARCODE_DIGITS = 12  # 0166 and the eight of the series' folder
ENCODINGS = ("utf-8-sig", "latin-1")


def listed_series(root: Path, lists: Sequence[Path]) -> tuple[list[OAISeries], str]:
    """Return the series of `root` and where they were found listed.

    Args:
        root: a release's folder, or any folder above releases.
        lists: contents.csv or image03.txt files; empty: those below `root`, or if there are none the folders.

    Raises:
        DataError: no folder, a list of another form, or no release at all.
    """
    if not root.is_dir():
        raise DataError(f"{root}: is not a folder.")
    releases, found = _walk(root)
    files = list(lists) or found
    if not files and not releases:
        raise DataError(f"{root}: holds no release folder (such as 0.E.1), no contents.csv and no image03.txt.")
    if not files:
        return sorted(_from_folders(releases), key=lambda series: series.name), "folders"
    series: dict[str, OAISeries] = {}
    for file in files:
        for entry in _from_table(read_text_table(file, encodings=ENCODINGS)):
            series.setdefault(entry.name, replace(entry, folder=_place(entry, releases)))
    return list(series.values()), ", ".join(str(file) for file in files)


def _walk(root: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Return release folders by name, and lists, without going down into participants' folders."""
    releases: dict[str, list[Path]] = {}
    lists: list[Path] = []
    if RELEASE.fullmatch(root.name):
        releases[root.name] = [root]
    depth = len(root.parts)
    for folder, names, files in os.walk(root):
        path = Path(folder)
        lists += [path / file for file in files if _is_list(file)]
        for name in list(names):
            if RELEASE.fullmatch(name):
                releases.setdefault(name, []).append(path / name)
        inside = RELEASE.fullmatch(path.name) is not None or len(path.parts) - depth >= MAX_DEPTH
        names[:] = [] if inside else sorted(names)
    return releases, sorted(lists)


def _is_list(name: str) -> bool:
    lower = name.lower()
    return lower == "image03.txt" or (lower.startswith("contents") and lower.endswith(".csv"))


def _from_table(table: TextTable) -> Iterator[OAISeries]:
    if table.has("image_file"):
        yield from _from_image03(table)
    elif table.has("Folder"):
        yield from _from_contents(table)
    else:
        raise DataError(f"{table.path}: is neither contents.csv (column Folder) nor image03.txt (column image_file).")


def _from_contents(table: TextTable) -> Iterator[OAISeries]:
    """One row a series: Folder, ParticipantID, StudyDate, Barcode, StudyDescription, SeriesDescription."""
    further = [name for name in ("Barcode", "StudyDescription") if table.has(name)]
    for row, line in zip(table.records(["Folder", "SeriesDescription", *further]), table.lines, strict=True):
        series = series_of_path(row["Folder"])
        if series is None:
            raise DataError(f"{table.path}:{line}: Folder is {row['Folder']!r}, not release/participant/date/series.")
        given = row.get("Barcode", "")
        barcode = given.zfill(BARCODE_DIGITS) if given.isdecimal() else series.barcode or given  # spreadsheets drop zeros, or digits
        yield replace(series, description=row["SeriesDescription"], study=row.get("StudyDescription", ""), barcode=barcode)


def _from_image03(table: TextTable) -> Iterator[OAISeries]:
    """Under the header stands a row of definitions; every later row is a packed series. Other images' rows have other paths."""
    for row in table.records(["image_file", "image_description"]):
        series = series_of_path(row["image_file"])
        if series is not None:
            yield replace(series, description=row["image_description"])


def _from_folders(releases: dict[str, list[Path]]) -> Iterator[OAISeries]:
    for folders in releases.values():
        for release in folders:
            for patient in _entries(release):
                for date in _entries(patient):
                    for place in _entries(date):
                        series = series_of_path("/".join((release.name, patient.name, date.name, place.name)))
                        unpacked = place.with_name(place.name.removesuffix(PACKED))
                        if series is not None and (place.is_dir() or (place.name.endswith(PACKED) and not unpacked.exists())):
                            yield replace(series, folder=unpacked)


def _entries(folder: Path) -> Iterable[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else ()


def _place(series: OAISeries, releases: dict[str, list[Path]]) -> Path | None:
    places = [release / series.patient / series.date / series.number for release in releases.get(series.release, [])]
    there = [place for place in places if place.is_dir() or place.with_name(place.name + PACKED).is_file()]
    return there[0] if there else places[0] if places else None
