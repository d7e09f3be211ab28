"""Enhanced multi-frame files: all slices in one file, their places in functional groups."""

from pathlib import Path

import numpy as np
import pytest
from enhanced_files import enhanced
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless
from series_files import CORONAL, series_in

from fuse_examples.imaging.oai_example.data.dicom import read_dicom
from fuse_examples.imaging.oai_example.data.reading import Reading, SeriesChoice
from fuse_examples.imaging.oai_example.data.scans import read_header, read_volume
from fuse_examples.imaging.oai_example.errors import DataError

ORDER = [3, 0, 4, 1, 2]


def test_one_file_is_the_series_it_was_made_of(tmp_path: Path, ramp: np.ndarray) -> None:
    expected = read_volume(series_in(tmp_path / "series", ramp))
    path = enhanced(tmp_path / "enhanced" / "file.dcm", ramp[ORDER], ORDER)
    for place in (path, path.parent):
        volume = read_volume(place)
        assert np.array_equal(volume.array, expected.array)
        assert np.allclose(volume.affine, expected.affine)
        header = read_header(place)
        assert header.n_files == 1
        assert header.source.shape == (3, 4, 5)


def test_each_frame_has_its_own_slope(tmp_path: Path, ramp: np.ndarray) -> None:
    slopes = [1.5, 2, 2.5, 3, 4]
    values, _ = read_dicom(enhanced(tmp_path / "file.dcm", ramp[ORDER], ORDER, slopes=slopes))
    expected = np.empty(ramp.shape)
    for number, place in enumerate(ORDER):
        expected[place] = ramp[place] * slopes[number]
    assert np.array_equal(values.transpose(2, 1, 0), expected)


def test_two_echoes_in_one_file(tmp_path: Path, ramp: np.ndarray) -> None:
    path = enhanced(tmp_path / "file.dcm", np.concatenate([ramp, ramp + 1]), [*range(5), *range(5)], echoes=[10.0] * 5 + [20.0] * 5)
    with pytest.raises(DataError) as error:
        read_volume(path)
    assert "echo time 20.00 ms: 5 slices of 3 x 4, for example file.dcm, frame 6" in str(error.value)


def test_a_frame_of_another_time_is_a_clash(tmp_path: Path, ramp: np.ndarray) -> None:
    path = enhanced(tmp_path / "file.dcm", np.concatenate([ramp, ramp + 1]), [*range(5), *range(5)])
    with pytest.raises(DataError, match=r"5 positions with different images, for example file\.dcm, frame 1 and file\.dcm, frame 6"):
        read_header(path)


def test_a_frame_without_its_groups_is_named(tmp_path: Path, ramp: np.ndarray) -> None:
    path = enhanced(tmp_path / "file.dcm", ramp[ORDER], ORDER)
    dataset = dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence
    dataset.save_as(path)
    with pytest.raises(DataError, match=r"file\.dcm has no usable ImagePositionPatient"):
        read_volume(path)


def test_an_echo_of_a_multi_frame_file_is_chosen_by_its_time(tmp_path: Path, ramp: np.ndarray) -> None:
    values = np.concatenate([ramp, ramp + 100])
    path = enhanced(tmp_path / "file.dcm", values, [*range(5), *range(5)], echoes=[20.0] * 5 + [10.0] * 5)
    for echo, smallest in ((1, 200), (2, 100)):
        assert read_volume(path, Reading(SeriesChoice(echo=echo))).array.min() == smallest


def test_stacks_of_one_file_are_volumes_of_their_own(tmp_path: Path, ramp: np.ndarray) -> None:
    def stack(number: int) -> dict[str, str]:
        return {"StackID": "1" if number < 5 else "2"}

    # The second stack continues where the first ends: only its name tells them apart.
    path = enhanced(tmp_path / "file.dcm", np.concatenate([ramp, ramp[:4] + 100]), list(range(9)), content=stack)
    with pytest.raises(DataError) as error:
        read_header(path)
    assert "holds 2 volumes" in str(error.value)
    assert "stack 1: 5 slices of 3 x 4, for example file.dcm, frame 1" in str(error.value)
    assert "stack 2: 4 slices of 3 x 4, for example file.dcm, frame 6" in str(error.value)
    assert read_volume(path, Reading(SeriesChoice(largest=True))).array.shape == (5, 3, 4)


def test_stacks_of_other_orientations_are_listed_by_plane(tmp_path: Path, ramp: np.ndarray) -> None:
    def turn(dataset: Dataset) -> None:
        for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence[5:]):
            item = Dataset()
            item.ImageOrientationPatient = [str(value) for direction in CORONAL for value in direction]
            frame.PlaneOrientationSequence = [item]
            frame.PlanePositionSequence[0].ImagePositionPatient = ["0", str(3 * number), "0"]

    path = enhanced(tmp_path / "file.dcm", np.concatenate([ramp, ramp + 100]), list(range(10)), change=turn)
    with pytest.raises(DataError) as error:
        read_volume(path)
    assert "sagittal: 5 slices of 3 x 4, for example file.dcm, frame 1" in str(error.value)
    assert "coronal: 5 slices of 3 x 4, for example file.dcm, frame 6" in str(error.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"TemporalPositionIndex": (1, 2)}, "(TemporalPositionIndex 1 and 2)"),
        ({"FrameAcquisitionNumber": (3, 4)}, "(FrameAcquisitionNumber 3 and 4)"),
    ],
)
def test_a_time_series_in_one_file_is_refused_by_name(
    tmp_path: Path, ramp: np.ndarray, content: dict[str, tuple[int, int]], named: str
) -> None:
    def of_frame(number: int) -> dict[str, int]:
        return {name: values[number // 5] for name, values in content.items()}

    path = enhanced(tmp_path / "file.dcm", np.concatenate([ramp, ramp + 1]), [*range(5), *range(5)], content=of_frame)
    with pytest.raises(DataError) as error:
        read_volume(path)
    assert "5 positions with different images" in str(error.value)
    assert named in str(error.value)
    assert "This is a time series or several acquisitions" in str(error.value)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda syntax: syntax.keyword)
def test_compressed_frames(tmp_path: Path, syntax: UID) -> None:
    values = (np.arange(5 * 33 * 34) % 4001).astype(np.int16).reshape(5, 33, 34)
    path = enhanced(tmp_path / "file.dcm", values[ORDER], ORDER)
    dataset = dcmread(path)
    dataset.compress(syntax)
    dataset.save_as(path)
    array, _ = read_dicom(path)
    assert np.array_equal(array.transpose(2, 1, 0), values)
