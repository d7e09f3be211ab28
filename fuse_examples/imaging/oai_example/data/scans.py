"""Read a scan or a mask, whatever its format, as a `Volume` in RAS order. Content decides what a path is, not its name."""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from fuse_examples.imaging.oai_example.data.dicom import read_dicom, read_dicom_header
from fuse_examples.imaging.oai_example.data.dicom_files import has_dicom_preamble, regular_files
from fuse_examples.imaging.oai_example.data.dicom_segmentation import find_dicom_seg, read_dicom_seg
from fuse_examples.imaging.oai_example.data.nifti import is_nifti, read_nifti, read_nifti_header
from fuse_examples.imaging.oai_example.data.reading import AS_IT_IS, Reading
from fuse_examples.imaging.oai_example.data.voxels import Voxels, bytes_after_rescaling, check_image_values, labels_of
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.geometry.volume import Affine, Grid, Volume, from_file_order

DICOM_SEG = "DICOM-SEG"
"""Kind of a mask that is a DICOM-SEG object."""


@dataclass(frozen=True)
class ScanHeader:
    """What can be known of a scan without its voxels.

    Attributes:
        source: shape and affine in the file's own order; `source.oriented("RAS")` is the grid of `read_volume`.
        dtype: type of the stored voxels, such as "int16".
        voxel_bytes: what a voxel takes once it is rescaled, as far as the header tells.
        kind: "DICOM" or "NIfTI"; of a mask also `DICOM_SEG`.
        n_files: files that the volume is made of.
        description: series description (DICOM) or descrip (NIfTI).
        fingerprint: changes when a file is added, removed, renamed or rewritten.
    """

    source: Grid
    dtype: str
    kind: str
    n_files: int
    description: str
    fingerprint: str
    voxel_bytes: int


def read_header(path: Path, reading: Reading = AS_IT_IS) -> ScanHeader:
    """Read geometry and type of the scan at `path`, a DICOM folder or a NIfTI file; raise `DataError` if it cannot be used."""
    fingerprint = source_fingerprint(path)
    path, kind = _locate(path)
    if kind == "NIfTI":
        nifti = read_nifti_header(path)
        voxel_bytes = bytes_after_rescaling(nifti.dtype, [(nifti.slope, nifti.intercept)])
        return ScanHeader(nifti.grid, nifti.dtype.newbyteorder("=").name, kind, 1, nifti.description, fingerprint, voxel_bytes)
    dicom = read_dicom_header(path, reading)
    return ScanHeader(dicom.grid, dicom.dtype, kind, dicom.n_files, dicom.description, fingerprint, dicom.voxel_bytes)


def read_mask_header(path: Path, reading: Reading, image: Grid) -> ScanHeader:
    """Read the header of a mask. A DICOM-SEG is put on `image`, the image's `source` grid, whose shape and affine it then has.

    Raises:
        DataError: as `read_header`; a DICOM-SEG that does not lie on the image's voxels.
    """
    segmentation = find_dicom_seg(path)
    if segmentation is None:
        return read_header(path, reading.of_masks)
    labels = read_dicom_seg(segmentation, image)
    return ScanHeader(image, labels.dtype.name, DICOM_SEG, 1, "", source_fingerprint(path), labels.dtype.itemsize)


def read_volume(path: Path, reading: Reading = AS_IT_IS) -> Volume:
    """Read the image at `path` with its values rescaled, in RAS order.

    Integers stay 8 or 16 bits wide where the rescaling is the identity or whole-numbered; everything else is float32.
    The array may be a view with negative strides. Raises `DataError` for NaN, infinite or constant voxels and unusable files.
    """
    values, affine = _read(path, reading)
    check_image_values(values, path)
    return from_file_order(values, affine)


def read_mask(path: Path, reading: Reading = AS_IT_IS, *, affine_of: Grid | None = None) -> Volume:
    """Read the labels at `path` as uint8 or int16, in RAS order; floats that hold whole numbers are accepted.

    Args:
        path: DICOM folder, NIfTI file or DICOM-SEG object.
        reading: as for images, of which only `tolerate_uneven_spacing` counts: a folder of masks must hold one volume.
        affine_of: the image's `source` grid: the mask's own affine is ignored and the voxels, in file order, are taken to lie on it. A
            DICOM-SEG, which may hold a part of the image's slices alone, needs it and keeps its own place.
    """
    segmentation = find_dicom_seg(path)
    if segmentation is not None:
        if affine_of is None:
            raise DataError(f"{path}: is a DICOM-SEG, which can only be read together with its image.")
        return from_file_order(read_dicom_seg(segmentation, affine_of), affine_of.affine)
    values, affine = _read(path, reading.of_masks)
    if affine_of is not None:
        if values.shape != affine_of.shape:
            raise DataError(f"{path}: the mask's shape {values.shape} differs from its image's, {affine_of.shape}.")
        affine = affine_of.affine
    return from_file_order(labels_of(values, path), affine)


def source_fingerprint(path: Path) -> str:
    """Hash of names, sizes and times of the file, or of the files directly inside the folder.

    Beside the modification time, which a program can set, stands the time of the last change of the file's entry, which none can: a file
    that is rewritten with its old size and modification time is seen.
    """
    digest = hashlib.sha256()
    for file in _source_files(path):
        digest.update(f"{file.name}\0{_stamp(file)}\n".encode())
    return digest.hexdigest()[:32]


def content_fingerprint(path: Path) -> str:
    """Hash of the bytes of the same files, whatever their names, times and place: a copied or touched scan has the same one."""
    digests = []
    for file in _source_files(path):
        with contextlib.suppress(FileNotFoundError, PermissionError), file.open("rb") as content:  # readers pass over them too
            digests.append(hashlib.file_digest(content, "sha256").digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:32]


def _source_files(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path}: does not exist.")
    if not path.is_dir():
        return [path]
    return [file for file in regular_files(path)[0] if not _is_dropping(file.name)]


def _is_dropping(name: str) -> bool:
    """Whether a file browser has left this beside a scan. Other hidden files may be slices."""
    return name in (".DS_Store", "Thumbs.db", "desktop.ini") or name.startswith("._")


def _stamp(file: Path) -> str:
    try:
        status = os.stat(file)
    except FileNotFoundError:  # a link that leads nowhere
        return "missing"
    return f"{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\0{os.access(file, os.R_OK)}"


def _read(path: Path, reading: Reading) -> tuple[Voxels, Affine]:
    path, kind = _locate(path)
    if kind == "NIfTI":
        values, nifti = read_nifti(path)
        return values, nifti.grid.affine
    values, dicom = read_dicom(path, reading)
    return values, dicom.grid.affine


def _locate(path: Path) -> tuple[Path, str]:
    """Return where the scan is and its format: a folder with a single NIfTI file stands for that file."""
    if not path.exists():
        raise DataError(f"{path}: does not exist.")
    if not path.is_dir():
        return path, "DICOM" if has_dicom_preamble(path) else "NIfTI"
    files = regular_files(path)[0]
    if not any(has_dicom_preamble(file) for file in files):  # the first file answers in nearly every folder
        niftis = [file for file in files if is_nifti(file)]
        if len(niftis) > 1:
            raise DataError(
                f"{path}: holds {len(niftis)} NIfTI files ({niftis[0].name}, {niftis[1].name}, ...). Name the one that is meant."
            )
        if niftis:
            return niftis[0], "NIfTI"
    return path, "DICOM"
