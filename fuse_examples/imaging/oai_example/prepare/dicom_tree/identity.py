"""Whose scan a series is, and what it is called: from the header of one of its files."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydicom import dcmread

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.prepare.sides import side_in, side_of_code

_DATES = ("SeriesDate", "AcquisitionDate", "StudyDate", "ContentDate")
_LATERALITY = ("ImageLaterality", "Laterality")
_TEXTS = (
    "PatientID",
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "SeriesNumber",
    "Modality",
    "AccessionNumber",
    "BodyPartExamined",
)


@dataclass(frozen=True)
class Identity:
    """Texts of a header; "" where the file does not say.

    Attributes:
        patient: PatientID.
        date: of the series, else of the acquisition or the study, YYYYMMDD.
        side: LEFT or RIGHT, from the series description, the laterality attributes, or the study description.
        study, series: the descriptions; the protocol's name stands in for a missing series description.
        series_number, modality, accession: as DICOM has them.
    """

    patient: str
    date: str
    side: str
    study: str
    series: str
    series_number: str
    modality: str
    accession: str


@cache
def identity_of(path: Path) -> Identity:
    """Read the texts of one file; raise `DataError` where pydicom cannot."""
    try:
        dataset = dcmread(path, force=True, stop_before_pixels=True, specific_tags=[*_DATES, *_LATERALITY, *_TEXTS])
        texts = {name: str(dataset.get(name) or "").strip(" \0") for name in (*_DATES, *_LATERALITY, *_TEXTS)}
    except Exception as error:  # pydicom lets many kinds through when bytes are damaged
        raise DataError(f"{path}: the DICOM header cannot be read ({error}).") from error
    series = texts["SeriesDescription"] or texts["ProtocolName"]
    side = (
        side_in(series) or next(filter(None, (side_of_code(texts[name]) for name in _LATERALITY)), "") or side_in(texts["StudyDescription"])
    )
    date = next((texts[name] for name in _DATES if texts[name]), "")
    study, number = texts["StudyDescription"], texts["SeriesNumber"]
    return Identity(texts["PatientID"], date, side, study, series, number, texts["Modality"], texts["AccessionNumber"])
