"""The DICOM files of a folder, each parsed once. What counts as one is decided by content, never by name.

Plain files go through the quick parser of `dicom_quick`; whatever it does not take goes through pydicom. Both give the same values.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MediaStorageDirectoryStorage

from fuse_examples.imaging.oai_example.data.dicom_quick import FIELDS, HEADER_BYTES, media_class, quick_parse
from fuse_examples.imaging.oai_example.errors import DataError

PIXEL_TAGS = ["PixelData", "FloatPixelData", "DoubleFloatPixelData"]
_GROUPS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]
_OTHERS = ["SpecificCharacterSet", "PlanarConfiguration", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"]
_HEADER_TAGS = [*FIELDS.tags.values(), *map(Tag, (*_GROUPS, *_OTHERS))]
_ALL_TAGS = [*_HEADER_TAGS, *map(Tag, PIXEL_TAGS)]
EMPTY, UNREADABLE = "empty", "unreadable"
MAY_BE_A_SLICE = {EMPTY, UNREADABLE}
"""Reasons to pass a file over that are worth a warning: it may be a slice whose copy failed."""
PLAIN_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


@dataclass(frozen=True)
class ImageFile:
    """One parsed DICOM image file.

    Attributes:
        values: by DICOM keyword, those of `dicom_quick.FIELDS` that are there and not empty.
        syntax: transfer syntax, the encoding of the file.
        pixel_start: where the pixels of a plain file begin; None where pydicom parsed it.
        dataset: pydicom's, where it parsed the file.
    """

    path: Path
    values: dict[str, Any]
    syntax: UID
    pixel_start: int | None
    dataset: Dataset | None


@dataclass
class FolderContent:
    """The image files of a folder and why the others were passed over."""

    images: list[ImageFile] = field(default_factory=list)
    passed_over: dict[str, list[Path]] = field(default_factory=dict)  # reason -> files
    folders: list[Path] = field(default_factory=list)

    def summary(self) -> str:
        """Count the files passed over, by reason: "2 not DICOM, 1 DICOM without an image"; "" if there are none."""
        return ", ".join(f"{len(files)} {reason}" for reason, files in self.passed_over.items())


def regular_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files and the folders directly inside `folder`, each sorted by name; a link that leads nowhere is a file."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be read ({error.strerror or error}).") from error
    files = [Path(entry.path) for entry in entries if entry.is_file() or (entry.is_symlink() and not entry.is_dir())]
    return files, [Path(entry.path) for entry in entries if entry.is_dir()]


def parse_folder(folder: Path, *, pixels: bool) -> FolderContent:
    """Parse every DICOM image of `folder` (not of its subfolders); damaged ones are all named in one `DataError`.

    With `pixels`, files that only pydicom can parse are parsed with their pixels; those of plain files are read when they are stacked.
    """
    files, folders = regular_files(folder)
    return parse_files(files, folders, pixels=pixels)


def parse_files(files: Iterable[Path], folders: list[Path], *, pixels: bool) -> FolderContent:
    """Parse those of `files` that are DICOM images; see `parse_folder`."""
    content = FolderContent(folders=folders)
    damaged: list[str] = []
    for path in files:
        try:
            image, reason = parse_file(path, pixels=pixels)
        except DataError as error:
            damaged.extend(error.problems)
            continue
        if image is None:
            content.passed_over.setdefault(reason, []).append(path)
        else:
            content.images.append(image)
    if damaged:
        raise DataError(damaged)
    return content


def parse_file(path: Path, *, pixels: bool) -> tuple[ImageFile | None, str]:
    """Return the image, or None and the reason why the file holds none; raise `DataError` for a damaged file."""
    try:
        quick = quick_parse(path)
        if quick is not None:
            image = ImageFile(path, quick.values, quick.syntax, quick.pixel_start, None)
            _check_length(image, quick.n_pixel_bytes)
            return image, ""
        return _pydicom_parse(path, pixels)
    except (PermissionError, FileNotFoundError):
        return None, UNREADABLE
    except OSError as error:  # of the disk or the network: another time the file may be there
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error


def has_dicom_preamble(path: Path) -> bool:
    """Whether a readable file carries the mark of a DICOM file, "DICM" after 128 bytes."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _pydicom_parse(path: Path, pixels: bool) -> tuple[ImageFile | None, str]:
    with open(path, "rb") as file:
        head = file.read(132)
        file.seek(0)
        if not head:
            return None, EMPTY
        marked = head[128:] == b"DICM"
        # Files without "DICM" begin with an element of group 8 (or 2), in either byte order.
        if not marked and not (len(head) > 8 and head[:2] in (b"\x08\0", b"\0\x08", b"\x02\0")):
            return None, "not DICOM"
        try:
            dataset = dcmread(file, force=not marked, stop_before_pixels=not pixels, specific_tags=_ALL_TAGS if pixels else _HEADER_TAGS)
            values = FIELDS.of_dataset(dataset)
            syntax = _syntax(dataset)
            kind = str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
            n_pixel_bytes = len(dataset.PixelData) if "PixelData" in dataset else None
        except Exception as error:  # pydicom lets many kinds through when bytes are damaged
            if not marked:
                return None, "not DICOM"
            file.seek(0)
            if not _is_of_images(media_class(file.read(HEADER_BYTES))):
                return None, UNREADABLE
            raise DataError(f"{path}: the DICOM file is damaged ({error}). Copy or download it again.") from error
    if kind == MediaStorageDirectoryStorage:
        return None, "DICOM directory"
    if ("Rows" not in values or "Columns" not in values) and _is_of_images(kind):
        raise DataError(f"{path}: the DICOM file is of an image and ends before it; it may be truncated. Copy it again or remove it.")
    if "Rows" not in values or "Columns" not in values:
        return None, "not DICOM" if not marked else "DICOM without an image" if kind or "SOPClassUID" in values else UNREADABLE
    if pixels and not any(tag in dataset for tag in PIXEL_TAGS):
        raise DataError(f"{path}: the DICOM file has a header but no voxels; it may be truncated. Copy it again.")
    image = ImageFile(path, values, syntax, None, dataset)
    _check_length(image, n_pixel_bytes)
    return image, ""


def _is_of_images(media_class: str) -> bool:
    return "Image Storage" in UID(media_class).name


def _syntax(dataset: Dataset) -> UID:
    """Encoding of the file; for one without its meta header, what pydicom inferred."""
    named = dataset.file_meta.get("TransferSyntaxUID")
    if named is None:
        implicit, little = dataset.original_encoding
        named = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = named  # pydicom's decoders look for it there
    return UID(named)


def _check_length(image: ImageFile, n_pixel_bytes: int | None) -> None:
    """Refuse an uncompressed file shorter than its own image, which pydicom reads without complaint."""
    if image.syntax not in PLAIN_SYNTAXES:
        return
    values = image.values
    needed = values["Rows"] * values["Columns"] * values.get("SamplesPerPixel", 1)
    needed = needed * values.get("NumberOfFrames", 1) * values.get("BitsAllocated", 0) // 8
    there = os.path.getsize(image.path) if n_pixel_bytes is None else n_pixel_bytes
    if there < needed:
        raise DataError(f"{image.path}: the DICOM file is truncated ({there} of {needed} bytes of voxels). Copy it again.")
