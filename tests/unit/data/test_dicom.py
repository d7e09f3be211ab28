import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from converter_cases import rotation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedSRStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)
from series_files import AXIAL, CORONAL, SAGITTAL, ras_affine, series_in

from fuse_examples.imaging.oai_example.data import dicom_files
from fuse_examples.imaging.oai_example.data.dicom import read_dicom, read_dicom_header
from fuse_examples.imaging.oai_example.data.scans import read_header, read_mask, read_volume, source_fingerprint
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.geometry.volume import Grid

Write = Callable[..., Path]


def refusal(path: Path) -> str:
    """The text of the error, the same with and without pixels."""
    with pytest.raises(DataError) as with_pixels:
        read_volume(path)
    with pytest.raises(DataError) as header_only:
        read_header(path)
    assert str(with_pixels.value) == str(header_only.value)
    return str(with_pixels.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(st.floats(0.2, 3), st.floats(0.2, 3)),
    step=st.floats(0.3, 6),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    shape=st.tuples(st.integers(3, 9), st.integers(2, 7), st.integers(2, 7)),
    seed=st.integers(0, 2**16),
)
def test_any_geometry_in_any_file_order_is_read_as_it_was_written(
    tmp_path: Path,
    angles: tuple[float, float, float],
    spacing: tuple[float, float],
    step: float,
    origin: tuple[float, float, float],
    shape: tuple[int, int, int],
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-500, 500, shape, dtype=np.int16)
    values[0, 0, 0], values[0, 0, 1] = 1000, 1001
    names = rng.permutation(1000)
    turned = rotation(angles)
    directions = (tuple(turned[0]), tuple(turned[1]))
    shutil.rmtree(tmp_path / "series", ignore_errors=True)
    options = {"directions": directions, "origin": origin, "spacing": spacing, "along": step}
    folder = series_in(tmp_path / "series", values, file_name=lambda index: str(names[index]), **options)
    affine = ras_affine(directions, origin, spacing, step)
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine), tmp_path / "same.nii")

    dicom, nifti = read_volume(folder), read_volume(tmp_path / "same.nii")

    assert dicom.source.shape == values.shape[::-1]
    assert np.abs(dicom.source.corners() - Grid(dicom.source.shape, affine).corners()).max() < 1e-3
    assert dicom.grid.orientation == nifti.grid.orientation == "RAS"
    assert np.abs(dicom.grid.corners() - nifti.grid.corners()).max() < 1e-3
    assert np.array_equal(dicom.array, nifti.array)
    assert dicom.array.dtype == nifti.array.dtype == np.int16


@pytest.mark.parametrize("directions", [AXIAL, SAGITTAL, CORONAL])
def test_every_voxel_lies_where_its_header_says(write_series: Write, ramp: np.ndarray, directions: tuple) -> None:
    volume = read_volume(write_series(ramp, directions=directions))
    for index, row, column in np.ndindex(ramp.shape):
        lps = np.array([10, -20, 30]) + 2 * index * np.cross(*directions)
        lps = lps + 0.75 * column * np.array(directions[0]) + 0.5 * row * np.array(directions[1])
        place = np.linalg.solve(volume.affine, [-lps[0], -lps[1], lps[2], 1])[:3]
        assert np.allclose(place, place.round(), atol=1e-4)
        assert volume.array[tuple(place.round().astype(int))] == ramp[index, row, column]


def test_the_header_needs_no_pixels_and_agrees(write_series: Write, ramp: np.ndarray) -> None:
    folder = write_series(ramp)
    header, (values, with_pixels) = read_dicom_header(folder), read_dicom(folder)
    assert header.grid.shape == values.shape == (3, 4, 5)
    assert np.array_equal(header.grid.affine, with_pixels.grid.affine)
    assert (header.n_files, header.dtype, header.description) == (5, "int16", "SAG_3D_DESS_LEFT")
    assert read_header(folder).source.spacing == pytest.approx((0.75, 0.5, 2.0))


def test_other_files_in_the_folder_are_passed_over(write_series: Write, ramp: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_series(ramp)
    expected = read_volume(folder).array
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(600))
    (folder / "._003").write_bytes(b"\0\5\26\7" + bytes(100))
    (folder / "notes.txt").write_text("left knee\n" * 40)
    (folder / "looks_like_an_element").write_bytes(b"\x08\0\x99\0" + b"junk" * 50)
    (folder / "empty").write_bytes(b"")
    report = dcmread(folder / "003", stop_before_pixels=True)
    del report.Rows, report.Columns
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = EnhancedSRStorage
    report.save_as(folder / "report.dcm")
    read_volume(folder)
    assert "passed over 5 not DICOM, 1 empty, 1 DICOM without an image" in caplog.text
    (folder / "empty").unlink()
    caplog.clear()
    assert np.array_equal(read_volume(folder).array, expected)
    assert caplog.text == ""  # nothing to worry about
    with caplog.at_level(logging.INFO):
        read_volume(folder)
    assert "passed over 5 not DICOM, 1 DICOM without an image" in caplog.text


def test_unreadable_files_are_counted_with_a_warning(write_series: Write, ramp: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_series(ramp)
    expected, before = read_volume(folder).array, source_fingerprint(folder)
    (folder / "junk.dcm").write_bytes(bytes(128) + b"DICM" + bytes(range(7, 207)))
    (folder / "annexed").symlink_to(folder / "not" / "fetched")
    assert np.array_equal(read_volume(folder).array, expected)
    assert caplog.records[-1].levelname == "WARNING"
    assert "passed over 2 unreadable" in caplog.text
    assert source_fingerprint(folder) != before


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_a_file_that_may_not_be_opened_is_passed_over_and_a_failing_disk_is_an_error(
    write_series: Write, ramp: np.ndarray, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: OSError
) -> None:
    folder = write_series(ramp)
    whole = dicom_files.quick_parse

    def quick_parse(path: Path) -> object:
        if path.name == "003":
            raise error
        return whole(path)

    monkeypatch.setattr(dicom_files, "quick_parse", quick_parse)
    if isinstance(error, PermissionError):
        assert read_volume(folder).array.shape == (4, 3, 4)
        assert "passed over 1 unreadable" in caplog.text
    else:
        assert refusal(folder) == f"{folder / '003'}: cannot be read (Input/output error)."


@pytest.mark.parametrize("length", [400, 600])
def test_a_slice_that_ends_in_its_header_is_not_passed_over(write_series: Write, ramp: np.ndarray, length: int) -> None:
    folder = write_series(ramp)
    content = (folder / "003").read_bytes()
    (folder / "003").write_bytes(content[:length])
    assert content.index(b"\x28\0\x10\0US") > 600
    assert refusal(folder).startswith(f"{folder / '003'}: the DICOM file is ")


def test_the_mess_of_an_archive(write_series: Write, ramp: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    """All at once: droppings of file browsers, a DICOMDIR, a screen shot, localizers, a reference slice as file 001, a copy of a slice."""
    folder = write_series(ramp, file_name=lambda index: f"{index + 2:03d}")
    expected = read_volume(folder)
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(600))
    (folder / "contents.csv").write_text("patient,visit\n9000099,V00\n" * 30)
    (folder / "empty").write_bytes(b"")
    directory = dcmread(folder / "003", stop_before_pixels=True)
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.save_as(folder / "DICOMDIR")
    shutil.copy(folder / "003", folder / "003 (1)")

    def screenshot(dataset: Dataset, index: int) -> None:
        dataset.SOPClassUID, dataset.SeriesInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
        dataset.PhotometricInterpretation, dataset.SamplesPerPixel, dataset.PixelData = "RGB", 3, dataset.PixelData * 3
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing

    def scout(dataset: Dataset, index: int) -> None:
        dataset.SeriesInstanceUID, dataset.ImageType = "1.2.4", ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    write_series(ramp[:2].astype(np.uint8), change=screenshot, file_name=lambda index: f"screen_{index}")
    write_series(np.concatenate([ramp, ramp]), change=scout, directions=AXIAL, file_name=lambda index: f"scout_{index}")
    write_series(ramp[:1] + 7, directions=CORONAL, file_name=lambda index: "001")  # of the same series

    volume = read_volume(folder)
    assert np.array_equal(volume.array, expected.array)
    assert np.array_equal(volume.affine, expected.affine)
    assert read_header(folder).n_files == 5
    for note in (
        "dropped 1 slice(s) of another orientation: 001",
        "dropped 10 localizer image(s): scout_0, scout_1, scout_2 and 7 more",
        "dropped 2 image(s) of other series: screen_0 is a colour image (RGB), not grey values; screen_1",
        "dropped 1 exact duplicate(s) of other slices: 003 (1)",
        "passed over 3 not DICOM, 1 DICOM directory, 1 empty",
    ):
        assert note in caplog.text


def test_a_folder_with_a_dicomdir(write_series: Write, ramp: np.ndarray) -> None:
    folder = write_series(ramp)
    directory = dcmread(folder / "003", stop_before_pixels=True)
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.save_as(folder / "DICOMDIR")
    assert read_volume(folder).array.shape == (5, 3, 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
def test_signed_and_unsigned(write_series: Write, dtype: type) -> None:
    limits = np.iinfo(dtype)
    values = np.linspace(limits.min, limits.max, 60).astype(dtype).reshape(5, 4, 3)
    volume = read_volume(write_series(values, directions=AXIAL))
    assert volume.array.dtype == dtype
    assert np.array_equal(np.sort(volume.array, axis=None), np.sort(values, axis=None))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings(write_series: Write, ramp: np.ndarray, syntax: str) -> None:
    plain = read_volume(write_series(ramp))
    other = read_volume(write_series(ramp, name="other", syntax=syntax))
    assert np.array_equal(plain.array, other.array)
    assert other.array.dtype == np.int16


def test_a_compressed_series(write_series: Write, ramp: np.ndarray) -> None:
    folder = write_series(ramp)
    expected = read_volume(folder).array
    for file in folder.iterdir():
        dataset = dcmread(file)
        dataset.compress(RLELossless)
        dataset.save_as(file)
    assert np.array_equal(read_volume(folder).array, expected)


def test_files_without_preamble(write_series: Write, ramp: np.ndarray) -> None:
    folder = write_series(ramp, syntax=ImplicitVRLittleEndian)
    expected = read_volume(folder)
    for file in folder.iterdir():
        dataset = dcmread(file)
        with open(file, "wb") as stream:
            bare = Dataset({element.tag: element for element in dataset})
            dcmwrite(stream, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert b"DICM" not in next(folder.iterdir()).read_bytes()
    volume = read_volume(folder)
    assert np.array_equal(volume.array, expected.array)
    assert np.array_equal(volume.affine, expected.affine)


def test_rescaling_with_whole_numbers_keeps_integers(write_series: Write, ramp: np.ndarray) -> None:
    def rescale(dataset: Dataset, index: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = "2", "-1024"

    values, _ = read_dicom(write_series(ramp, change=rescale))
    assert values.dtype == np.int16
    assert np.array_equal(values.transpose(2, 1, 0), ramp * 2 - 1024)


def test_rescaling_is_done_slice_by_slice(write_series: Write, ramp: np.ndarray) -> None:
    def rescale(dataset: Dataset, index: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = str(1.25 + index / 8), str(index)

    values, _ = read_dicom(write_series(ramp, change=rescale))
    slopes = (1.25 + np.arange(5) / 8)[:, None, None]
    assert values.dtype == np.float32
    assert np.array_equal(values.transpose(2, 1, 0), (ramp * slopes + np.arange(5)[:, None, None]).astype(np.float32))


def test_rescaling_slice_by_slice_with_whole_results(write_series: Write, ramp: np.ndarray) -> None:
    values, _ = read_dicom(write_series(ramp, change=lambda dataset, index: setattr(dataset, "RescaleSlope", str(index + 1))))
    assert values.dtype == np.int16
    assert np.array_equal(values.transpose(2, 1, 0), ramp * np.arange(1, 6)[:, None, None])


def test_values_beyond_16_bits_after_rescaling(write_series: Write, ramp: np.ndarray) -> None:
    values, _ = read_dicom(write_series(ramp, change=lambda dataset, index: setattr(dataset, "RescaleSlope", "1000")))
    assert values.dtype == np.int32
    assert np.array_equal(values.transpose(2, 1, 0), ramp.astype(np.int64) * 1000)


def test_unused_bits_are_dropped_and_signs_extended(write_series: Write) -> None:
    true = np.linspace(-2048, 2047, 60).astype(np.int16).reshape(5, 4, 3)

    def twelve_bits(dataset: Dataset, index: int) -> None:
        dataset.BitsStored, dataset.HighBit = 12, 11

    stored = (true & 0x0FFF) | 0x5000  # something in the four unused bits
    values, _ = read_dicom(write_series(stored.astype(np.int16), change=twelve_bits))
    assert np.array_equal(values.transpose(2, 1, 0), true)
    values, _ = read_dicom(write_series(stored.astype(np.uint16), name="unsigned", change=twelve_bits))
    assert np.array_equal(values.transpose(2, 1, 0), true & 0x0FFF)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_values_kept_in_the_high_bits(write_series: Write, dtype: type) -> None:
    true = np.linspace(-2048, 2047, 60).astype(np.int16).reshape(5, 4, 3) if dtype == np.int16 else np.arange(60).reshape(5, 4, 3)

    def high(dataset: Dataset, index: int) -> None:
        dataset.BitsStored, dataset.HighBit = 12, 13

    values, _ = read_dicom(write_series(((true << 2) | 1).astype(dtype), change=high))
    assert np.array_equal(values.transpose(2, 1, 0), true)


def test_signed_and_unsigned_slices_in_one_series(write_series: Write, ramp: np.ndarray) -> None:
    def twelve_bits(dataset: Dataset, index: int) -> None:
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, index % 2

    stored = np.full((5, 4, 3), 0x0FFF, np.uint16) - ramp.astype(np.uint16)
    values, _ = read_dicom(write_series(stored, change=twelve_bits))
    expected = stored.astype(np.int32)
    expected[1::2] -= 4096
    assert values.dtype == np.int16
    assert np.array_equal(values.transpose(2, 1, 0), expected)


def test_monochrome1_is_a_matter_of_display(write_series: Write, ramp: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    values, _ = read_dicom(write_series(ramp, change=lambda dataset, index: setattr(dataset, "PhotometricInterpretation", "MONOCHROME1")))
    assert np.array_equal(values.transpose(2, 1, 0), ramp)
    assert "is to be displayed inverted (MONOCHROME1); its values are taken as stored" in caplog.text


def test_a_mask_as_dicom(write_series: Write) -> None:
    labels = np.zeros((5, 4, 3), np.uint16)
    labels[2] = 3
    mask = read_mask(write_series(labels))
    assert mask.array.dtype == np.uint8
    assert sorted(np.unique(mask.array)) == [0, 3]


def test_two_echoes_are_listed(write_series: Write, ramp: np.ndarray) -> None:
    def echo(number: int) -> Callable[[Dataset, int], None]:
        def change(dataset: Dataset, index: int) -> None:
            dataset.EchoNumbers, dataset.EchoTime = number, str(number * 10)

        return change

    folder = write_series(ramp, change=echo(1))
    write_series(ramp + 1, change=echo(2), file_name=lambda index: f"second_{index}")
    text = refusal(folder)
    assert text.startswith(f"{folder}: holds 2 volumes")
    assert '1. "SAG_3D_DESS_LEFT", echo 1, echo time 10.00 ms: 5 slices of 3 x 4, for example 003' in text
    assert '2. "SAG_3D_DESS_LEFT", echo 2, echo time 20.00 ms: 5 slices of 3 x 4, for example second_0' in text
    assert "a folder of its own" in text


@pytest.mark.parametrize(
    ("what", "change", "options", "named"),
    [
        ("series", {"SeriesInstanceUID": "1.2.3.4", "SeriesDescription": "COR_IW_TSE"}, {}, '"COR_IW_TSE", series ...1.2.3.4'),
        ("image type", {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, {}, "image type ORIGINAL\\PRIMARY\\P"),
        ("orientation", {}, {"directions": CORONAL}, "coronal"),
        ("pixel spacing", {"PixelSpacing": ["1", "1.5"]}, {}, "pixels of 1.5 x 1 mm: 4 slices"),
    ],
)
def test_other_ways_to_be_two_volumes(
    write_series: Write, ramp: np.ndarray, what: str, change: dict[str, object], options: dict[str, object], named: str
) -> None:
    def apply(dataset: Dataset, index: int) -> None:
        for key, value in change.items():
            setattr(dataset, key, value)

    folder = write_series(ramp)
    write_series(ramp[:4] + 1, change=apply, file_name=lambda index: f"second_{index}", **options)
    text = refusal(folder)
    assert "holds 2 volumes" in text
    assert named in text
    assert ": 4 slices" in text


def test_another_matrix_is_another_volume(write_series: Write, ramp: np.ndarray) -> None:
    folder = write_series(ramp)
    write_series(ramp[:, :2], file_name=lambda index: f"second_{index}")
    assert "5 slices of 3 x 2" in refusal(folder)


def test_an_odd_slice_of_another_orientation_is_dropped(write_series: Write, ramp: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_series(ramp)
    expected = read_volume(folder)
    write_series(ramp[:1], directions=CORONAL, file_name=lambda index: "001")
    volume = read_volume(folder)
    assert np.array_equal(volume.array, expected.array)
    assert "dropped 1 slice(s) of another orientation: 001" in caplog.text
    assert read_header(folder).n_files == 5


def test_localizers_are_dropped(write_series: Write, ramp: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_series(ramp)

    def scout(dataset: Dataset, index: int) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    write_series(np.concatenate([ramp, ramp]), change=scout, file_name=lambda index: f"scout_{index}")
    assert read_volume(folder).array.shape == (5, 3, 4)
    assert "dropped 10 localizer image(s): scout_0, scout_1, scout_2 and 7 more" in caplog.text


def test_a_slice_of_the_same_orientation_is_never_dropped_in_silence(write_series: Write, ramp: np.ndarray) -> None:
    def last_differs(dataset: Dataset, index: int) -> None:
        if index == 4:
            dataset.EchoTime = "9"

    assert "holds 2 volumes" in refusal(write_series(ramp, change=last_differs))


def test_exact_duplicates_are_removed(write_series: Write, ramp: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_series(ramp)
    expected = read_volume(folder).array
    again = dcmread(folder / "003")
    again.SOPInstanceUID = generate_uid()
    again.save_as(folder / "copy")
    assert np.array_equal(read_volume(folder).array, expected)
    assert "dropped 1 exact duplicate(s) of other slices: copy" in caplog.text
    assert read_header(folder).source.shape == (3, 4, 5)


def test_different_images_at_one_position(write_series: Write, ramp: np.ndarray) -> None:
    folder = write_series(ramp, change=lambda dataset, index: setattr(dataset, "TemporalPositionIdentifier", "1"))
    write_series(
        ramp + 1,
        change=lambda dataset, index: setattr(dataset, "TemporalPositionIdentifier", "2"),
        file_name=lambda index: f"second_{index}",
    )
    text = refusal(folder)
    assert "5 positions with different images, for example 003 and second_0" in text
    assert "(TemporalPositionIdentifier 1 and 2)" in text


def test_equal_pixels_with_another_slope_are_no_duplicates(write_series: Write, ramp: np.ndarray) -> None:
    folder = write_series(ramp)
    again = dcmread(folder / "003")
    again.SOPInstanceUID, again.RescaleSlope, again.InstanceNumber = generate_uid(), "2", "9"
    again.save_as(folder / "copy")
    assert "1 position with different images, for example 003 and copy at (10.00, -20.00, 30.00) mm (InstanceNumber 1 and 9)" in refusal(
        folder
    )


def test_a_missing_slice_is_named(write_series: Write, ramp: np.ndarray) -> None:
    folder = write_series(ramp, along=[0, 2, 4, 10, 12])
    assert "slices are missing: 2 between 017 and 024 (6.000 mm apart, not 2.000 mm)" in refusal(folder)


def test_uneven_spacing_names_file_and_millimetres(write_series: Write, ramp: np.ndarray) -> None:
    folder = write_series(ramp, along=[0, 2, 4.3, 6, 8])
    text = refusal(folder)
    assert "017 lies 0.240 mm from its place in an even stack of 2.000 mm steps (tolerance 0.100 mm)" in text


def test_of_thin_slices_a_twentieth_of_a_millimetre_is_tolerated(write_series: Write, ramp: np.ndarray) -> None:
    text = refusal(write_series(ramp, along=[0, 0.7, 1.48, 2.1, 2.8]))
    assert "017 lies 0.064 mm from its place in an even stack of 0.700 mm steps (tolerance 0.050 mm)" in text


def test_a_little_unevenness_is_tolerated(write_series: Write, ramp: np.ndarray) -> None:
    volume = read_volume(write_series(ramp, along=[0, 2, 4.09, 6, 8]))
    assert volume.spacing == pytest.approx((2, 0.75, 0.5))
    assert read_volume(write_series(ramp, name="thin", along=[0, 0.7, 1.455, 2.1, 2.8])).spacing[0] == pytest.approx(0.7)


def test_a_tilted_stack(write_series: Write, ramp: np.ndarray) -> None:
    def tilt(dataset: Dataset, index: int) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y + 0.2 * index, z]

    text = refusal(write_series(ramp, change=tilt))
    assert "tilted by 5.71 degrees (gantry tilt)" in text
    assert "0.80 mm" in text


@pytest.mark.parametrize(("degrees", "refused"), [(0.09, False), (0.12, True)])
def test_the_least_tilt_that_is_refused(write_series: Write, ramp: np.ndarray, degrees: float, refused: bool) -> None:
    def tilt(dataset: Dataset, index: int) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, f"{y + 2 * index * np.tan(np.radians(degrees)):.10f}"[:16], z]

    folder = write_series(ramp, change=tilt)
    if refused:
        assert "tilted by 0.12 degrees (gantry tilt)" in refusal(folder)
    else:
        assert read_volume(folder).array.shape == (5, 3, 4)


def test_a_slice_displaced_in_its_plane(write_series: Write, ramp: np.ndarray) -> None:
    def displace(dataset: Dataset, index: int) -> None:
        if index == 2:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x, y, z + 1]

    assert "017 is displaced by 1.000 mm within its plane" in refusal(write_series(ramp, change=displace))


def test_too_few_slices(write_series: Write, ramp: np.ndarray) -> None:
    assert "holds 2 slices; a volume needs at least 3" in refusal(write_series(ramp[:2]))
    one = write_series(ramp[:1], name="one")
    assert "holds 1 slice; a volume needs" in refusal(one)
    assert "is a single DICOM slice. Name the folder" in refusal(one / "003")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"ImagePositionPatient": None}, "003 has no usable ImagePositionPatient"),
        ({"PixelSpacing": ["0", "1"]}, "003 has a PixelSpacing of 0.0\\1.0; it must be positive"),
        ({"ImageOrientationPatient": ["1", "0", "0", "1", "0", "0"]}, "not two perpendicular unit vectors"),
        ({"RescaleSlope": "0"}, "003 has a RescaleSlope of 0"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "003 is a mosaic"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "003 is a colour image (RGB)"),
        ({"SamplesPerPixel": 3}, "003 is a colour image (MONOCHROME2)"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "003 is a colour image (PALETTE COLOR)"),
        ({"NumberOfFrames": "4"}, "003 is a multi-frame file without a position for each frame"),
        ({"Rows": 0}, "003 has an image of 3 x 0 pixels"),
        ({"BitsAllocated": 12}, "003 has no usable BitsAllocated (found 12, 8, 16, 32, 64 are read)"),
        ({"BitsAllocated": None}, "003 has no usable BitsAllocated (found None"),
    ],
)
@pytest.mark.parametrize("how_many", ["all", "one"])
def test_unusable_slices_are_named(write_series: Write, ramp: np.ndarray, change: dict[str, object], text: str, how_many: str) -> None:
    def spoil(dataset: Dataset, index: int) -> None:
        if index and how_many == "one":
            return
        for key, value in change.items():
            setattr(dataset, key, value)
        dataset.PixelData = dataset.PixelData * 12  # long enough for colour and frames

    folder = write_series(ramp, change=spoil)
    message = refusal(folder)
    assert text in message
    assert message.startswith(f"{folder}: ")


def test_a_screenshot_of_another_series_is_dropped(write_series: Write, ramp: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_series(ramp)

    def screenshot(dataset: Dataset, index: int) -> None:
        dataset.SeriesInstanceUID = "1.2.3"
        dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "RGB", 3
        dataset.PixelData = dataset.PixelData * 3

    write_series(ramp[:1].astype(np.uint8), change=screenshot, file_name=lambda index: "screen")
    assert read_volume(folder).array.shape == (5, 3, 4)
    assert "dropped 1 image(s) of other series: screen is a colour image (RGB)" in caplog.text


def test_damaged_files_are_all_named(write_series: Write, ramp: np.ndarray) -> None:
    folder = write_series(ramp)
    for name in ("003", "017"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-10])
    with pytest.raises(DataError) as error:
        read_volume(folder)
    assert len(error.value.problems) == 2
    assert "017: the DICOM file is truncated (14 of 24 bytes of voxels)" in str(error.value)


def test_a_truncation_shows_in_the_header_check(write_series: Write) -> None:
    folder = write_series(np.zeros((4, 64, 64), np.int16))
    (folder / "003").write_bytes((folder / "003").read_bytes()[:2000])
    with pytest.raises(DataError, match=r"003: the DICOM file is truncated \(1156 of 8192 bytes"):
        read_header(folder)


def test_a_folder_without_images(tmp_path: Path) -> None:
    assert f"{tmp_path}: holds no DICOM image (the folder is empty)" in refusal(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    assert "holds no DICOM image (1 not DICOM)" in refusal(tmp_path)
    (tmp_path / "10693717").mkdir()
    assert "It has 1 subfolders; name the folder of one series." in refusal(tmp_path)


def test_a_constant_series(write_series: Write) -> None:
    with pytest.raises(DataError, match="every voxel has the value 7; there is no image in it"):
        read_volume(write_series(np.full((4, 4, 4), 7, np.int16)))
