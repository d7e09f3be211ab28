"""A writer of small DICOM series with chosen geometry, and the affine they should be read with."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid

AXIAL = ((1, 0, 0), (0, 1, 0))
SAGITTAL = ((0, 1, 0), (0, 0, -1))
CORONAL = ((1, 0, 0), (0, 0, -1))
SERIES = "1.2.826.0.1.3680043.8.498.1"


def slice_dataset(values: np.ndarray, position: Sequence[float], directions: Any, spacing: Sequence[float]) -> Dataset:
    """One MR slice; `spacing` is (between rows, between columns) as in PixelSpacing."""
    dataset = Dataset()
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = SERIES
    dataset.SeriesDescription = "SAG_3D_DESS_LEFT"
    dataset.PatientID = "9000099"
    dataset.Modality = "MR"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    dataset.EchoTime = "4.71"
    dataset.Rows, dataset.Columns = values.shape
    dataset.PixelSpacing = [f"{value:.10g}" for value in spacing]
    dataset.ImageOrientationPatient = [f"{value:.10f}"[:16] for direction in directions for value in direction]
    dataset.ImagePositionPatient = [f"{value:.10f}"[:16] for value in position]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = values.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.add_new("PixelData", "OW" if values.dtype.itemsize > 1 else "OB", values.tobytes())
    return dataset


def save(dataset: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> None:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if not syntax.is_little_endian:
        dataset["PixelData"].value = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.preamble = b"\0" * 128
    dcmwrite(path, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian, enforce_file_format=True)


def series_in(
    folder: Path,
    values: np.ndarray,
    *,
    directions: Any = SAGITTAL,
    origin: Sequence[float] = (10, -20, 30),
    spacing: Sequence[float] = (0.5, 0.75),
    along: Sequence[float] | float = 2.0,
    change: Callable[[Dataset, int], None] = lambda dataset, index: None,
    file_name: Callable[[int], str] = lambda index: f"{(index * 7 + 3) % 101:03d}",
    syntax: UID = ExplicitVRLittleEndian,
) -> Path:
    """Write (slices, rows, columns) as a series.

    Args:
        along: mm of each slice along the normal, or the even step.
        change: called on each slice's data set before it is saved.
        file_name: by slice; the default neither sorts like the slices nor has an extension.
    """
    folder.mkdir(exist_ok=True, parents=True)
    normal = np.cross(*directions)
    places = np.arange(len(values)) * along if np.isscalar(along) else along
    for index, (image, place) in enumerate(zip(values, places, strict=True)):
        dataset = slice_dataset(image, np.array(origin) + place * normal, directions, spacing)
        dataset.InstanceNumber = index + 1
        change(dataset, index)
        save(dataset, folder / file_name(index), syntax)
    return folder


def ras_affine(directions: Any, origin: Sequence[float], spacing: Sequence[float], step: float) -> np.ndarray:
    """What DICOM PS3.3 C.7.6.2.1.1 says of the voxel (column, row, slice), written out, x and y turned from LPS to RAS."""
    (rx, ry, rz), (cx, cy, cz) = directions
    normal = (ry * cz - rz * cy, rz * cx - rx * cz, rx * cy - ry * cx)
    between_rows, between_columns = spacing
    lps = [[directions[0][i] * between_columns, directions[1][i] * between_rows, normal[i] * step, origin[i]] for i in range(3)]
    return np.array([[-v for v in lps[0]], [-v for v in lps[1]], lps[2], [0, 0, 0, 1]])
