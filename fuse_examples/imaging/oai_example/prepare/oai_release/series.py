"""A series of an OAI release and how its folders, `contents.csv` and NDA's `image03.txt` name it.

Folders are `<release>/<participant>/<YYYYMMDD>/<series>`, such as 0.E.1/9005075/20050926/10593811, below a folder per visit (00m, 12m,
...) and whatever the download put above it. A release is named by visit, group and version; its first number is the visit's.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from fuse_examples.imaging.oai_example.prepare.sides import side_in

VISITS = {
    "V00": "00m", "V01": "12m", "V02": "18m", "V03": "24m", "V04": "30m", "V05": "36m", "V06": "48m", "V08": "72m", "V10": "96m",
}  # fmt: skip
"""Visits and their months, which are also the visits' folder names."""
RELEASE = re.compile(r"(\d+)\.[A-Z]\.\d+")
SERIES_PATH = re.compile(r"(?P<release>\d+\.[A-Z]\.\d+)[/\\](?P<patient>\d{7})[/\\](?P<date>\d{8})[/\\](?P<number>[^/\\]+?)(?:\.tar\.gz)?$")
PACKED = ".tar.gz"


@dataclass(frozen=True)
class OAISeries:
    """One series.

    Attributes:
        patient: participant, seven digits.
        release: such as 0.E.1.
        date: of the study, YYYYMMDD.
        number: name of the series' folder: the last eight digits of the bar code.
        folder: where its files should be; None if the release is not on this disk.
        description: SeriesDescription, such as SAG_3D_DESS_LEFT; "" where only the header can say.
        study: StudyDescription, likewise.
        barcode: with its leading zeros, as text.
    """

    patient: str
    release: str
    date: str
    number: str
    folder: Path | None
    description: str = ""
    study: str = ""
    barcode: str = ""

    @property
    def visit(self) -> str:
        """V00, V01, ... from the release's first number."""
        return f"V{int(self.release.split('.')[0]):02d}"

    @property
    def side(self) -> str:
        """LEFT, RIGHT or "", from the series description."""
        return side_in(self.description)

    @property
    def name(self) -> str:
        """The series as its path below the visit's folder."""
        return f"{self.release}/{self.patient}/{self.date}/{self.number}"

    @property
    def order(self) -> tuple[str, int, str]:
        """Sorts scans of one knee by time."""
        return self.date, int(self.number) if self.number.isdecimal() else -1, self.number


def series_of_path(path: str) -> OAISeries | None:
    """Return the series that a path ends in, without folder; None for what is no series of a release."""
    match = SERIES_PATH.search(path.strip())
    if not match:
        return None
    barcode = f"0166{match['number']}" if re.fullmatch(r"\d{8}", match["number"]) else ""
    return OAISeries(match["patient"], match["release"], match["date"], match["number"], None, barcode=barcode)
