"""NIfTI files: header, affine and voxels, with what nibabel would mend or overlook in silence made an error.

nibabel parses the header and works out the affine (sform before qform). The voxels are read here, because content and not the
name decides whether a file is compressed, and because a gzip checksum is only verified by reading to the end.
"""

import gzip
import io
import logging
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from fuse_examples.imaging.oai_example.data.memory import check_room
from fuse_examples.imaging.oai_example.data.voxels import Voxels, bytes_after_rescaling, rescaled
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.geometry.volume import Affine, Grid, Shape

log = logging.getLogger(__name__)

GZIP_MAGIC = b"\x1f\x8b"
MOST_COMPRESSED = 1032  # bytes that a byte of a gzip file can become
MOST_BEYOND = 1 << 20  # bytes after the voxels that are passed over
MIN_VOXELS_PER_AXIS = 2
MAX_DISAGREEMENT = 0.1  # voxels by which sform and qform may place a corner apart before it is worth a warning
_QUIET = logging.getLogger(f"{__name__}.nibabel")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


@dataclass(frozen=True)
class NiftiHeader:
    """What the first bytes of a NIfTI file say; `grid` is in file order."""

    grid: Grid
    dtype: np.dtype[Any]
    description: str
    slope: float
    intercept: float
    offset: int
    compressed: bool


def is_nifti(path: Path) -> bool:
    """Whether the file's content, compressed or not, begins as a single-file NIfTI-1 or NIfTI-2 header."""
    try:
        with _opened(path) as (file, _):
            return _header_class(file.read(348)) is not None
    except DataError:
        return False


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read geometry, type and scaling without the voxels; raise `DataError` naming `path` for what cannot be used."""
    with _opened(path) as (file, compressed):
        return _parse_header(file, path, compressed)


def read_nifti(path: Path) -> tuple[Voxels, NiftiHeader]:
    """Return the voxels in file order, scaled (integers stay integers where the scaling is whole-numbered), and the header."""
    with _opened(path) as (file, compressed):
        header = _parse_header(file, path, compressed)
        stored = _read_voxels(file, header, path)
    return rescaled(stored, header.slope, header.intercept), header


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """Open by content; turn what gzip and the operating system report into `DataError`."""
    try:
        with open(path, "rb") as plain:
            if plain.read(2) != GZIP_MAGIC:
                plain.seek(0)
                yield plain, False
                return
            plain.seek(0)
            with gzip.open(plain) as unpacked:
                yield cast(BinaryIO, unpacked), True
    except EOFError as error:
        raise DataError(f"{path}: the compressed file is truncated. Copy or download it again.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: the compressed file is corrupt ({error}). Copy or download it again.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _header_class(head: bytes) -> type[Nifti1Header] | None:
    size = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
    if 348 in size and head[344:348] == b"n+1\0":
        return Nifti1Header
    if 540 in size and head[4:8] == b"n+2\0":
        return Nifti2Header
    return None


def _parse_header(file: BinaryIO, path: Path, compressed: bool) -> NiftiHeader:
    head = file.read(540)
    kind = _header_class(head)
    if kind is None:
        raise DataError(f"{path}: is {_what_it_is(head)}, not a NIfTI file of one piece (.nii or .nii.gz) and not a DICOM folder.")
    if len(head) < kind.sizeof_hdr:
        raise DataError(f"{path}: is truncated inside its header. Copy or download it again.")
    try:
        header = kind.from_fileobj(io.BytesIO(head), check=False)
        spacing_problem = _spacing_problem(header)  # before check_fix, which turns a spacing of 0 into 1 mm
        header.check_fix(logger=_QUIET, error_level=40)
        shape = _three_axes(header, path)
        slope, intercept = header.get_slope_inter()
        dtype = header.get_data_dtype()
    except (HeaderDataError, ValueError) as error:
        raise DataError(f"{path}: the NIfTI header is damaged ({error}).") from error
    if spacing_problem:
        raise DataError(f"{path}: {spacing_problem}")
    if dtype.kind not in "iuf":
        raise DataError(f"{path}: holds {_type_in_words(dtype)} voxels; only grey values (one number a voxel) can be used.")
    parsed = NiftiHeader(
        grid=Grid(shape, _affine(header, path)),
        dtype=dtype,
        description=bytes(header["descrip"].item()).split(b"\0")[0].decode("latin-1").strip(),
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
        offset=int(header.get_data_offset()),
        compressed=compressed,
    )
    _check_size(parsed, path)
    return parsed


def _spacing_problem(header: Nifti1Header) -> str:
    """Describe spacing that the affine would be made of and that is zero, negative or not a number; "" if there is none."""
    spacing = [float(value) for value in header["pixdim"][1:4]]
    if int(header["sform_code"]) > 0 or all(np.isfinite(value) and value > 0 for value in spacing):
        return ""
    return f"the voxel spacing (pixdim) is {spacing}; it must be positive along each axis. Write the scan again with its spacing."


def _three_axes(header: Nifti1Header, path: Path) -> Shape:
    shape = tuple(int(size) for size in header.get_data_shape())
    if len(shape) < 3:
        raise DataError(f"{path}: has {len(shape)} axes, {shape}; a 3D volume is needed.")
    if any(size != 1 for size in shape[3:]):
        raise DataError(
            f"{path}: has shape {shape}: {int(np.prod(shape[3:]))} volumes (a time series, several echoes or channels) in one file. "
            "Write one 3D file per volume."
        )
    if min(shape[:3]) < MIN_VOXELS_PER_AXIS:
        raise DataError(f"{path}: has shape {shape[:3]}; a 3D volume with at least {MIN_VOXELS_PER_AXIS} voxels along each axis is needed.")
    return shape[0], shape[1], shape[2]


def _affine(header: Nifti1Header, path: Path) -> Affine:
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    codes = int(header["qform_code"]), int(header["sform_code"])
    if not np.isfinite(affine).all():
        raise DataError(f"{path}: the affine holds NaN or infinite values. Write the scan again with its geometry.")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if (lengths == 0).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise DataError(f"{path}: the affine is singular (its axes are zero or lie in one plane). Write the scan again with its geometry.")
    if codes == (0, 0):
        log.warning("%s: qform and sform codes are both 0: orientation unknown, taken as nibabel does, from right to left in x.", path)
    elif codes[0] > 0 and codes[1] > 0:
        _compare_forms(header, affine, path)
    return affine


def _compare_forms(header: Nifti1Header, sform: Affine, path: Path) -> None:
    try:
        qform = header.get_qform()
    except (HeaderDataError, ValueError):
        return
    shape = tuple(header.get_data_shape()[:3])
    index = Grid((shape[0], shape[1], shape[2]), np.eye(4)).corners()
    there = np.linalg.solve(sform, qform @ np.c_[index, np.ones(8)].T).T[:, :3]
    apart = float(np.abs(there - index).max())
    if apart > MAX_DISAGREEMENT:
        log.warning("%s: sform and qform place a corner %.1f voxels apart; the sform is used, other programs may differ.", path, apart)


def _check_size(header: NiftiHeader, path: Path) -> None:
    needed, there = header.offset + math.prod(header.grid.shape) * header.dtype.itemsize, os.path.getsize(path)
    if not header.compressed and there < needed:
        raise DataError(f"{path}: is truncated: {there} of {needed} bytes are there. Copy or download it again.")
    if header.compressed and there * MOST_COMPRESSED < needed:  # before memory is asked for
        raise DataError(
            f"{path}: is truncated or damaged: by its header it holds {needed} bytes, which {there} compressed bytes cannot. "
            "Copy or download it again."
        )


def _read_voxels(file: BinaryIO, header: NiftiHeader, path: Path) -> Voxels:
    kept = bytes_after_rescaling(header.dtype, [(header.slope, header.intercept)])  # twice: reading is followed by a copy in another order
    check_room(path, header.grid.shape, math.prod(header.grid.shape) * (header.dtype.itemsize + 2 * kept))
    stored = np.empty(header.grid.shape, header.dtype, order="F")
    file.seek(header.offset)
    target = stored.reshape(-1, order="F").view(np.uint8).data
    done = 0
    while done < len(target):
        count = file.readinto(target[done:])  # type: ignore[attr-defined]  # every binary file has it
        if not count:
            raise DataError(f"{path}: is truncated: the voxels end after {done} of {len(target)} bytes. Copy or download it again.")
        done += count
    beyond = 0
    while rest := len(file.read(1 << 16)):  # to the end: only there does gzip compare its checksum
        beyond += rest
        if beyond > MOST_BEYOND:  # a small file can unpack to any length
            raise DataError(
                f"{path}: is damaged or made to be large: by its header the voxels end after {header.offset + done} bytes, and more than "
                f"{MOST_BEYOND >> 20} MiB follow. Copy or download it again, or write it again with the header that it needs."
            )
    return stored


def _type_in_words(dtype: np.dtype[Any]) -> str:
    return "colour" if dtype.fields else "complex" if dtype.kind == "c" else str(dtype)


def _what_it_is(head: bytes) -> str:
    if not head:
        return "an empty file"
    if 348 in {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}:
        return "half of a NIfTI or Analyze pair (.hdr/.img)"
    known = {
        b"NRRD": "an NRRD file",
        b"\x89HDF": "an HDF5 file",
        b"Obje": "a MetaImage header",
        b"PK\3\4": "a zip archive",
        b"\x93NUM": "a NumPy array",
    }
    return known.get(head[:4], "of an unknown format")
