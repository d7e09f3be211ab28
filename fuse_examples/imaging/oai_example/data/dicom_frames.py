"""One 2D image of a DICOM file with its place in the patient: the unit that series are sorted from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

Vector = NDArray[np.float64]
COSINE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Frame:
    """A slice: geometry in DICOM's own axes (LPS, towards the patient's left, back and head, in mm).

    Attributes:
        number: index within a multi-frame file; 0 in an ordinary one.
        row_direction: unit vector along a row, that is the way the column index grows.
        column_direction: unit vector along a column, that is the way the row index grows.
        spacing: mm between rows, mm between columns: the order of PixelSpacing.
        kind: what tells volumes of one series apart, for grouping and for messages.
    """

    path: Path
    dataset: Dataset
    number: int
    series: str
    description: str
    kind: tuple[tuple[str, str], ...]
    matrix: tuple[int, int]
    row_direction: Vector
    column_direction: Vector
    position: Vector
    spacing: tuple[float, float]
    slope: float
    intercept: float

    @property
    def normal(self) -> Vector:
        """Unit vector across the slice, row x column."""
        return np.cross(self.row_direction, self.column_direction)

    @property
    def label(self) -> str:
        """File name, with the frame's number in a multi-frame file."""
        return self.path.name if "PerFrameFunctionalGroupsSequence" not in self.dataset else f"{self.path.name}, frame {self.number + 1}"

    @property
    def is_localizer(self) -> bool:
        """Whether the image type says that this is a scout image."""
        return "LOCALIZER" in dict(self.kind)["image type"]


class UnusableFrame(Exception):
    """A file whose image has no place in a volume; the text says why."""


def frames_of(path: Path, dataset: Dataset) -> list[Frame]:
    """Return the frames of one file; raise `UnusableFrame` where geometry is missing or the image is not grey values."""
    _refuse_kinds(dataset)
    if "PerFrameFunctionalGroupsSequence" in dataset:
        shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
        groups = dataset.PerFrameFunctionalGroupsSequence
        return [_frame(path, dataset, number, _Sources(dataset, group, shared[0])) for number, group in enumerate(groups)]
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise UnusableFrame("is a multi-frame file without a position for each frame")
    return [_frame(path, dataset, 0, _Sources(dataset))]


class _Sources:
    """Look an attribute up in a frame's functional groups, then in the shared ones, then in the file itself."""

    def __init__(self, dataset: Dataset, *groups: Dataset) -> None:
        self._dataset, self._groups = dataset, groups

    def get(self, name: str, sequence: str = "") -> Any:
        for group in self._groups:
            for item in group.get(sequence) or []:
                if name in item:
                    return item[name].value
        return self._dataset.get(name)

    def numbers(self, name: str, count: int, sequence: str = "") -> Vector:
        value = self.get(name, sequence)
        try:
            numbers = np.array([float(number) for number in value], dtype=np.float64)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if numbers.shape != (count,) or not np.isfinite(numbers).all():
            raise UnusableFrame(f"has no usable {name} (found {value}, {count} numbers are needed)")
        return numbers

    def number(self, name: str, default: float, sequence: str = "") -> float:
        value = self.get(name, sequence)
        try:
            number = default if value is None or value == "" else float(value)
        except (TypeError, ValueError):
            number = np.nan
        if not np.isfinite(number):
            raise UnusableFrame(f"has no usable {name} (found {value})")
        return number


def _refuse_kinds(dataset: Dataset) -> None:
    image_type = _text(dataset.get("ImageType"))
    interpretation = str(dataset.get("PhotometricInterpretation", "MONOCHROME2")).strip().upper()
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or not interpretation.startswith("MONOCHROME"):
        raise UnusableFrame(f"is a colour image ({interpretation}), not grey values")
    if "MOSAIC" in image_type.split("\\"):
        raise UnusableFrame("is a mosaic (all slices of a volume tiled into one image)")
    if "ModalityLUTSequence" in dataset and "RescaleSlope" not in dataset:
        raise UnusableFrame("maps its values through a look-up table (ModalityLUTSequence)")
    if int(dataset.get("BitsAllocated") or 0) == 1:
        raise UnusableFrame("is a DICOM segmentation of one bit a voxel")


def _frame(path: Path, dataset: Dataset, number: int, sources: _Sources) -> Frame:
    orientation = sources.numbers("ImageOrientationPatient", 6, "PlaneOrientationSequence")
    row, column = orientation[:3], orientation[3:]
    if max(abs(row @ row - 1), abs(column @ column - 1), abs(row @ column)) > COSINE_TOLERANCE * 2:
        raise UnusableFrame(f"has an ImageOrientationPatient that is not two perpendicular unit vectors ({_text(orientation)})")
    spacing = sources.numbers("PixelSpacing", 2, "PixelMeasuresSequence")
    if spacing.min() <= 0:
        raise UnusableFrame(f"has a PixelSpacing of {_text(spacing)}; it must be positive")
    slope = sources.number("RescaleSlope", 1.0, "PixelValueTransformationSequence")
    if slope == 0:
        raise UnusableFrame("has a RescaleSlope of 0")
    return Frame(
        path=path,
        dataset=dataset,
        number=number,
        series=str(dataset.get("SeriesInstanceUID", "")),
        description=str(dataset.get("SeriesDescription") or dataset.get("ProtocolName") or ""),
        kind=_kind(sources),
        matrix=(int(dataset.Rows), int(dataset.Columns)),
        row_direction=row,
        column_direction=column,
        position=sources.numbers("ImagePositionPatient", 3, "PlanePositionSequence"),
        spacing=(float(spacing[0]), float(spacing[1])),
        slope=slope,
        intercept=sources.number("RescaleIntercept", 0.0, "PixelValueTransformationSequence"),
    )


def _kind(sources: _Sources) -> tuple[tuple[str, str], ...]:
    """Return echo number, echo time and image type as text, from wherever the file keeps them."""
    echo_time = sources.get("EffectiveEchoTime", "MREchoSequence") or sources.get("EchoTime")
    image_type = sources.get("FrameType", "MRImageFrameTypeSequence") or sources.get("FrameType", "CTImageFrameTypeSequence")
    return (
        ("echo", _text(sources.get("EchoNumbers"))),
        ("echo time", "" if echo_time in (None, "") else f"{float(echo_time):.2f} ms"),
        ("image type", _text(image_type or sources.get("ImageType"))),
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return str(value)
    return "\\".join(str(part) for part in value)
