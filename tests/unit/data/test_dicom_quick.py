"""The quick parser against pydicom, which is independent of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from fuse_examples.imaging.oai_example.data import dicom_files
from fuse_examples.imaging.oai_example.data.dicom_files import parse_file
from fuse_examples.imaging.oai_example.data.dicom_frames import frames_of
from fuse_examples.imaging.oai_example.data.dicom_pixels import stored_values
from fuse_examples.imaging.oai_example.data.dicom_quick import HEADER_BYTES, quick_parse
from fuse_examples.imaging.oai_example.data.scans import read_header, read_volume
from fuse_examples.imaging.oai_example.errors import DataError

Write = Callable[..., Path]


def crowd(dataset: Dataset, index: int) -> None:
    """Add what scanners add: sequences of both kinds, nested, private elements, empty and odd values."""
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "1.2.3"
    inner.ImagePositionPatient = ["7", "7", "7"]  # not the slice's own
    outer = Dataset()
    outer.ReferencedImageSequence = [inner, inner]
    outer["ReferencedImageSequence"].is_undefined_length = True
    dataset.ReferencedStudySequence = [outer, outer]
    dataset["ReferencedStudySequence"].is_undefined_length = True
    outer.is_undefined_length_sequence_item = True
    dataset.ReferencedSeriesSequence = [outer]
    dataset.SeriesDescription = "  SAG 3D  "
    dataset.EchoNumbers, dataset.RescaleSlope, dataset.RescaleIntercept = [1, 2], " 1.50 ", "-3"
    dataset.InversionTime, dataset.InstanceNumber = "", "12"
    dataset.DiffusionBValue = 1000.5
    dataset.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")
    dataset.add_new(0x00291010, "OB", b"x" * 5001)
    dataset.add_new(0x00291020, "UN", b"y" * 70000)
    dataset[0x00291010].value += b"\0"
    assert isinstance(dataset[0x00291020], DataElement)


def both(path: Path, monkeypatch: pytest.MonkeyPatch, pixels: bool) -> tuple[Any, Any]:
    quick, _ = parse_file(path, pixels=pixels)
    with monkeypatch.context() as patch:
        patch.setattr(dicom_files, "quick_parse", lambda *args, **options: None)
        slow, _ = parse_file(path, pixels=pixels)
    return quick, slow


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("pixels", [True, False])
def test_the_same_values_and_pixels_as_pydicom(
    write_series: Write, ramp: np.ndarray, monkeypatch: pytest.MonkeyPatch, syntax: str, pixels: bool
) -> None:
    path = write_series(ramp, change=crowd, syntax=syntax) / "003"
    assert path.stat().st_size > HEADER_BYTES
    quick, slow = both(path, monkeypatch, pixels)
    assert quick.dataset is None
    assert slow.dataset is not None
    assert quick.values == slow.values
    assert quick.syntax == slow.syntax == syntax
    assert path.read_bytes()[quick.pixel_start :][:24] == dcmread(path).PixelData
    assert slow.pixel_start is None
    assert quick.values["ImagePositionPatient"] == (10.0, -20.0, 30.0)
    assert quick.values["RescaleSlope"] == (1.5,)
    assert quick.values["SeriesDescription"] == "SAG 3D"
    assert quick.values["DiffusionBValue"] == 1000.5
    assert "InversionTime" not in quick.values


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("kind", ["bytes", "sequence"])
@pytest.mark.parametrize("length", [HEADER_BYTES - offset for offset in (1200, 900, 600, 540, 500, 460, 420)] + [3 * HEADER_BYTES, 200_000])
def test_long_elements_before_those_that_are_wanted(
    write_series: Write, ramp: np.ndarray, monkeypatch: pytest.MonkeyPatch, syntax: str, kind: str, length: int
) -> None:
    """The end of what was read first comes into a value, between values, and far before them."""

    def lengthen(dataset: Dataset, index: int) -> None:
        dataset.add_new(0x00090010, "LO", "MAKER")
        dataset.add_new(0x00091001, "OB", b"z" * (length if kind == "bytes" else 2))
        dataset.add_new(0x00110010, "LO", "MAKER")
        dataset.add_new(0x00111001, "OB", b"z" * 50_000)
        item = Dataset()
        item.add_new(0x00091001, "OB", b"z" * length)
        if kind == "sequence":
            dataset.ReferencedStudySequence = [item]
            dataset["ReferencedStudySequence"].is_undefined_length = True

    path = write_series(ramp, change=lengthen, syntax=syntax) / "003"
    quick, slow = both(path, monkeypatch, pixels=True)
    assert quick.dataset is None
    assert quick.values == slow.values
    assert path.read_bytes()[quick.pixel_start :] == dcmread(path).PixelData
    path.write_bytes(path.read_bytes()[: quick.pixel_start - 30])
    assert quick_parse(path) is None


def test_an_item_whose_length_looks_like_a_kind_of_value(write_series: Write, ramp: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item has no VR; where others have theirs is the low half of its length."""
    item = Dataset()
    item.add_new(0x00091001, "OB", b"z" * (int.from_bytes(b"DS", "little") - 13))

    def add(dataset: Dataset, index: int) -> None:
        dataset.ReferencedStudySequence = [item]
        dataset["ReferencedStudySequence"].is_undefined_length = True

    path = write_series(ramp, change=add) / "003"
    assert b"\xfe\xff\0\xe0DS\0\0" in path.read_bytes()
    quick, slow = both(path, monkeypatch, pixels=True)
    assert quick.dataset is None
    assert quick.values == slow.values


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_what_it_leaves_to_pydicom(write_series: Write, ramp: np.ndarray, syntax: str) -> None:
    path = write_series(ramp, syntax=syntax) / "003"
    assert quick_parse(path) is None
    image, _ = parse_file(path, pixels=True)
    assert image is not None
    assert image.dataset is not None


@pytest.mark.parametrize(
    ("how", "dtype"),
    [
        *(("big endian", dtype) for dtype in (np.int16, np.uint16)),
        *((how, dtype) for how in ("deflated", "beyond ASCII") for dtype in (np.uint8, np.int16, np.uint16, np.int32)),
    ],
)
@pytest.mark.parametrize("bits", [None, 12])
def test_pixels_that_need_no_decoder_are_pydicoms(write_series: Write, how: str, dtype: type, bits: int | None) -> None:
    def change(dataset: Dataset, index: int) -> None:
        if bits and dtype in (np.int16, np.uint16):
            dataset.BitsStored, dataset.HighBit = bits, bits - 1
        if how == "beyond ASCII":
            dataset.SpecificCharacterSet, dataset.SeriesDescription = "ISO_IR 100", "Schädel"

    syntax = {"big endian": ExplicitVRBigEndian, "deflated": DeflatedExplicitVRLittleEndian}.get(how, ExplicitVRLittleEndian)
    limits = np.iinfo(dtype)
    values = np.linspace(limits.min, limits.max, 60).astype(dtype).reshape(5, 4, 3)
    for file in write_series(values, change=change, syntax=syntax).iterdir():
        image, _ = parse_file(file, pixels=True)
        assert image is not None
        (frame,) = frames_of(image)
        expected = dcmread(file).pixel_array
        found = stored_values(frame)
        assert found.dtype == expected.dtype.newbyteorder("=")
        assert np.array_equal(found, expected)


def test_text_beyond_ascii_is_left_to_pydicom(write_series: Write, ramp: np.ndarray) -> None:
    def name(dataset: Dataset, index: int) -> None:
        dataset.SpecificCharacterSet, dataset.SeriesDescription = "ISO_IR 100", "Schädel"

    path = write_series(ramp, change=name) / "003"
    assert quick_parse(path) is None
    image, _ = parse_file(path, pixels=False)
    assert image is not None
    assert image.values["SeriesDescription"] == "Schädel"


def test_odd_bit_depths_are_left_to_pydicom(write_series: Write, ramp: np.ndarray) -> None:
    path = write_series(ramp, change=lambda dataset, index: setattr(dataset, "BitsAllocated", 12)) / "003"
    assert quick_parse(path) is None


def test_elements_out_of_order_are_left_to_pydicom(write_series: Write, ramp: np.ndarray) -> None:
    path = write_series(ramp) / "003"
    content = path.read_bytes()
    rows = content.index(b"\x28\0\x10\0US")
    path.write_bytes(content[:rows] + content[rows + 10 : rows + 20] + content[rows : rows + 10] + content[rows + 20 :])
    assert quick_parse(path) is None
    assert dcmread(path).Rows == 4


def test_sequences_nested_without_end(write_series: Write, ramp: np.ndarray) -> None:
    path = write_series(ramp) / "003"
    content = path.read_bytes()
    place = content.index(b"\x08\0\x16\0UI")
    nested = (b"\x08\0\x10\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff") * 20_000
    path.write_bytes(content[:place] + nested + content[place:])
    assert quick_parse(path) is None
    with pytest.raises(DataError, match="003: the DICOM file is damaged"):
        parse_file(path, pixels=True)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 2000), flips=st.lists(st.tuples(st.integers(0, 1999), st.integers(0, 255)), max_size=6), pixels=st.booleans())
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_give_an_image_nothing_or_a_data_error(
    tmp_path: Path, damaged: bytes, cut: int, flips: list[tuple[int, int]], pixels: bool
) -> None:
    content = bytearray(damaged)
    for place, value in flips:
        content[place % len(content)] = value
    path = tmp_path / "file"
    path.write_bytes(content[: len(content) - cut] if cut < 1000 else content)
    try:
        image, reason = parse_file(path, pixels=pixels)
    except DataError as error:
        image, reason = None, str(error).removeprefix(f"{path}: ")
        reason = reason if reason != str(error) else ""  # a message names its file
    assert (image is None) == bool(reason)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(132, 1999), st.integers(0, 255)), min_size=1, max_size=4), header=st.booleans())
@pytest.mark.filterwarnings("ignore")
def test_a_series_with_a_damaged_file_is_read_or_refused(
    write_series: Write, ramp: np.ndarray, damaged: bytes, flips: list[tuple[int, int]], header: bool
) -> None:
    content = bytearray(damaged)
    for place, value in flips:
        content[place % len(content)] = value
    folder = write_series(ramp)
    (folder / "003").write_bytes(content)
    try:
        shape = read_header(folder).source.shape if header else read_volume(folder).source.shape
    except DataError as error:
        assert all(problem.startswith(str(folder)) for problem in error.problems)  # noqa: PT017
    else:
        assert shape in ((3, 4, 5), (3, 4, 4))


@pytest.fixture
def damaged(write_series: Write, ramp: np.ndarray) -> bytes:
    return (write_series(ramp, name="whole") / "003").read_bytes()
