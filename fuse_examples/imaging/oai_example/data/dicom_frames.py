"""One 2D image of a DICOM file with its place in the patient: the unit that series are sorted from."""

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fuse_examples.imaging.oai_example.data.dicom_files import ImageFile
from fuse_examples.imaging.oai_example.data.dicom_kinds import SEGMENTATIONS
from fuse_examples.imaging.oai_example.data.dicom_quick import NUMBERS, TEXT

Vector = NDArray[np.float64]
COSINE_TOLERANCE = 1e-3
BITS_ALLOCATED = (8, 16, 32, 64)


@dataclass(frozen=True)
class Frame:
    """A slice: geometry in DICOM's own axes (LPS, towards the patient's left, back and head, in mm).

    Attributes:
        number: index within a multi-frame file; 0 in an ordinary one.
        series: UID of the series.
        kind: what tells volumes of one series apart, for grouping and for messages.
        matrix: rows, columns.
        orientation: ImageOrientationPatient, six numbers: the way the column index grows, then the way the row index grows.
        position: centre of the first pixel.
        spacing: mm between rows, mm between columns: the order of PixelSpacing.
        slope, intercept: from stored values to the scan's units.
    """

    file: ImageFile
    number: int
    series: str
    description: str
    kind: tuple[tuple[str, str], ...]
    matrix: tuple[int, int]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    spacing: tuple[float, ...]
    slope: float
    intercept: float

    @property
    def row_direction(self) -> Vector:
        """Unit vector along a row: the way the column index grows."""
        return np.array(self.orientation[:3])

    @property
    def column_direction(self) -> Vector:
        """Unit vector along a column: the way the row index grows."""
        return np.array(self.orientation[3:])

    @property
    def normal(self) -> Vector:
        """Unit vector across the slice, row direction x column direction."""
        return np.cross(self.row_direction, self.column_direction)

    @property
    def label(self) -> str:
        """File name, with the frame's number in a multi-frame file."""
        name = self.file.path.name
        return f"{name}, frame {self.number + 1}" if self.file.values.get("NumberOfFrames", 1) > 1 else name

    @property
    def is_localizer(self) -> bool:
        """Whether the image type says that this is a scout image."""
        return "LOCALIZER" in dict(self.kind)["image type"]

    @property
    def moment(self) -> dict[str, str]:
        """What tells images of one place apart, by the name of its element; for messages."""
        sources = _sources(self.file)[self.number]
        found = {
            "TemporalPositionIdentifier": sources.text("TemporalPositionIdentifier"),
            "TemporalPositionIndex": sources.text("", ("FrameContentSequence", "TemporalPositionIndex")),
            "DiffusionBValue": sources.text("DiffusionBValue", ("MRDiffusionSequence", "DiffusionBValue")),
            "AcquisitionNumber": sources.text("AcquisitionNumber"),
            "FrameAcquisitionNumber": sources.text("", ("FrameContentSequence", "FrameAcquisitionNumber")),
            **{name: sources.text(name) for name in ("TriggerTime", "InversionTime", "InstanceNumber")},
        }
        return {name: text for name, text in found.items() if text}


class UnusableFrame(Exception):
    """A file whose image has no place in a volume; the text says why."""


def frames_of(file: ImageFile) -> list[Frame]:
    """Return the frames of one file; raise `UnusableFrame` where geometry is missing or the image is not grey values."""
    _refuse_kinds(file.values)
    sources = _sources(file)
    n_frames = file.values.get("NumberOfFrames", 1)
    if len(sources) != n_frames:
        places = "a position for each frame" if len(sources) == 1 else f"as many positions ({len(sources)}) as frames ({n_frames})"
        raise UnusableFrame(f"is a multi-frame file without {places}")
    return [_frame(file, number, source) for number, source in enumerate(sources)]


def _sources(file: ImageFile) -> list["_Sources"]:
    """Where the values of each frame stand."""
    per_frame = None if file.dataset is None else file.dataset.get("PerFrameFunctionalGroupsSequence")
    if file.dataset is None or not per_frame:
        return [_Sources(file)]
    shared = file.dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    return [_Sources(file, group, shared[0]) for group in per_frame]


class _Sources:
    """Look a value up in a frame's functional groups, then in the shared ones, then in the file itself."""

    def __init__(self, file: ImageFile, *groups: Dataset) -> None:
        self._values, self._groups = file.values, groups

    def numbers(self, name: str, count: int, sequence: str) -> tuple[float, ...]:
        value = self._grouped(name, sequence)
        numbers = self._values.get(name) if value is None else NUMBERS.from_pydicom(value)
        if not isinstance(numbers, tuple) or len(numbers) != count or not all(map(math.isfinite, numbers)):
            raise UnusableFrame(f"has no usable {name} (found {numbers}, {count} numbers are needed)")
        return numbers

    def number(self, name: str, default: float, sequence: str) -> float:
        if name not in self._values and self._grouped(name, sequence) is None:
            return default
        return self.numbers(name, 1, sequence)[0]

    def text(self, name: str, *grouped: tuple[str, str]) -> str:
        """Return the first that is there of `grouped`, pairs of sequence and keyword, then the file's own `name`."""
        for sequence, keyword in grouped:
            value = self._grouped(keyword, sequence)
            if value is not None:
                return str(TEXT.from_pydicom(value))
        return str(self._values.get(name, ""))

    def _grouped(self, name: str, sequence: str) -> Any:
        for group in self._groups:
            for item in group.get(sequence) or []:
                if name in item and item[name].value not in (None, ""):
                    return item[name].value
        return None


def _refuse_kinds(values: dict[str, Any]) -> None:
    if values.get("SOPClassUID", "") in SEGMENTATIONS:
        raise UnusableFrame("is a DICOM segmentation, a mask and no image")
    interpretation = values.get("PhotometricInterpretation", "MONOCHROME2").upper()
    if values.get("SamplesPerPixel", 1) != 1 or not interpretation.startswith("MONOCHROME"):
        raise UnusableFrame(f"is a colour image ({interpretation}), not grey values")
    if "MOSAIC" in values.get("ImageType", "").split("\\"):
        raise UnusableFrame("is a mosaic (all slices of a volume tiled into one image)")
    if "ModalityLUTSequence" in values and "RescaleSlope" not in values:
        raise UnusableFrame("maps its values through a look-up table (ModalityLUTSequence)")
    if min(values["Rows"], values["Columns"]) < 1:
        raise UnusableFrame(f"has an image of {values['Columns']} x {values['Rows']} pixels")
    allocated = values.get("BitsAllocated")
    if allocated == 1:
        raise UnusableFrame("is a DICOM segmentation of one bit a voxel")
    if allocated not in BITS_ALLOCATED:
        raise UnusableFrame(f"has no usable BitsAllocated (found {allocated}, {', '.join(map(str, BITS_ALLOCATED))} are read)")


def _frame(file: ImageFile, number: int, sources: _Sources) -> Frame:
    orientation = sources.numbers("ImageOrientationPatient", 6, "PlaneOrientationSequence")
    _check_directions(orientation)
    spacing = sources.numbers("PixelSpacing", 2, "PixelMeasuresSequence")
    if min(spacing) <= 0:
        raise UnusableFrame(f"has a PixelSpacing of {spacing[0]}\\{spacing[1]}; it must be positive")
    slope = sources.number("RescaleSlope", 1.0, "PixelValueTransformationSequence")
    if slope == 0:
        raise UnusableFrame("has a RescaleSlope of 0")
    values = file.values
    return Frame(
        file=file,
        number=number,
        series=values.get("SeriesInstanceUID", ""),
        description=values.get("SeriesDescription") or values.get("ProtocolName", ""),
        kind=_kind(sources),
        matrix=(values["Rows"], values["Columns"]),
        orientation=orientation,
        position=sources.numbers("ImagePositionPatient", 3, "PlanePositionSequence"),
        spacing=spacing,
        slope=slope,
        intercept=sources.number("RescaleIntercept", 0.0, "PixelValueTransformationSequence"),
    )


def _check_directions(orientation: tuple[float, ...]) -> None:
    row, column = orientation[:3], orientation[3:]
    off = (math.hypot(*row) - 1, math.hypot(*column) - 1, sum(map(float.__mul__, row, column)))
    if max(map(abs, off)) > COSINE_TOLERANCE:
        found = "\\".join(f"{value:g}" for value in orientation)
        raise UnusableFrame(f"has an ImageOrientationPatient that is not two perpendicular unit vectors ({found})")


def _kind(sources: _Sources) -> tuple[tuple[str, str], ...]:
    """Return echo number, echo time, image type and stack as text, from wherever the file keeps them."""
    echo_time = sources.text("EchoTime", ("MREchoSequence", "EffectiveEchoTime"))
    with suppress(ValueError):  # several numbers or none are kept as they are, to tell volumes apart
        echo_time = f"{float(echo_time):.2f} ms" if echo_time else ""
    frame_types = ("MRImageFrameTypeSequence", "FrameType"), ("CTImageFrameTypeSequence", "FrameType")
    return (
        ("echo", sources.text("EchoNumbers")),
        ("echo time", echo_time),
        ("image type", sources.text("ImageType", *frame_types)),
        ("stack", sources.text("StackID", ("FrameContentSequence", "StackID"))),
    )
