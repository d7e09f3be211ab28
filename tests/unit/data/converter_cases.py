"""DICOM series of many kinds that an independent converter has read; values and geometry are formulas, the same on every machine."""

from collections.abc import Callable
from pathlib import Path

import jpeg_lossless
import numpy as np
from enhanced_files import enhanced
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)
from series_files import AXIAL, CORONAL, SAGITTAL, series_in

Writer = Callable[[Path], Path]
PLANES = {"axial": AXIAL, "sagittal": SAGITTAL, "coronal": CORONAL}


def values_of(dtype: str = "int16", shape: tuple[int, int, int] = (5, 6, 7), low: int = 0, high: int = 2000) -> np.ndarray:
    """(slices, rows, columns) without symmetry."""
    index = np.arange(np.prod(shape), dtype=np.int64)
    return ((index * 7919 + index**2 * 31) % (high - low) + low).astype(dtype).reshape(shape)


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    turned = np.eye(3)
    for axis, angle in enumerate(angles):
        one, other = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[one, one] = turn[other, other] = np.cos(angle)
        turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
        turned = turned @ turn
    return turned


def scanner(dataset: Dataset, index: int) -> None:
    """What converters want to know besides geometry."""
    dataset.StudyInstanceUID, dataset.SeriesNumber, dataset.AcquisitionNumber = "1.2.3", 5, 1
    dataset.Manufacturer, dataset.MRAcquisitionType, dataset.PatientPosition = "SIEMENS", "3D", "HFS"
    dataset.StudyDate, dataset.StudyTime, dataset.AcquisitionTime = "20200101", "101010", "101010"


def plain(**options: object) -> Writer:
    """A series with `options` of `series_files.series_in`; "values" and "set" (elements of each slice) besides."""
    values, elements = options.pop("values", values_of()), options.pop("set", {})

    def change(dataset: Dataset, index: int) -> None:
        scanner(dataset, index)
        for name, value in elements.items():
            setattr(dataset, name, value(index) if callable(value) else value)

    return lambda folder: series_in(folder, values, change=change, **options)


def compressed(syntax: UID, values: np.ndarray) -> Writer:
    def write(folder: Path) -> Path:
        for file in plain(values=values)(folder).iterdir():
            dataset = dcmread(file)
            if syntax == JPEGLosslessSV1:
                dataset.PixelData = encapsulate([jpeg_lossless.encode(dataset.pixel_array, dataset.BitsStored)])
                dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
                dataset.file_meta.TransferSyntaxUID = syntax
            else:
                dataset.compress(syntax)
            dataset.save_as(file)
        return folder

    return write


def multi_frame(order: list[int]) -> Writer:
    def write(folder: Path) -> Path:
        def content(number: int) -> dict[str, object]:
            place = order[number] + 1
            return {"StackID": "1", "InStackPositionNumber": place, "DimensionIndexValues": [1, place], "FrameAcquisitionNumber": 1}

        def change(dataset: Dataset) -> None:
            scanner(dataset, 0)
            # The converter takes the slices' distance from here.
            dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness = "2"

        enhanced(folder / "file.dcm", values_of()[order], order, content=content, change=change)
        return folder

    return write


def _cases() -> dict[str, Writer]:
    cases: dict[str, Writer] = {}
    for plane, (row, column) in PLANES.items():
        for one in (1, -1):
            for other in (1, -1):
                for step in (2.0, -2.0):
                    directions = (tuple(one * value for value in row), tuple(other * value for value in column))
                    along = [step * index for index in range(5)]
                    cases[f"{plane} {one:+d} {other:+d} {step:+g}"] = plain(directions=directions, along=along)
    for number in range(12):
        turned = rotation((0.37 * number - 2, 0.9 - 0.23 * number, 1.3 * np.sin(number)))
        cases[f"oblique {number}"] = plain(
            directions=(tuple(turned[:, 0]), tuple(turned[:, 1])),
            origin=(-150 + 27.3 * number, 80 - 19.7 * number, 11.1 * number),
            spacing=(0.2 + 0.21 * number, 2.9 - 0.19 * number),
            along=0.5 + 0.45 * number,
        )
    for position in ("FFS", "HFP", "FFDR"):
        cases[f"position {position}"] = plain(set={"PatientPosition": position})
    cases |= {
        "slope and intercept of each slice": plain(
            set={"RescaleSlope": lambda i: str(1.5 + i / 8), "RescaleIntercept": lambda i: str(-10 * i)}
        ),
        "whole slope": plain(set={"RescaleSlope": "2", "RescaleIntercept": "-1024"}),
        "CT": plain(set={"SOPClassUID": CTImageStorage, "Modality": "CT", "RescaleSlope": "1", "RescaleIntercept": "-1024"}),
        "signed": plain(values=values_of(low=-2000)),
        "unsigned 16 bits": plain(values=values_of("uint16", high=65535)),
        "8 bits": plain(values=values_of("uint8", high=255)),
        "32 bits": plain(values=values_of("int32", low=-200_000, high=200_000)),
        "12 of 16 bits": plain(set={"BitsStored": 12, "HighBit": 11}),
        "to be displayed inverted": plain(set={"PhotometricInterpretation": "MONOCHROME1"}),
        "big endian": plain(syntax=ExplicitVRBigEndian),
        "implicit VR": plain(syntax=ImplicitVRLittleEndian),
        "RLE": compressed(RLELossless, values_of()),
        "JPEG 2000": compressed(JPEG2000Lossless, values_of("uint16", (3, 32, 33))),
        "lossless JPEG": compressed(JPEGLosslessSV1, values_of()),
        "multi-frame": multi_frame([0, 1, 2, 3, 4]),
        "multi-frame, frames in no order": multi_frame([3, 0, 4, 1, 2]),
    }
    return cases


CASES = _cases()
