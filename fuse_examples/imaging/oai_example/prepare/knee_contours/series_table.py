"""The series that contours belong to, from the table that `prepare.oai` wrote."""

import re
from dataclasses import dataclass
from pathlib import Path

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.prepare.sides import side_in
from fuse_examples.imaging.oai_example.prepare.tables.text_table import read_text_table


@dataclass(frozen=True)
class KneeSeries:
    """A row of the table."""

    patient: str
    visit: str
    side: str
    barcode: str
    folder: Path


def read_series_table(path: Path) -> list[KneeSeries]:
    """Read PatientID, path, side, visit and barcode; raise `DataError` where a column is missing."""
    rows = read_text_table(path).records(["PatientID", "path", "side", "visit", "barcode"])
    return [KneeSeries(row["PatientID"], row["visit"], row["side"], row["barcode"], path.parent / row["path"]) for row in rows]


def series_of(file: Path, table: list[KneeSeries]) -> KneeSeries:
    """Return the series that a contour file belongs to.

    Its bar code decides where the file's name has one; else participant and visit, from the names of the file and its folders, and the
    side, from the file's name, or the only side that the table has.

    Raises:
        DataError: no such series, or several.
    """
    place = "/".join(file.parts[-3:])
    barcode = re.search(r"(?<!\d)0166\d{8}(?!\d)", file.stem)
    if barcode:
        found = [series for series in table if series.barcode == barcode[0]]
        if not found:
            raise DataError(f"{file}: its series {barcode[0]} is not in the table of series.")
        return found[0]
    patient, visit = re.search(r"(?<!\d)(9\d{6})(?!\d)", place), re.search(r"(?<![A-Z])(V\d\d)(?!\d)", place.upper())
    if not patient or not visit:
        raise DataError(f"{file}: neither its name nor its folders name a participant (seven digits from 9) and a visit (V00, V01).")
    side = side_in(file.stem)
    found = [s for s in table if s.patient == patient[1] and s.visit == visit[1] and side in ("", s.side)]
    if not found:
        raise DataError(f"{file}: the table has no series of participant {patient[1]} at {visit[1]}{f', {side}' if side else ''}.")
    if len(found) > 1:
        raise DataError(f"{file}: its name says no side, and the table has {len(found)} series of {patient[1]} at {visit[1]}.")
    return found[0]
