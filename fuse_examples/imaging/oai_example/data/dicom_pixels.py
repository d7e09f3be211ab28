"""Pixels of DICOM frames: decoding, unused bits, rescaling slice by slice, and the stacked array."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from fuse_examples.imaging.oai_example.data.dicom_files import ImageFile, parse_file
from fuse_examples.imaging.oai_example.data.dicom_frames import Frame
from fuse_examples.imaging.oai_example.data.dicom_quick import WHOLE_BYTES
from fuse_examples.imaging.oai_example.data.voxels import Voxels, narrowed, rescaled
from fuse_examples.imaging.oai_example.errors import DataError

# What to install for a transfer syntax that pydicom cannot decode by itself.
DECODERS = {
    "1.2.840.10008.1.2.4.50": "python-gdcm", "1.2.840.10008.1.2.4.51": "python-gdcm",
    "1.2.840.10008.1.2.4.57": "python-gdcm", "1.2.840.10008.1.2.4.70": "python-gdcm",
    "1.2.840.10008.1.2.4.80": "pyjpegls", "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg pylibjpeg-openjpeg", "1.2.840.10008.1.2.4.91": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg pylibjpeg-openjpeg", "1.2.840.10008.1.2.4.202": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg pylibjpeg-openjpeg",
}  # fmt: skip


def stacked(frames: Sequence[Frame]) -> Voxels:
    """Return the values of `frames` as (columns, rows, slices), a transposed view; rescaled, integers where that is exact."""
    images = [_raw_values(frame) for frame in frames]
    block = np.empty((len(frames), *images[0].shape), np.result_type(*{image.dtype for image in images}).newbyteorder("="))
    for place, image, frame in zip(block, images, frames, strict=True):
        place[...] = image
        _interpret(place, frame)
    scalings = {(frame.slope, frame.intercept) for frame in frames}
    if len(scalings) == 1:
        return rescaled(block, *scalings.pop()).T
    values = np.empty(block.shape, np.float32)
    for index, frame in enumerate(frames):
        values[index] = block[index].astype(np.float64) * frame.slope + frame.intercept
    whole = np.abs(values).max() < 2**24 and bool((values == np.rint(values)).all())
    return (narrowed(values.astype(np.int32)) if whole else values).T


def same_image(one: Frame, other: Frame) -> bool:
    """Whether two frames hold the same values."""
    if (one.slope, one.intercept) != (other.slope, other.intercept):
        return False
    return bool(np.array_equal(stored_values(one), stored_values(other)))


def stored_values(frame: Frame) -> Voxels:
    """Return the stored values of a frame, (rows, columns), before rescaling; read from the file if it was parsed without pixels."""
    raw = _raw_values(frame)
    values = np.array(raw, dtype=raw.dtype.newbyteorder("="))
    _interpret(values, frame)
    return values


def _raw_values(frame: Frame) -> Voxels:
    file = frame.file
    if file.pixels is None and (file.dataset is None or not _has_pixels(file)):
        again, reason = parse_file(file.path, pixels=True)
        if again is None:
            raise DataError(f"{file.path}: changed while it was read: {reason}")
        file = again
    image = _plain_values(file, frame.number)
    return _decoded_values(file, frame.number) if image is None else image


def _has_pixels(file: ImageFile) -> bool:
    return file.dataset is not None and any(name in file.dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))


def _plain_values(file: ImageFile, number: int) -> Voxels | None:
    """View uncompressed 8-, 16- and 32-bit values in the file's bytes; None for everything else."""
    allocated = file.values.get("BitsAllocated", 0)
    if file.pixels is None or allocated not in WHOLE_BYTES:
        return None
    order = "<" if file.syntax.is_little_endian else ">"
    if order == ">" and allocated != 16:
        return None  # such bytes are swapped within words of 16 bits; pydicom sees to it
    dtype = np.dtype(f"{order}{'i' if _is_signed(file) else 'u'}{allocated // 8}")
    rows, columns = file.values["Rows"], file.values["Columns"]
    count = rows * columns
    return np.frombuffer(file.pixels, dtype, count, number * count * dtype.itemsize).reshape(rows, columns)


def _is_signed(file: ImageFile) -> bool:
    return bool(file.values.get("PixelRepresentation", 0) == 1)


def _interpret(values: Voxels, frame: Frame) -> None:
    """Drop bits outside BitsStored (older files keep overlays there) and extend the sign, in place.

    MONOCHROME1 changes nothing: it says how to display values (DICOM PS3.3 C.7.6.3.1.2), and converters to NIfTI leave them alone too.
    """
    file = frame.file
    if values.dtype.kind == "f":
        return
    allocated = values.dtype.itemsize * 8
    stored = file.values.get("BitsStored", 0) or allocated
    above = allocated - 1 - file.values.get("HighBit", stored - 1)
    if stored < allocated and above >= 0:
        if above:
            np.left_shift(values, above, out=values)
        np.right_shift(values, allocated - stored, out=values)


def _decoded_values(file: ImageFile, number: int) -> Voxels:
    _check_decoder(file.syntax, file.path)
    try:
        array: Voxels = file.dataset.pixel_array  # type: ignore[union-attr]  # only pydicom parses such files
    except Exception as error:  # decoders raise many kinds
        raise DataError(f"{file.path}: the voxels cannot be decoded ({file.syntax.name}): {error}") from error
    return array[number] if file.values.get("NumberOfFrames", 1) > 1 else array


def _check_decoder(syntax: UID, path: Path) -> None:
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if available:
        return
    package = DECODERS.get(syntax)
    remedy = f"Install what decodes it: pip install {package}" if package else "Convert the series to an uncompressed one"
    raise DataError(f"{path}: the voxels are compressed as {syntax.name or 'an unknown format'} ({syntax}). {remedy}.")
