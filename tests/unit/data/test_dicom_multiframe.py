"""Enhanced multi-frame files: all slices in one file, their places in functional groups."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage
from series_files import SAGITTAL, save, series_in, slice_dataset

from fuse_examples.imaging.oai_example.data.dicom import read_dicom
from fuse_examples.imaging.oai_example.data.scans import read_header, read_volume
from fuse_examples.imaging.oai_example.errors import DataError


def group(sequence: str, **values: object) -> tuple[str, list[Dataset]]:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return sequence, [item]


def enhanced(
    path: Path, values: np.ndarray, order: list[int], echoes: list[float] | None = None, slopes: list[float] | None = None
) -> Path:
    """Write (frames, rows, columns); frame f lies at slice `order[f]`, 2 mm apart, spacing 0.5 mm between rows and 0.75 between columns."""
    dataset = slice_dataset(values[0], (0, 0, 0), SAGITTAL, (0.5, 0.75))
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing, dataset.EchoTime
    dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.NumberOfFrames = len(values)
    dataset.PixelData = values.tobytes()
    shared = Dataset()
    setattr(shared, *group("PlaneOrientationSequence", ImageOrientationPatient=[str(v) for d in SAGITTAL for v in d]))
    setattr(shared, *group("PixelMeasuresSequence", PixelSpacing=["0.5", "0.75"]))
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for number, place in enumerate(order):
        position = np.array([10, -20, 30]) + 2.0 * place * np.cross(*SAGITTAL)
        frame = Dataset()
        setattr(frame, *group("PlanePositionSequence", ImagePositionPatient=[f"{v:.3f}" for v in position]))
        setattr(frame, *group("MREchoSequence", EffectiveEchoTime=echoes[number] if echoes else 4.71))
        slope = slopes[number] if slopes else 1
        setattr(frame, *group("PixelValueTransformationSequence", RescaleSlope=str(slope), RescaleIntercept="0"))
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    path.parent.mkdir(exist_ok=True)
    save(dataset, path)
    return path


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
