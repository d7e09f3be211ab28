"""A folder with the files of one DICOM series, read as one volume; also one enhanced multi-frame file."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fuse_examples.imaging.oai_example.data.dicom_files import MAY_BE_A_SLICE, FolderContent, parse_files, parse_folder
from fuse_examples.imaging.oai_example.data.dicom_frames import Frame, UnusableFrame, frames_of
from fuse_examples.imaging.oai_example.data.dicom_pixels import same_image, stacked
from fuse_examples.imaging.oai_example.data.dicom_series import Stack, stack_frames
from fuse_examples.imaging.oai_example.data.reading import AS_IT_IS, Reading
from fuse_examples.imaging.oai_example.data.voxels import Voxels, bytes_after_rescaling
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.geometry.volume import Grid

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DicomHeader:
    """What a series says about itself; `grid` is in file order (columns, rows, slices along the normal), `voxel_bytes` after rescaling."""

    grid: Grid
    dtype: str
    n_files: int
    description: str
    voxel_bytes: int


def read_dicom_header(path: Path, reading: Reading = AS_IT_IS) -> DicomHeader:
    """Read and check the geometry of the series at `path` without its pixels; raise `DataError` for what is not one volume."""
    return _header(_read_stack(path, reading, pixels=False))


def read_dicom(path: Path, reading: Reading = AS_IT_IS) -> tuple[Voxels, DicomHeader]:
    """Return the voxels as (columns, rows, slices along the normal), a view, and the header. Every file is parsed once."""
    stack = _read_stack(path, reading, pixels=True)
    return stacked(stack.frames), _header(stack)


def slice_files(path: Path, reading: Reading = AS_IT_IS) -> list[tuple[Path, int]]:
    """Return where each slice along the third axis of `read_dicom`'s array stands: its file, and the frame's number (from 0) in that.

    Duplicates, scouts and files of other series that reading drops are not among them.
    """
    return [(frame.file.path, frame.number) for frame in _read_stack(path, reading, pixels=False).frames]


def _read_stack(path: Path, reading: Reading, *, pixels: bool) -> Stack:
    content = parse_folder(path, pixels=pixels) if path.is_dir() else parse_files([path], [], pixels=pixels)
    if not content.images:
        raise DataError(_nothing_found(path, content))
    frames, unusable = _usable_frames(content)
    if not frames:
        raise DataError(f"{path}: cannot be used as a volume: {_first_reasons(unusable)}")
    if not path.is_dir() and len(frames) == 1:
        raise DataError(f"{path}: is a single DICOM slice. Name the folder that holds the files of its series.")
    stack = stack_frames(frames, path, same_image, reading)
    _check_unusable(stack, unusable, path)
    if "MONOCHROME1" in stack.frames[0].file.values.get("PhotometricInterpretation", ""):
        log.warning("%s: is to be displayed inverted (MONOCHROME1); its values are taken as stored.", path)
    if content.passed_over:
        # At the end of a stack nothing else would tell that a slice is missing.
        level = logging.WARNING if MAY_BE_A_SLICE & content.passed_over.keys() else logging.INFO
        log.log(level, "%s: passed over %s", path, content.summary())
    return stack


def _usable_frames(content: FolderContent) -> tuple[list[Frame], list[tuple[Path, str, str]]]:
    frames: list[Frame] = []
    unusable: list[tuple[Path, str, str]] = []
    for file in content.images:
        try:
            frames += frames_of(file)
        except UnusableFrame as reason:
            unusable.append((file.path, str(reason), file.values.get("SeriesInstanceUID", "")))
    return frames, unusable


def _check_unusable(stack: Stack, unusable: list[tuple[Path, str, str]], path: Path) -> None:
    """Files of other series (screen shots, reports as images) are dropped with a note; one of the volume's own series is an error."""
    own = [entry for entry in unusable if entry[2] == stack.frames[0].series]
    if own:
        raise DataError(f"{path}: not every file of the series can be used: {_first_reasons(own)}")
    if unusable:
        log.warning("%s: dropped %d image(s) of other series: %s", path, len(unusable), _first_reasons(unusable))


def _first_reasons(unusable: list[tuple[Path, str, str]], limit: int = 3) -> str:
    reasons = "; ".join(f"{file.name} {reason}" for file, reason, _ in unusable[:limit])
    return reasons if len(unusable) <= limit else f"{reasons}; and {len(unusable) - limit} more files"


def _nothing_found(path: Path, content: FolderContent) -> str:
    hint = f" It has {len(content.folders)} subfolders; name the folder of one series." if content.folders else ""
    found = f" ({content.summary()})" if content.passed_over else " (the folder is empty)" if not content.folders else ""
    return f"{path}: holds no DICOM image{found}.{hint}"


def _header(stack: Stack) -> DicomHeader:
    first = stack.frames[0]
    signed = first.file.values.get("PixelRepresentation", 0) == 1
    dtype = np.dtype(f"{'' if signed else 'u'}int{first.file.values.get('BitsAllocated', 16)}")
    return DicomHeader(
        grid=Grid(stack.shape, stack.affine),
        dtype=dtype.name,
        n_files=len({frame.file.path for frame in stack.frames}),
        description=first.description,
        voxel_bytes=bytes_after_rescaling(dtype, {(frame.slope, frame.intercept) for frame in stack.frames}),
    )
