"""The DICOM files of a folder, each parsed once. What counts as one is decided by content, never by name."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MediaStorageDirectoryStorage

from fuse_examples.imaging.oai_example.errors import DataError

# All that is looked at. Passing over the rest (often 200 elements a file, many private) is what makes reading quick.
HEADER_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesDescription", "ProtocolName", "ImageType", "InstanceNumber",
    "EchoNumbers", "EchoTime", "TemporalPositionIdentifier", "AcquisitionNumber", "TriggerTime", "DiffusionBValue", "InversionTime",
    "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "Rows", "Columns", "NumberOfFrames",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PlanarConfiguration", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
PLAIN_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
PIXEL_TAGS = ["PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"]


@dataclass
class FolderContent:
    """The image files of a folder and why the others were passed over."""

    images: list[tuple[Path, Dataset]] = field(default_factory=list)
    passed_over: dict[str, list[Path]] = field(default_factory=dict)  # reason -> files
    folders: list[Path] = field(default_factory=list)

    def summary(self) -> str:
        """Count the files passed over, by reason: "2 not DICOM, 1 DICOM without an image"; "" if there are none."""
        return ", ".join(f"{len(files)} {reason}" for reason, files in self.passed_over.items())


def regular_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files and the folders directly inside `folder`, each sorted by name."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be read ({error.strerror or error}).") from error
    files = [Path(entry.path) for entry in entries if entry.is_file()]
    return files, [Path(entry.path) for entry in entries if entry.is_dir()]


def parse_folder(folder: Path, *, pixels: bool) -> FolderContent:
    """Parse every DICOM image of `folder` (not of its subfolders); damaged ones are all named in one `DataError`."""
    files, folders = regular_files(folder)
    return parse_files(files, folders, pixels=pixels)


def parse_files(files: Iterable[Path], folders: list[Path], *, pixels: bool) -> FolderContent:
    """Parse those of `files` that are DICOM images; see `parse_folder`."""
    content = FolderContent(folders=folders)
    damaged: list[str] = []
    for path in files:
        try:
            dataset, reason = parse_file(path, pixels=pixels)
        except DataError as error:
            damaged.extend(error.problems)
            continue
        if dataset is None:
            content.passed_over.setdefault(reason, []).append(path)
        else:
            content.images.append((path, dataset))
    if damaged:
        raise DataError(damaged)
    return content


def parse_file(path: Path, *, pixels: bool) -> tuple[Dataset | None, str]:
    """Return the data set, or None and the reason why the file is no DICOM image."""
    try:
        with open(path, "rb") as file:
            marked = _has_preamble(file)
            if not marked and not _may_lack_preamble(file):
                return None, "not DICOM"
            try:
                dataset = dcmread(
                    file,
                    force=not marked,
                    stop_before_pixels=not pixels,
                    specific_tags=HEADER_TAGS + PIXEL_TAGS if pixels else HEADER_TAGS,
                )
            except Exception as error:  # pydicom lets many kinds through when bytes are damaged
                if not marked:
                    return None, "not DICOM"
                raise DataError(f"{path}: the DICOM file is damaged ({error}). Copy or download it again.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return None, "DICOM directory"
    if "Rows" not in dataset or "Columns" not in dataset:
        return None, "DICOM without an image" if marked else "not DICOM"
    _check_length(path, dataset, pixels)
    return dataset, ""


def has_dicom_preamble(path: Path) -> bool:
    """Whether a readable file carries the mark of a DICOM file, "DICM" after 128 bytes."""
    try:
        with open(path, "rb") as file:
            return _has_preamble(file)
    except OSError:
        return False


def transfer_syntax(dataset: Dataset) -> UID:
    """UID of the encoding; for a file without its meta header, what pydicom inferred."""
    named = dataset.file_meta.get("TransferSyntaxUID")
    if named is not None:
        return UID(named)
    implicit, little = dataset.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _has_preamble(file: IO[bytes]) -> bool:
    head = file.read(132)
    file.seek(0)
    return head[128:] == b"DICM"


def _may_lack_preamble(file: IO[bytes]) -> bool:
    """Whether a file without "DICM" starts with an element of group 2 or 8, in either byte order."""
    head = file.read(8)
    file.seek(0)
    return len(head) == 8 and head[:2] in (b"\x08\0", b"\0\x08", b"\x02\0")


def _check_length(path: Path, dataset: Dataset, pixels: bool) -> None:
    """Refuse a file shorter than its own image, which pydicom reads without complaint."""
    try:
        needed = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("SamplesPerPixel") or 1)
        needed = needed * int(dataset.get("NumberOfFrames") or 1) * int(dataset.get("BitsAllocated") or 0) // 8
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: the DICOM header is damaged ({error}). Copy or download it again.") from error
    if pixels and not any(tag in dataset for tag in PIXEL_TAGS[:3]):
        raise DataError(f"{path}: the DICOM file has a header but no voxels; it may be truncated. Copy it again.")
    if transfer_syntax(dataset) not in PLAIN_SYNTAXES:
        return
    there = len(dataset.PixelData) if "PixelData" in dataset else os.path.getsize(path)
    if there < needed:
        raise DataError(f"{path}: the DICOM file is truncated ({there} of {needed} bytes of voxels). Copy it again.")
