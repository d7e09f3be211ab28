"""Compressed series: what an encoder of another hand wrote is read voxel by voxel, and a format without a decoder names the package."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import jpeg_lossless
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEG2000,
    UID,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from fuse_examples.imaging.oai_example.data import dicom_pixels
from fuse_examples.imaging.oai_example.data.dicom import read_dicom
from fuse_examples.imaging.oai_example.data.scans import read_header, read_volume
from fuse_examples.imaging.oai_example.errors import DataError

Write = Callable[..., Path]

# 8 rows of 12 columns, (37 * index) mod 4000, 16 bits; written by OpenJPH by way of imagecodecs.htj2k_encode(image, reversible=True).
HIGH_THROUGHPUT = base64.b85decode(
    "|4;u>04YEK0000C0000800000000000000C000080000000000009pH0sl|{2mk^A000XAQUDA90ssL31q1{@0smY86Cj9?kdTm&kdTm&kdTmwh=~7W02crOPjF>!N>E53R"
    "%LP^FfKASE;BCwkN^q*00000Y5)QMlfVEb;r0awbN~Rr022Us{sISd0KfnezyK3~^8m+m0Mal00Kzl?zyK3K02M%_q=5@`0L*8e`2ZNecUAzv04g8=72pVhAlh((bpUqTw"
    "QJX|-QXbhLILc!0RPz"
)


def smooth(kind: str) -> np.ndarray:
    """(4 slices, 32 rows, 40 columns) that a codec can do something with: 8 bits, 12 of 16 bits, or all 16, signed or not."""
    waves = np.sin(np.linspace(0, 7, 4 * 32 * 40)).reshape(4, 32, 40) + np.random.default_rng(0).normal(0, 0.05, (4, 32, 40))
    low, high = {"u8": (0, 255), "u12": (0, 4095), "i12": (-2048, 2047), "u16": (0, 65535), "i16": (-32768, 32767)}[kind]
    scaled = np.clip((waves + 1.2) / 2.4, 0, 1) * (high - low) + low
    return scaled.round().astype({"u8": "uint8", "u": "uint16", "i": "int16"}[kind if kind == "u8" else kind[0]])


def rewritten(folder: Path, change: Callable[[Dataset], None]) -> Path:
    for file in folder.iterdir():
        dataset = dcmread(file)
        change(dataset)
        dataset.save_as(file)
    return folder


def with_stream(syntax: UID, encode: Callable[[np.ndarray], bytes]) -> Callable[[Dataset], None]:
    """Replace the pixels of a plain slice by a compressed stream of them."""

    def change(dataset: Dataset) -> None:
        dataset.PixelData = encapsulate([encode(dataset.pixel_array)])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax

    return change


def series(write_series: Write, kind: str) -> tuple[Path, np.ndarray]:
    values = smooth(kind)

    def twelve_bits(dataset: Dataset, index: int) -> None:
        dataset.BitsStored, dataset.HighBit = 12, 11

    return write_series(values, **({"change": twelve_bits} if kind.endswith("12") else {})), values


@pytest.mark.parametrize("kind", ["u8", "u12", "i12", "u16", "i16"])
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda syntax: syntax.keyword)
def test_lossless_formats_that_pydicom_can_write(write_series: Write, syntax: UID, kind: str) -> None:
    folder, values = series(write_series, kind)
    plain = read_volume(folder)
    rewritten(folder, lambda dataset: dataset.compress(syntax))
    volume = read_volume(folder)
    assert np.array_equal(volume.array, plain.array)
    assert np.array_equal(volume.affine, plain.affine)
    assert volume.array.dtype == plain.array.dtype == values.dtype
    assert read_header(folder).source.shape == (40, 32, 4)


@pytest.mark.parametrize("kind", ["u8", "u12", "i12", "u16", "i16"])
@pytest.mark.parametrize(("syntax", "selection"), [(JPEGLosslessSV1, 1), (JPEGLossless, 1), (JPEGLossless, 2)])
def test_lossless_jpeg(write_series: Write, syntax: UID, selection: int, kind: str) -> None:
    folder, values = series(write_series, kind)
    precision = int(kind[1:])
    rewritten(folder, with_stream(syntax, lambda image: jpeg_lossless.encode(image, precision, selection)))
    array, _ = read_dicom(folder)
    assert array.dtype == values.dtype
    assert np.array_equal(array.transpose(2, 1, 0), values)


def test_high_throughput_jpeg_2000(write_series: Write) -> None:
    values = ((np.arange(96) * 37) % 4000).astype(np.uint16).reshape(8, 12)
    folder = write_series(np.stack([values] * 3), change=lambda dataset, index: None)
    rewritten(folder, with_stream(HTJ2KLossless, lambda image: HIGH_THROUGHPUT))
    array, _ = read_dicom(folder)
    assert all(np.array_equal(array[:, :, index].T, values) for index in range(3))


@pytest.mark.parametrize(("syntax", "options", "tolerance"), [(JPEGLSNearLossless, {"jls_error": 3}, 3), (JPEG2000, {"j2k_cr": [2]}, 40)])
def test_lossy_formats_that_pydicom_can_write(write_series: Write, syntax: UID, options: dict[str, object], tolerance: int) -> None:
    folder, values = series(write_series, "u12")
    rewritten(folder, lambda dataset: dataset.compress(syntax, **options))
    array, _ = read_dicom(folder)
    assert 0 < np.abs(array.transpose(2, 1, 0).astype(int) - values).max() <= tolerance


def test_baseline_jpeg(write_series: Write) -> None:
    def encode(image: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "jpeg", quality=98)
        return stream.getvalue()

    folder, values = series(write_series, "u8")
    rewritten(folder, with_stream(JPEGBaseline8Bit, encode))
    array, _ = read_dicom(folder)
    assert np.abs(array.transpose(2, 1, 0).astype(int) - values).max() <= 8


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=lambda syntax: syntax.keyword)
def test_slope_and_intercept_count_in_compressed_files_too(write_series: Write, syntax: UID) -> None:
    def scaled(dataset: Dataset, index: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = str(1.25 + index / 8), "-100"

    values = smooth("i16")
    folder = write_series(values, change=scaled)
    rewritten(folder, lambda dataset: dataset.compress(syntax))
    array, _ = read_dicom(folder)
    slopes = 1.25 + np.arange(len(values)) / 8
    assert np.allclose(array.transpose(2, 1, 0), values * slopes[:, None, None] - 100, atol=1e-2)


def test_compressed_and_plain_slices_in_one_series(write_series: Write) -> None:
    folder, values = series(write_series, "i12")
    for file, syntax in zip(sorted(folder.iterdir()), (RLELossless, JPEG2000Lossless, JPEGLSLossless), strict=False):
        dataset = dcmread(file)
        dataset.compress(syntax)
        dataset.save_as(file)
    array, _ = read_dicom(folder)
    assert np.array_equal(array.transpose(2, 1, 0), values)


@pytest.mark.parametrize(
    ("syntax", "package"),
    [
        (JPEGBaseline8Bit, "python-gdcm"),
        (JPEGLossless, "python-gdcm"),
        (JPEGLosslessSV1, "python-gdcm"),
        (JPEGLSLossless, "pyjpegls"),
        (JPEGLSNearLossless, "pyjpegls"),
        (JPEG2000Lossless, "pylibjpeg pylibjpeg-openjpeg"),
        (HTJ2KLossless, "pylibjpeg pylibjpeg-openjpeg"),
    ],
    ids=lambda value: getattr(value, "keyword", ""),
)
def test_a_missing_decoder_names_the_package(write_series: Write, monkeypatch: pytest.MonkeyPatch, syntax: UID, package: str) -> None:
    folder, _ = series(write_series, "u8")
    rewritten(folder, with_stream(syntax, lambda image: b"abcd"))
    monkeypatch.setattr(dicom_pixels, "get_decoder", lambda syntax: SimpleNamespace(is_available=False))
    with pytest.raises(DataError) as error:
        read_volume(folder)
    assert f"the voxels are compressed as {syntax.name} ({syntax}). Install what decodes it: pip install {package}." in str(error.value)
    assert read_header(folder).source.shape == (40, 32, 4)  # a header needs no decoder


def test_twelve_bits_of_lossy_jpeg_name_the_package_and_its_licence(write_series: Write) -> None:
    def encode(image: np.ndarray) -> bytes:
        return jpeg_lossless.encode(image, 12).replace(b"\xff\xc3", b"\xff\xc1")  # says that it is extended JPEG of 12 bits

    folder, _ = series(write_series, "u12")
    rewritten(folder, with_stream(JPEGExtended12Bit, encode))
    with pytest.raises(DataError) as error:
        read_volume(folder)
    text = str(error.value)
    assert "the voxels cannot be decoded (JPEG Extended (Process 2 and 4)): " in text
    assert "Of 12 bits, pip install pylibjpeg pylibjpeg-libjpeg decodes it; that package is under the GPL." in text


def test_a_format_of_films_is_refused(write_series: Write) -> None:
    folder, _ = series(write_series, "u8")
    rewritten(folder, with_stream(UID("1.2.840.10008.1.2.4.102"), lambda image: b"abcd"))
    with pytest.raises(DataError, match=r"are compressed as MPEG-4 .* Convert the series to an uncompressed one\."):
        read_volume(folder)


def test_a_damaged_stream_names_file_and_format(write_series: Write) -> None:
    folder, _ = series(write_series, "u8")
    rewritten(folder, with_stream(JPEG2000Lossless, lambda image: b"\xff\x4fnonsense"))
    with pytest.raises(DataError, match=r"003: the voxels cannot be decoded \(JPEG 2000 Image Compression \(Lossless Only\)\): "):
        read_volume(folder)


def streams(syntax: UID) -> Callable[[Dataset], None]:
    """A change that compresses a plain slice of 12 bits in a lossless format."""
    if syntax == JPEGLosslessSV1:
        return with_stream(syntax, lambda image: jpeg_lossless.encode(image, 12))
    return lambda dataset: dataset.compress(syntax)


def zeros_within(stream: bytes) -> bytes:
    return stream[: len(stream) // 3] + bytes(len(stream) // 6) + stream[len(stream) // 3 + len(stream) // 6 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut at half": lambda stream: stream[: len(stream) // 2],
    "cut near the end": lambda stream: stream[: len(stream) * 19 // 20],
    "without its beginning": lambda stream: bytes(20) + stream[20:],
    "zeros within": zeros_within,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless], ids=lambda syntax: syntax.keyword)
def test_a_damaged_frame_is_refused_by_name(write_series: Write, syntax: UID, damage: str) -> None:
    if (syntax, damage) == (JPEG2000Lossless, "zeros within"):
        damage = "cut at half"  # JPEG 2000 has no checksum, and its decoder takes any bits: what changed within cannot be known
    folder, _ = series(write_series, "u12")
    rewritten(folder, streams(syntax))
    file = sorted(folder.iterdir())[2]
    dataset = dcmread(file)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([DAMAGES[damage](frame)])
    dataset.save_as(file)
    with pytest.raises(DataError) as error:
        read_volume(folder)
    (text,) = error.value.problems
    assert text.startswith(f"{file}: the voxels cannot be decoded ({syntax.name}): ")
    assert text.endswith(". Fetch the file again from where it came; if it is the same there, leave the series out.")
    assert "\n" not in text
    assert "NoneType" not in text
    assert read_header(folder).source.shape == (40, 32, 4)


def test_run_length_code_of_too_many_voxels(write_series: Write) -> None:
    folder, _ = series(write_series, "u8")
    row = np.repeat(np.arange(10, dtype=np.uint8), 4)
    header = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56)

    def runs(more: int) -> bytes:
        return header + b"".join(bytes([257 - 4, value]) for value in np.tile(row[::4], 32).tolist()) + bytes([257 - 4, 7]) * more

    rewritten(folder, with_stream(RLELossless, lambda image: runs(0)))
    assert np.array_equal(read_dicom(folder)[0].transpose(2, 1, 0), np.tile(row, (4, 32, 1)))
    rewritten(folder, lambda dataset: setattr(dataset, "PixelData", encapsulate([runs(8)])))
    with pytest.raises(DataError, match=r"RLE Lossless\): a segment holds 1312 bytes, 1280 are needed\. Fetch the file again"):
        read_volume(folder)
