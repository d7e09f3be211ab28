"""Write a scan as the DICOM series a scanner would send: a sagittal stack, one file per slice, names in no order of place."""

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from fuse_examples.imaging.oai_example.prepare.knee_phantom.scanner import Scan, Side

# Values that stand in the encoded header until a slice's own take their place: UID, instance number, position, slope, intercept.
_PLACEHOLDERS = (f"2.25.1{'0' * 37}1", "002147483640", *(f"{k}.9876543212345" + str(k) for k in range(1, 6)))


@dataclass(frozen=True)
class SeriesNames:
    """What identifies a series: patient, visit, side, date (YYYYMMDD) and the eight digits of the series folder."""

    patient: str
    visit: str
    side: Side
    date: str
    number: str


def write_dicom_series(folder: Path, scan: Scan, names: SeriesNames, rng: np.random.Generator) -> None:
    """Write `scan` into `folder` as files 001, 002, ...; which slice is in which file is drawn at random.

    pydicom encodes the header once, with a placeholder of full width for each value that changes from slice to slice.
    """
    folder.mkdir(parents=True)
    encoded = BytesIO()
    _series_header(scan, names).save_as(encoded, enforce_file_format=True)
    template = encoded.getvalue()
    # Scanner order: pixel (0, 0) is the anterior superior corner, rows run down and columns to the back.
    depth, height, width = scan.stored.shape
    pixels = np.ascontiguousarray(scan.stored[:, ::-1, ::-1].transpose(0, 2, 1))
    files = rng.permutation(depth) + 1
    for i in range(depth):
        right, anterior, superior, _ = scan.affine @ (i, height - 1, width - 1, 1)
        texts = [
            _uid(names, f"image {i}"),
            f"{i + 1 if scan.scanner.ascending else depth - i:012d}",
            *(_decimal(value) for value in (-right, -anterior, superior, scan.slopes[i], scan.intercepts[i])),
        ]
        content = template
        for placeholder, text in zip(_PLACEHOLDERS, texts, strict=True):
            content = content.replace(placeholder.encode(), text.ljust(len(placeholder)).encode())
        (folder / f"{files[i]:03d}").write_bytes(content[: -pixels[i].nbytes] + pixels[i].tobytes())


def _series_header(scan: Scan, names: SeriesNames) -> Dataset:
    """All that is the same in every slice."""
    scanner = scan.scanner
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = MRImageStorage
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if scanner.explicit_vr else ImplicitVRLittleEndian
    header.SpecificCharacterSet = "ISO_IR 100"
    header.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    header.StudyDate = header.SeriesDate = header.AcquisitionDate = names.date
    header.StudyTime = "101500"
    header.AccessionNumber = f"0166{names.number}"
    header.Modality = "MR"
    header.Manufacturer, header.ManufacturerModelName = scanner.manufacturer, scanner.model
    period = "ENROLLMENT" if names.visit == "V00" else "12 MONTH"
    header.StudyDescription = f"OAI^MR^{period}^{names.side}"
    header.SeriesDescription = f"SAG_3D_DESS_{names.side}"
    header.PatientName, header.PatientID, header.PatientBirthDate, header.PatientSex = f"Phantom^{names.patient}", names.patient, "", ""
    header.BodyPartExamined = "KNEE"
    header.ScanningSequence, header.SequenceVariant, header.MRAcquisitionType = "GR", "SS", "3D"
    header.MagneticFieldStrength, header.FlipAngle = scanner.field_tesla, scanner.flip_degrees
    header.EchoTime, header.RepetitionTime, header.EchoNumbers = scanner.echo_ms, scanner.repetition_ms, 1
    header.StudyInstanceUID = _uid(names, "study", per_series=False)
    header.SeriesInstanceUID = _uid(names, "series")
    header.FrameOfReferenceUID = _uid(names, "frame")
    header.StudyID, header.SeriesNumber = "1", 5
    _describe_geometry(header, scan)
    uid, number, *position, slope, intercept = _PLACEHOLDERS
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = UID(uid)
    header.InstanceNumber, header.ImagePositionPatient = number, position
    if scanner.scaling != "none":
        header.RescaleSlope, header.RescaleIntercept, header.RescaleType = slope, intercept, "US"
    header.PixelData = bytes(2 * header.Rows * header.Columns)
    return header


def _describe_geometry(header: Dataset, scan: Scan) -> None:
    """Orientation, spacing and pixel format; the affine's axes point right, anterior and superior, DICOM's left, posterior, superior."""
    _, height, width = scan.stored.shape
    sizes = np.linalg.norm(scan.affine[:3, :3], axis=0)
    to_lps = np.array([-1.0, -1.0, 1.0])
    along_columns, along_rows = (-to_lps * scan.affine[:3, axis] / sizes[axis] for axis in (1, 2))
    header.ImageOrientationPatient = [_decimal(value) for value in (*along_columns, *along_rows)]
    header.PixelSpacing = [_decimal(sizes[2]), _decimal(sizes[1])]
    header.SliceThickness = header.SpacingBetweenSlices = _decimal(sizes[0])
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Rows, header.Columns = width, height
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, scan.scanner.bits, scan.scanner.bits - 1
    header.PixelRepresentation = int(scan.scanner.signed)
    values = scan.values()
    header.WindowCenter, header.WindowWidth = int(values.max() / 2), int(values.max())


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters, as DICOM's DS asks for."""
    text = f"{float(value):.8f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _uid(names: SeriesNames, part: str, *, per_series: bool = True) -> str:
    """A UID under 2.25, always of 44 characters, that depends on the names alone, so that the same data set has the same UIDs."""
    words = (names.patient, names.visit, names.number if per_series else "", part)
    return f"2.25.1{int.from_bytes(hashlib.sha256(' '.join(words).encode()).digest()[:15]) % 10**38:038d}"
