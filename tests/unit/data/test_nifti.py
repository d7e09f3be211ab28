import gzip
import logging
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from series_files import SAGITTAL, series_in

from fuse_examples.imaging.oai_example.data import memory
from fuse_examples.imaging.oai_example.data.scans import read_header, read_mask, read_volume, source_fingerprint
from fuse_examples.imaging.oai_example.errors import DataError

Write = Callable[..., Path]


@pytest.fixture
def values() -> np.ndarray:
    return np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as error:
        read_volume(path)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.img.NII", "no_extension"])
@pytest.mark.parametrize("compressed", [False, True])
def test_content_and_not_the_name_decides(write_nifti: Write, values: np.ndarray, tmp_path: Path, name: str, compressed: bool) -> None:
    content = write_nifti(values, name="original.nii").read_bytes()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if compressed else content)
    assert np.array_equal(read_volume(path).array, values)
    assert read_header(path).source.shape == (3, 4, 5)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", ">i2", ">u2", "<f4", ">f4", "<f8", "<i4", "<u4", "<i8"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_types_become_native_and_narrow(tmp_path: Path, dtype: str, kind: type) -> None:
    values = np.arange(60).reshape(3, 4, 5).astype(dtype)
    image = kind(values, np.eye(4), dtype=values.dtype)
    image = kind(values, np.eye(4), image.header.as_byteswapped(">" if dtype[0] == ">" else "<"))
    nibabel.save(image, tmp_path / "a.nii")
    array = read_volume(tmp_path / "a.nii").array
    expected = {"u1": "uint8", "i1": "int8", "i2": "int16", ">i2": "int16", "u2": "uint16", ">u2": "uint16"}.get(dtype)
    assert array.dtype.name == (expected or ("float32" if "f" in dtype else "int16"))
    assert array.dtype.isnative
    assert np.array_equal(array, values)


def test_integers_that_need_more_than_16_bits(write_nifti: Write, values: np.ndarray) -> None:
    assert read_volume(write_nifti(values.astype(np.int32) * 1000)).array.dtype == np.uint16
    assert read_volume(write_nifti(values.astype(np.int32) * 10000)).array.dtype == np.int32


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [(2.0, -1024.0, "int16"), (0.125, 3.5, "float32"), (1.0, 0.0, "int16"), (2.0, 0.5, "float32"), (float("nan"), 7.0, "int16")],
)
def test_scaling_equals_nibabels(tmp_path: Path, values: np.ndarray, slope: float, intercept: float, dtype: str) -> None:
    image = nibabel.Nifti1Image(values, np.eye(4))
    nibabel.save(image, tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = np.array([slope, intercept], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    volume = read_volume(tmp_path / "a.nii")
    assert volume.array.dtype.name == dtype
    assert np.array_equal(volume.array, nibabel.load(tmp_path / "a.nii").get_fdata(dtype=np.float64).astype(np.float32))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.floats(-1, 1), min_size=9, max_size=9), seed=st.integers(0, 99))
def test_array_and_affine_agree_with_nibabel_in_ras(tmp_path: Path, numbers: list[float], seed: int) -> None:
    matrix = np.array(numbers).reshape(3, 3) * 0.2 + np.random.default_rng(seed).permutation(np.eye(3)) * [1, -2, 0.5]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, (5, -6, 7)
    values = np.random.default_rng(seed).integers(0, 999, (3, 4, 5)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "a.nii")
    expected = nibabel.as_closest_canonical(nibabel.load(tmp_path / "a.nii"))
    volume = read_volume(tmp_path / "a.nii")
    assert np.array_equal(volume.array, np.asanyarray(expected.dataobj))
    assert np.allclose(volume.affine, expected.affine)
    assert np.allclose(volume.source.affine, affine, atol=1e-6)


def test_sform_goes_before_qform_with_a_warning(tmp_path: Path, values: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    image = nibabel.Nifti1Image(values, np.diag([1, 1, 2, 1]))
    image.set_qform(np.diag([1, 1, 3, 1]), code=1)
    image.set_sform(np.diag([1, 1, 2, 1]), code=1)
    nibabel.save(image, tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii").spacing == (1, 1, 2)
    assert "sform and qform place a corner 2.0 voxels apart; the sform is used" in caplog.text


def test_without_any_form_nibabels_rule_holds_with_a_warning(tmp_path: Path, values: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    image = nibabel.Nifti1Image(values, None)
    image.header.set_zooms((0.5, 2, 3))
    nibabel.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert np.array_equal(volume.source.affine, nibabel.load(tmp_path / "a.nii").affine)
    assert volume.spacing == (0.5, 2, 3)
    assert "codes are both 0: orientation unknown" in caplog.text


def test_four_axes(write_nifti: Write, values: np.ndarray) -> None:
    assert np.array_equal(read_volume(write_nifti(values[..., None])).array, values)
    assert "has shape (3, 4, 5, 2): 2 volumes (a time series" in refusal(write_nifti(np.stack([values, values], -1), name="b.nii"))
    assert "has 2 axes, (3, 4); a 3D volume is needed" in refusal(write_nifti(values[..., 0], name="c.nii"))
    assert "has shape (3, 4, 1); a 3D volume with at least 2 voxels" in refusal(write_nifti(values[..., :1], name="d.nii"))


def test_truncated_and_corrupt_files(write_nifti: Write, values: np.ndarray) -> None:
    noise = np.random.default_rng(0).integers(0, 30000, (20, 20, 20)).astype(np.int16)
    path = write_nifti(noise)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "the compressed file is truncated. Copy or download it again." in refusal(path)
    path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:])
    assert "the compressed file is corrupt" in refusal(path)
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-100]))
    assert "is truncated: the voxels end after 15900 of 16000 bytes" in refusal(path)
    plain = write_nifti(noise, name="plain.nii")
    plain.write_bytes(plain.read_bytes()[:-100])
    assert "is truncated: 16252 of 16352 bytes are there" in refusal(plain)
    with pytest.raises(DataError, match="is truncated"):
        read_header(plain)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Header, nibabel.Nifti2Header])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_header_that_asks_for_more_than_any_memory(kind: type, compressed: bool, tmp_path: Path) -> None:
    header = kind()
    header.set_data_dtype(np.int16)
    header["dim"] = [3, *[32767 if kind is nibabel.Nifti1Header else 2**40] * 3, 1, 1, 1, 1]
    header["vox_offset"], header["magic"] = header.sizeof_hdr + 4, b"n+1" if kind is nibabel.Nifti1Header else header["magic"]
    content = header.binaryblock + bytes(1000)
    path = tmp_path / "scan.nii"
    path.write_bytes(gzip.compress(content) if compressed else content)
    asked = 2 * int(header["dim"][1]) ** 3 + header.sizeof_hdr + 4
    there = path.stat().st_size
    told = f"by its header it holds {asked} bytes, which {there} compressed bytes cannot" if compressed else f"{there} of {asked} bytes"
    assert told in refusal(path)


def gzip_bomb(path: Path, header: bytes, zeros: int) -> Path:
    """Write a small file that unpacks to the header and as many zeros."""
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(header)
        for _ in range(zeros >> 24):
            file.write(bytes(1 << 24))
    return path


def test_a_small_file_that_unpacks_to_much_more_than_its_header_says(write_nifti: Write, values: np.ndarray, tmp_path: Path) -> None:
    head = write_nifti(values, name="small.nii").read_bytes()
    path = gzip_bomb(tmp_path / "bomb.nii.gz", head, 1 << 28)
    assert path.stat().st_size < 300_000
    tracemalloc.start()
    told = refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert told == (
        f"{path}: is damaged or made to be large: by its header the voxels end after {len(head)} bytes, and more than 1 MiB follow. Copy "
        "or download it again, or write it again with the header that it needs."
    )
    assert peak < 10 << 20
    plain = tmp_path / "plain.nii"
    plain.write_bytes(head + bytes(3000))  # padding, as some programs write
    assert np.array_equal(read_volume(plain).array, values)


def test_a_scan_that_the_memory_does_not_hold_is_refused_before_any_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((1024, 1024, 128))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path = gzip_bomb(tmp_path / "bomb.nii.gz", header.binaryblock + bytes(4), 1 << 28)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       9999999 kB\nMemFree:  1 kB\nMemAvailable:    700000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    tracemalloc.start()
    told = refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20
    assert told == (
        f"{path}: takes more memory than there is: by its header it has 1024 x 1024 x 128 voxels, whose reading takes 0.8 GiB, and 0.7 GiB "
        "are free. Look whether that is its size; if so, crop it or use a machine with more."
    )
    meminfo.unlink()  # as on a system that does not tell
    assert memory.available_memory() > 1 << 30


def test_a_scan_that_compresses_as_well_as_any_is_read(tmp_path: Path) -> None:
    voxels = np.zeros((200, 200, 200), np.uint8)
    voxels[0, 0, 0] = 1
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(nibabel.Nifti1Image(voxels, np.eye(4)).to_bytes(), compresslevel=9))
    assert voxels.size > 900 * path.stat().st_size  # near the most
    assert np.array_equal(read_volume(path).array, voxels)


def test_a_bit_that_only_the_checksum_sees(write_nifti: Write) -> None:
    noise = np.random.default_rng(0).integers(0, 2**16, (20, 20, 20)).astype(np.uint16)
    content = bytearray(gzip.compress(write_nifti(noise, name="a.nii").read_bytes(), compresslevel=0))
    content[9000] ^= 1  # stored, not deflated: only the CRC at the end differs
    path = write_nifti(noise)
    path.write_bytes(content)
    assert "the compressed file is corrupt (CRC check failed" in refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite(write_nifti: Write, values: np.ndarray, value: float) -> None:
    broken = values.astype(np.float32)
    broken[1, 1, :2] = value
    assert "2 of 60 voxels are NaN or infinite" in refusal(write_nifti(broken))


def test_doubles_beyond_single_precision(write_nifti: Write, values: np.ndarray) -> None:
    assert "60 of 60 voxels are NaN or infinite" in refusal(write_nifti((values + 1) * 1e300))


def test_a_constant_image_is_refused_and_a_constant_mask_is_not(write_nifti: Write) -> None:
    path = write_nifti(np.zeros((3, 4, 5), np.uint8))
    assert "every voxel has the value 0; there is no image in it" in refusal(path)
    assert not read_mask(path).array.any()


def broken_header(path: Path, offset: int, numbers: list[float], dtype: str = "<f4") -> Path:
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(np.array(numbers, dtype).tobytes())] = np.array(numbers, dtype).tobytes()
    path.write_bytes(raw)
    return path


def test_affines_that_are_none(write_nifti: Write, values: np.ndarray) -> None:
    path = write_nifti(values, name="a.nii")
    assert "the affine is singular" in refusal(broken_header(path, 280, [0, 0, 0, 0]))
    assert "the affine holds NaN or infinite values" in refusal(broken_header(path, 280, [np.nan]))
    flat = np.array([[1, 1, 0, 0], [1, 1.0000001, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert "the affine is singular" in refusal(write_nifti(values, flat, name="b.nii"))


@pytest.mark.parametrize("spacing", [0.0, float("nan"), -1.0])
def test_spacings_that_are_none(write_nifti: Write, values: np.ndarray, spacing: float) -> None:
    path = broken_header(write_nifti(values, name="a.nii"), 254, [0], "<i2")  # without an sform the spacing makes the affine
    path = broken_header(path, 252, [1], "<i2")
    assert f"the voxel spacing (pixdim) is [0.5, {spacing}, 2.0]" in refusal(broken_header(path, 84, [spacing]))


def test_voxels_that_are_no_grey_values(tmp_path: Path) -> None:
    rgb = np.zeros((3, 4, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(rgb, np.eye(4)), tmp_path / "a.nii")
    assert "holds colour voxels; only grey values" in refusal(tmp_path / "a.nii")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.complex64), np.eye(4)), tmp_path / "b.nii")
    assert "holds complex voxels" in refusal(tmp_path / "b.nii")


def test_files_that_are_something_else(tmp_path: Path, write_nifti: Write, values: np.ndarray) -> None:
    for content, words in [
        (b"", "an empty file"),
        (b"NRRD0004\n", "an NRRD file"),
        (b"hello", "of an unknown format"),
        (gzip.compress(b"hello"), "of an unknown format"),
        (write_nifti(values, name="a.nii").read_bytes()[:344] + b"ni1\0", "half of a NIfTI or Analyze pair (.hdr/.img)"),
    ]:
        (tmp_path / "x.nii.gz").write_bytes(content)
        assert f"is {words}, not a NIfTI file" in refusal(tmp_path / "x.nii.gz")
    assert "does not exist" in refusal(tmp_path / "absent.nii.gz")


def test_a_damaged_header(write_nifti: Write, values: np.ndarray) -> None:
    assert "the NIfTI header is damaged" in refusal(broken_header(write_nifti(values, name="a.nii"), 70, [99], "<i2"))


def test_a_folder_stands_for_the_nifti_file_in_it(write_nifti: Write, values: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    write_nifti(values, name="case/a.nii.gz")
    (tmp_path / "case" / "sidecar.json").write_text("{}")
    assert np.array_equal(read_volume(tmp_path / "case").array, values)
    assert read_header(tmp_path / "case").kind == "NIfTI"
    write_nifti(values, name="case/b.nii.gz")
    assert "holds 2 NIfTI files (a.nii.gz, b.nii.gz, ...). Name the one that is meant." in refusal(tmp_path / "case")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64, np.int32])
def test_masks_are_small_integers(write_nifti: Write, dtype: type) -> None:
    labels = np.zeros((3, 4, 5), dtype)
    labels[1] = 6
    mask = read_mask(write_nifti(labels))
    assert mask.array.dtype == np.uint8
    assert np.array_equal(mask.array, labels)
    if dtype != np.uint8:
        labels[2] = 300
        assert read_mask(write_nifti(labels)).array.dtype == np.int16


def test_masks_that_are_none(write_nifti: Write) -> None:
    def refused(array: np.ndarray) -> str:
        with pytest.raises(DataError) as error:
            read_mask(write_nifti(array))
        return str(error.value)

    labels = np.zeros((3, 4, 5), np.float32)
    labels[0, 0, :3] = 0.25, 0.5, 1.00001
    assert "2 voxels of the mask are not whole numbers (for example 0.25, 0.5)" in refused(labels)
    labels[0, 0, 0] = np.nan
    assert "the mask holds NaN" in refused(labels)
    assert "the mask holds label -1 (15 voxels); labels are 0 and up" in refused(np.arange(60).reshape(3, 4, 5) % 4 - 1.0)
    assert "the mask holds values from 0 to 40000" in refused(np.array([0, 40000] * 30, np.float32).reshape(3, 4, 5))


def test_a_mask_may_take_the_affine_of_its_image(write_nifti: Write, values: np.ndarray) -> None:
    image = read_header(write_nifti(values, np.diag([-1, 1, 2, 1]), name="image.nii")).source
    mask = read_mask(write_nifti(values % 2, np.eye(4), name="mask.nii"), affine_of=image)
    assert np.array_equal(mask.source.affine, image.affine)
    assert np.array_equal(mask.array, (values % 2)[::-1])
    with pytest.raises(DataError, match=r"the mask's shape \(3, 4, 4\) differs from its image's, \(3, 4, 5\)"):
        read_mask(write_nifti(values[..., :4], name="other.nii"), affine_of=image)


def test_the_fingerprint_changes_with_any_source_file(tmp_path: Path, values: np.ndarray, write_nifti: Write) -> None:
    folder = series_in(tmp_path / "series", np.arange(60, dtype=np.int16).reshape(5, 4, 3), directions=SAGITTAL)
    first = source_fingerprint(folder)
    assert first == source_fingerprint(folder) == read_header(folder).fingerprint
    file = folder / "003"
    file.write_bytes(file.read_bytes())  # the same size; only the time differs
    second = source_fingerprint(folder)
    (folder / "003").rename(folder / "004")
    third = source_fingerprint(folder)
    (folder / "004").unlink()
    assert len({first, second, third, source_fingerprint(folder)}) == 4
    before = source_fingerprint(folder)
    (folder / ".DS_Store").write_text("")
    assert source_fingerprint(folder) == before
    assert len(source_fingerprint(write_nifti(values))) == 32


def test_the_readers_say_nothing_of_a_good_file(write_nifti: Write, values: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        read_volume(write_nifti(values))
    assert caplog.text == ""
