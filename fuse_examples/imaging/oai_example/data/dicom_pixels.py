"""Pixels of DICOM frames: decoding, unused bits, rescaling slice by slice, and the stacked array."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from fuse_examples.imaging.oai_example.data.dicom_files import PLAIN_SYNTAXES, parse_file, transfer_syntax
from fuse_examples.imaging.oai_example.data.dicom_frames import Frame
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
    images = [stored_values(frame) for frame in frames]
    scalings = {(frame.slope, frame.intercept) for frame in frames}
    if len(scalings) == 1:
        block = np.empty((len(frames), *images[0].shape), np.result_type(*{image.dtype for image in images}))
        for place, image in zip(block, images, strict=True):
            place[...] = image
        return rescaled(block, *scalings.pop()).T
    values = np.empty((len(frames), *images[0].shape), np.float32)
    for place, image, frame in zip(values, images, frames, strict=True):
        place[...] = image.astype(np.float64) * frame.slope + frame.intercept
    whole = np.abs(values).max() < 2**24 and bool((values == np.rint(values)).all())
    return (narrowed(values.astype(np.int32)) if whole else values).T


def same_image(one: Frame, other: Frame) -> bool:
    """Whether two frames hold the same values."""
    if (one.slope, one.intercept) != (other.slope, other.intercept):
        return False
    return bool(np.array_equal(stored_values(one), stored_values(other)))


def stored_values(frame: Frame) -> Voxels:
    """Return the stored values of a frame, (rows, columns), before rescaling; read from the file if it was parsed without pixels."""
    dataset = frame.dataset
    if not any(tag in dataset for tag in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        parsed, reason = parse_file(frame.path, pixels=True)
        if parsed is None:
            raise DataError(f"{frame.path}: changed while it was read: {reason}")
        dataset = parsed
    image = _plain_values(dataset, frame.number)
    if image is None:
        image = _decoded_values(dataset, frame.path, frame.number)
    if str(dataset.get("PhotometricInterpretation", "")).strip().upper() == "MONOCHROME1":
        image = _inverted(image, int(dataset.get("BitsStored") or dataset.BitsAllocated))
    return image


def _plain_values(dataset: Dataset, number: int) -> Voxels | None:
    """View uncompressed 8-, 16- and 32-bit values in the file's bytes; None for everything else."""
    syntax = transfer_syntax(dataset)
    allocated = int(dataset.get("BitsAllocated") or 0)
    if syntax not in PLAIN_SYNTAXES or allocated not in (8, 16, 32) or "PixelData" not in dataset:
        return None
    order = "<" if syntax.is_little_endian else ">"
    if order == ">" and allocated != 16:
        return None  # such bytes are swapped within words of 16 bits; pydicom sees to it
    signed = int(dataset.get("PixelRepresentation") or 0) == 1
    dtype = np.dtype(f"{order}{'i' if signed else 'u'}{allocated // 8}")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    count = rows * columns
    image = np.frombuffer(dataset.PixelData, dtype, count, number * count * dtype.itemsize).reshape(rows, columns)
    return _used_bits(image.astype(dtype.newbyteorder("="), copy=False), dataset)


def _used_bits(image: NDArray[Any], dataset: Dataset) -> Voxels:
    """Drop bits outside BitsStored (older files keep overlays there) and extend the sign."""
    allocated = image.dtype.itemsize * 8
    stored = int(dataset.get("BitsStored") or allocated)
    above = allocated - 1 - int(dataset.get("HighBit") or stored - 1)
    if stored >= allocated or above < 0:
        return image
    used: Voxels = np.right_shift(np.left_shift(image, above), allocated - stored)
    return used


def _decoded_values(dataset: Dataset, path: Path, number: int) -> Voxels:
    syntax = transfer_syntax(dataset)
    _check_decoder(syntax, path)
    dataset.file_meta.TransferSyntaxUID = syntax  # absent in files without a meta header
    try:
        array: Voxels = dataset.pixel_array
    except Exception as error:  # decoders raise many kinds
        raise DataError(f"{path}: the voxels cannot be decoded ({syntax.name}): {error}") from error
    return array[number] if int(dataset.get("NumberOfFrames") or 1) > 1 else array


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


def _inverted(image: Voxels, bits: int) -> Voxels:
    """Turn MONOCHROME1, where the least value is white, round within its range, so that air is dark as in other scans."""
    mirrored: Voxels
    if image.dtype.kind == "f":
        mirrored = image.max() + image.min() - image
    elif image.dtype.kind == "i":
        mirrored = np.invert(image)  # -1 - v
    else:
        mirrored = np.asarray(2**bits - 1, image.dtype) - image
    return mirrored
