"""Pixels of DICOM frames: decoding, unused bits, rescaling slice by slice, and the stacked array."""

import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, JPEGExtended12Bit

from fuse_examples.imaging.oai_example.data.dicom_files import PIXEL_TAGS, PLAIN_SYNTAXES, ImageFile, parse_file
from fuse_examples.imaging.oai_example.data.dicom_frames import Frame
from fuse_examples.imaging.oai_example.data.voxels import Voxels, narrowed, rescaled
from fuse_examples.imaging.oai_example.errors import DataError

# What decodes which transfer syntax: requirements.txt has all of these, and their licences are permissive.
_GDCM, _JPEG_LS, _JPEG_2000 = "python-gdcm", "pyjpegls", "pylibjpeg pylibjpeg-openjpeg"
PACKAGES = {
    _GDCM: ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"),
    _JPEG_LS: ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),
    _JPEG_2000: tuple(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203)),
}
MOST_PADDING = 2  # bytes behind a segment of run-length code
DECODERS = {syntax: package for package, syntaxes in PACKAGES.items() for syntax in syntaxes}


def stacked(frames: Sequence[Frame]) -> Voxels:
    """Return the values of `frames` as (columns, rows, slices), a transposed view; rescaled, integers where that is exact."""
    decoded = {index: stored_values(frame) for index, frame in enumerate(frames) if frame.file.pixel_start is None}
    types = {image.dtype for image in decoded.values()} | {_plain_type(frame) for frame in frames if frame.file.pixel_start is not None}
    block = np.empty((len(frames), *frames[0].matrix), np.result_type(*types))
    for index, frame in enumerate(frames):
        if index in decoded:
            block[index] = decoded[index]
        elif block.dtype == _plain_type(frame):
            _read_plain(frame, block[index])
        else:
            block[index] = stored_values(frame)
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
    """Return the stored values of a frame, (rows, columns), before rescaling."""
    if frame.file.pixel_start is None:
        return _decoded_values(frame)
    values = np.empty(frame.matrix, _plain_type(frame))
    _read_plain(frame, values)
    return values


def _plain_type(frame: Frame) -> np.dtype[Any]:
    signed = frame.file.values.get("PixelRepresentation", 0) == 1
    return np.dtype(f"{'i' if signed else 'u'}{frame.file.values['BitsAllocated'] // 8}")


def _read_plain(frame: Frame, values: Voxels) -> None:
    """Read a plain file's pixels straight into `values`, which is contiguous and of `_plain_type`."""
    file = frame.file
    assert file.pixel_start is not None
    try:
        with open(file.path, "rb", buffering=0) as stream:
            stream.seek(file.pixel_start)
            target, done = values.reshape(-1).view(np.uint8).data, 0
            while done < len(target):
                count = stream.readinto(target[done:])
                if not count:
                    raise DataError(f"{file.path}: changed while it was read: its pixels end after {done} of {len(target)} bytes.")
                done += count
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read ({error.strerror or error}).") from error
    if sys.byteorder == "big":
        values.byteswap(inplace=True)
    _keep_used_bits(values, file.values)


def _keep_used_bits(values: Voxels, header: Mapping[str, Any]) -> None:
    """Drop bits outside BitsStored (older files keep overlays there) and extend the sign, in place, as pydicom's decoders do.

    MONOCHROME1 changes nothing: it says how to display values (DICOM PS3.3 C.7.6.3.1.2), and converters to NIfTI leave them alone too.
    """
    allocated = values.dtype.itemsize * 8
    stored = header.get("BitsStored", 0) or allocated
    above = allocated - 1 - header.get("HighBit", stored - 1)
    if stored >= allocated or above < 0:
        return
    if values.dtype.kind == "u" and above == allocated - stored:
        np.bitwise_and(values, (1 << stored) - 1, out=values)
        return
    np.left_shift(values, above, out=values)
    np.right_shift(values, allocated - stored, out=values)


def _decoded_values(frame: Frame) -> Voxels:
    file = frame.file
    if file.dataset is None or not any(name in file.dataset for name in PIXEL_TAGS):
        again, reason = parse_file(file.path, pixels=True)
        if again is None or again.dataset is None:
            raise DataError(f"{file.path}: changed while it was read: {reason}")
        file = again
    values = _uncompressed(file, frame)
    if values is not None:
        return values
    _check_decoder(file.syntax, file.path)
    try:
        with warnings.catch_warnings(record=True) as remarks:
            warnings.simplefilter("always")
            array: Voxels = file.dataset.pixel_array  # type: ignore[union-attr]  # present, see above
        _refuse_surplus(remarks)
    except Exception as error:  # decoders raise many kinds
        remedy = _last_resort(file) or " Fetch the file again from where it came; if it is the same there, leave the series out."
        raise DataError(f"{file.path}: the voxels cannot be decoded ({file.syntax.name}): {_reason(error)}.{remedy}") from error
    array = array[frame.number] if file.values.get("NumberOfFrames", 1) > 1 else array
    if array.shape != frame.matrix:
        raise DataError(f"{file.path}: the voxels have the shape {array.shape}, the header says {frame.matrix}.")
    return array


def _refuse_surplus(remarks: Sequence[warnings.WarningMessage]) -> None:
    """Run-length code that makes more voxels than the image has is damaged, though pydicom but warns; a byte or two may be padding."""
    for remark in remarks:
        found = re.search(r"RLE segment .* (\d+) vs. (\d+) bytes", str(remark.message))
        if found and int(found[1]) - int(found[2]) > MOST_PADDING:
            raise ValueError(f"a segment holds {found[1]} bytes, {found[2]} are needed")


def _reason(error: Exception) -> str:
    """What the decoders said, on one line."""
    first, *of_decoders = (line.strip() for line in str(error).splitlines())
    told = [line for line in of_decoders if "'NoneType'" not in line]  # GDCM fails without a reason
    return "; ".join(told).rstrip(".") if told else "its code is damaged or cut off" if of_decoders else first.rstrip(".")


def _uncompressed(file: ImageFile, frame: Frame) -> Voxels | None:
    """Return the pixels of a file that only its header made a case for pydicom; None for those that need a decoder."""
    header = file.values
    allocated, whole = header.get("BitsAllocated", 0), file.dataset is not None and "PixelData" in file.dataset
    order = {ExplicitVRBigEndian: ">", DeflatedExplicitVRLittleEndian: "<"}.get(file.syntax, "<" if file.syntax in PLAIN_SYNTAXES else "")
    # Bytes of 8-bit images may be swapped in pairs in big endian.
    if not whole or not order or allocated not in ((16, 32) if order == ">" else (8, 16, 32)):
        return None
    kind = np.dtype(f"{order}{'i' if header.get('PixelRepresentation', 0) == 1 else 'u'}{allocated // 8}")
    rows, columns = frame.matrix
    stored = np.frombuffer(file.dataset.PixelData, kind, rows * columns, frame.number * rows * columns * kind.itemsize)  # type: ignore[union-attr]
    if order == "<" and header.get("BitsStored", allocated) >= allocated and sys.byteorder == "little":
        return stored.reshape(rows, columns)
    values = stored.astype(kind.newbyteorder("=")).reshape(rows, columns)
    _keep_used_bits(values, header)
    return values


def _last_resort(file: ImageFile) -> str:
    """Name the package for what none of the permissive ones decodes."""
    if file.syntax != JPEGExtended12Bit or file.values.get("BitsAllocated", 0) <= 8:
        return ""
    return " Of 12 bits, pip install pylibjpeg pylibjpeg-libjpeg decodes it; that package is under the GPL."


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
