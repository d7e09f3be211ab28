"""A parser for plain DICOM files, little endian and uncompressed, that looks at the few elements a volume needs.

pydicom builds an object for every element; a series of 160 files has 30,000. This one walks over them and is several times quicker.
It takes only what it fully understands and returns None for everything else, which then goes through pydicom.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import FileIO
from pathlib import Path
from struct import Struct
from struct import error as StructError
from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

HEADER_BYTES = 1 << 14  # read first; most headers are shorter
REFILL_BYTES = 1 << 12  # read behind a long element
WHOLE_BYTES = (8, 16, 32)
UNDEFINED = 0xFFFFFFFF
PIXEL_DATA, TRANSFER_SYNTAX, MEDIA_CLASS = 0x7FE00010, 0x00020010, 0x00020002
ITEM_GROUP, ITEM, ITEM_END, SEQUENCE_END = 0xFFFE, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
LONG_VRS = {b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"}
SHORT_VRS = {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM"}
SHORT_VRS |= {b"UI", b"UL", b"US"}
_EXPLICIT = Struct("<HH2sH").unpack_from  # group, number, VR, length if it is a short one
_IMPLICIT = Struct("<HHL").unpack_from
_U16 = Struct("<H").unpack_from
_U32 = Struct("<L").unpack_from
_F64 = Struct("<d").unpack_from


class _Unfamiliar(Exception):
    """Something that this parser leaves to pydicom."""


def _text(raw: bytes) -> str:
    try:
        return raw.decode("ascii").strip(" \0")
    except UnicodeDecodeError as error:  # pydicom knows the character sets
        raise _Unfamiliar from error


def _numbers(raw: bytes) -> tuple[float, ...]:
    return tuple(float(part) for part in raw.strip(b" \0").split(b"\\"))


def _count(raw: bytes) -> int:
    (value,) = _U16(raw)
    return int(value)


def _double(raw: bytes) -> float:
    (value,) = _F64(raw)
    return float(value)


@dataclass(frozen=True)
class _Field:
    from_bytes: Callable[[bytes], Any]
    from_pydicom: Callable[[Any], Any]


def _plain_text(value: Any) -> str:
    text = str(value) if isinstance(value, str) or not hasattr(value, "__iter__") else "\\".join(str(part) for part in value)
    return text.strip(" \0")


def _plain_numbers(value: Any) -> Any:
    try:
        return tuple(float(part) for part in (value if hasattr(value, "__iter__") and not isinstance(value, str) else [value]))
    except (TypeError, ValueError):
        return _plain_text(value)  # the geometry check says what was found


TEXT = _Field(_text, _plain_text)
NUMBERS = _Field(_numbers, _plain_numbers)
COUNT = _Field(_count, int)
WRITTEN_COUNT = _Field(lambda raw: int(_text(raw)), int)
DOUBLE = _Field(_double, float)
PRESENCE = _Field(lambda raw: True, lambda value: True)
AS_TEXT = {TEXT, NUMBERS, WRITTEN_COUNT}  # written alike in every byte order


class _Fields:
    """The elements that are looked at, and how each becomes a plain value, from bytes or from pydicom."""

    def __init__(self, kinds: dict[_Field, str]) -> None:
        self.kind_of = {name: kind for kind, names in kinds.items() for name in names.split()}
        self.keywords = list(self.kind_of)
        self.tags = {name: Tag(name) for name in self.keywords}
        # Plain numbers, because pydicom's tags are slow to compare; its own data sets are quicker with them.
        self.by_tag: dict[int, tuple[str, Callable[[bytes], Any]]] = {
            int(self.tags[name]): (name, kind.from_bytes) for name, kind in self.kind_of.items()
        }

    def of_dataset(self, dataset: Dataset) -> dict[str, Any]:
        """Return the values that are there and not empty, by keyword."""
        found = {name: self._value(dataset, tag, name) for name, tag in self.tags.items() if dataset.get_item(tag) is not None}
        return {name: value for name, value in found.items() if value not in (None, "", b"")}

    def _value(self, dataset: Dataset, tag: BaseTag, name: str) -> Any:
        raw: Any = dataset.get_item(tag)
        kind = self.kind_of[name]
        # pydicom's own conversion of an element takes longer than reading it.
        if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes):
            if kind is COUNT and len(raw.value) == 2:
                return int.from_bytes(raw.value, "little" if raw.is_little_endian else "big")
            with suppress(_Unfamiliar, ValueError):
                if kind in AS_TEXT:
                    return kind.from_bytes(raw.value) if raw.value else None
        value = dataset[tag].value
        return kind.from_pydicom(value) if value not in (None, "", b"") else None


FIELDS = _Fields(
    {
        TEXT: "SOPClassUID SOPInstanceUID SeriesInstanceUID SeriesDescription ProtocolName ImageType InstanceNumber EchoNumbers EchoTime "
        "TemporalPositionIdentifier AcquisitionNumber TriggerTime InversionTime PhotometricInterpretation",
        NUMBERS: "ImageOrientationPatient ImagePositionPatient PixelSpacing RescaleSlope RescaleIntercept",
        COUNT: "Rows Columns SamplesPerPixel BitsAllocated BitsStored HighBit PixelRepresentation",
        WRITTEN_COUNT: "NumberOfFrames",
        DOUBLE: "DiffusionBValue",
        PRESENCE: "ModalityLUTSequence",
    }
)
# Multi-frame files and floating-point pixels are pydicom's: their functional groups are sequences of sequences.
NOT_PLAIN = {0x00280008, 0x52009229, 0x52009230, 0x7FE00008, 0x7FE00009}


@dataclass(frozen=True)
class QuickImage:
    """What `quick_parse` found; the pixels begin `pixel_start` bytes into the file, and `n_pixel_bytes` of them are there."""

    values: dict[str, Any]
    syntax: UID
    pixel_start: int
    n_pixel_bytes: int


def quick_parse(path: Path) -> QuickImage | None:
    """Parse a plain file's header; None for every other kind, damaged ones included, which pydicom is then asked about."""
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(HEADER_BYTES)
        if data[128:132] != b"DICM":
            return None
        with suppress(IndexError, StructError, _Unfamiliar, ValueError, RecursionError):
            start, syntax = _meta(data)
            if syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
                return _parse(file, data, _Walk(start, syntax), size)
    return None


class _Walk:
    """How far a data set is parsed.

    Attributes:
        position: where in the file the next element begins.
        tag: of the element before it.
        values: of the elements before it that are looked at.
    """

    def __init__(self, position: int, syntax: UID) -> None:
        self.position, self.syntax, self.implicit = position, syntax, syntax == ImplicitVRLittleEndian
        self.tag = 0
        self.values: dict[str, Any] = {}

    def to_the_pixels(self, data: bytes, origin: int) -> tuple[int, int]:
        """Go on in `data`, which begins `origin` bytes into the file; return where the pixels begin and their length.

        Raises:
            IndexError, StructError: an element goes on behind `data`; those before it are done.
        """
        place, implicit, values, wanted = self.position - origin, self.implicit, self.values, FIELDS.by_tag.get
        while True:
            tag, length, start, is_sequence = _element(data, place, implicit)
            if tag <= self.tag or tag in NOT_PLAIN or tag > PIXEL_DATA:
                raise _Unfamiliar
            if tag == PIXEL_DATA:
                return origin + start, length
            place = _after_sequence(data, start, implicit) if length == UNDEFINED else start + length
            found = wanted(tag)
            if found and length:
                name, convert = found
                if not is_sequence and place > len(data):
                    raise IndexError
                value = True if is_sequence else convert(data[start:place])
                if value != "":
                    values[name] = value
            self.tag, self.position = tag, origin + place


def _parse(file: FileIO, data: bytes, walk: _Walk, size: int) -> QuickImage | None:
    """Parse the data set of a file of `size` bytes that begins with `data`; of a long element that nobody wants nothing is read."""
    origin, n_bytes = 0, HEADER_BYTES
    while True:
        try:
            pixel_start, length = walk.to_the_pixels(data, origin)
            break
        except (IndexError, StructError):
            stuck = origin == walk.position  # in the first element of `data`
            if stuck and origin + len(data) >= size:
                raise
            n_bytes = 4 * n_bytes if stuck else REFILL_BYTES
            origin = file.seek(walk.position)
            data = file.read(n_bytes)
            if not data:
                raise
    values = walk.values
    if length == UNDEFINED or "Rows" not in values or "Columns" not in values or values.get("BitsAllocated") not in WHOLE_BYTES:
        return None
    return QuickImage(values, walk.syntax, pixel_start, min(length, size - pixel_start))


def _meta(data: bytes) -> tuple[int, UID]:
    """Return where the data set begins and its transfer syntax; the meta group is always explicit little endian."""
    position, syntax = 132, b""
    while data[position : position + 2] == b"\x02\0":
        tag, length, start, _ = _element(data, position, implicit=False)
        position = start + length
        if tag == TRANSFER_SYNTAX:
            syntax = data[start:position]
    return position, _syntax(syntax)


def media_class(data: bytes) -> str:
    """Return the UID of what a file says it holds, from its meta group; "" where that cannot be told."""
    position = 132
    with suppress(_Unfamiliar, IndexError, StructError):
        while data[position : position + 2] == b"\x02\0":
            tag, length, start, _ = _element(data, position, implicit=False)
            position = start + length
            if tag == MEDIA_CLASS:
                return _text(data[start:position])
    return ""


@cache
def _syntax(raw: bytes) -> UID:
    return UID(_text(raw))


def _element(data: bytes, position: int, implicit: bool) -> tuple[int, int, int, bool]:
    """Return tag, length, start of the value, and whether it is a sequence, of the element at `position`."""
    if implicit:
        group, number, length = _IMPLICIT(data, position)
        return group << 16 | number, length, position + 8, length == UNDEFINED
    group, number, vr, length = _EXPLICIT(data, position)
    if group == ITEM_GROUP:  # items of a sequence have no VR
        return _element(data, position, implicit=True)
    if vr in SHORT_VRS:
        return group << 16 | number, length, position + 8, False
    if vr not in LONG_VRS:
        raise _Unfamiliar
    (length,) = _U32(data, position + 8)
    if vr == b"UN" and length == UNDEFINED:
        raise _Unfamiliar  # implicit inside explicit
    return group << 16 | number, length, position + 12, vr == b"SQ"


def _after_sequence(data: bytes, position: int, implicit: bool) -> int:
    """Return where a sequence of undefined length ends."""
    while True:
        tag, length, start, _ = _element(data, position, implicit)
        if tag == SEQUENCE_END:
            return start
        if tag != ITEM:
            raise _Unfamiliar
        position = start + length if length != UNDEFINED else _after_item(data, start, implicit)


def _after_item(data: bytes, position: int, implicit: bool) -> int:
    while True:
        tag, length, start, _ = _element(data, position, implicit)
        if tag == ITEM_END:
            return start
        position = start + length if length != UNDEFINED else _after_sequence(data, start, implicit)
