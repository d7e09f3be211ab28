"""Real scans: DICOM against an independent converter's NIfTI, a folder that is two volumes, and a whole data set."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fuse_examples.imaging.oai_example.data.cases import read_cases
from fuse_examples.imaging.oai_example.data.header_check import check_headers, check_masks
from fuse_examples.imaging.oai_example.data.scans import read_header, read_volume
from fuse_examples.imaging.oai_example.data.splits import split_cases
from fuse_examples.imaging.oai_example.errors import DataError

pytestmark = pytest.mark.real_data


def test_every_dicom_folder_with_a_reference_equals_it(real_data: Path) -> None:
    references = sorted((real_data / "dicom").glob("*_reference.nii.gz"))
    assert len(references) >= 4
    for reference in references:
        folder = reference.with_name(reference.name.removesuffix("_reference.nii.gz"))
        dicom, nifti = read_volume(folder), read_volume(reference)
        assert np.array_equal(dicom.array, nifti.array), folder
        assert np.abs(dicom.affine - nifti.affine).max() < 1e-3, folder
        assert dicom.array.dtype == nifti.array.dtype, folder
        header = read_header(folder)
        assert header.source.oriented("RAS").shape == dicom.array.shape
        assert header.n_files == 4


def test_two_echoes_are_refused_with_a_listing(real_data: Path) -> None:
    for read in (read_volume, read_header):
        with pytest.raises(DataError) as error:
            read(real_data / "dicom" / "knee_two_echoes")
        assert "holds 2 volumes" in str(error.value)
        assert "echo 1, echo time 6.31 ms: 24 slices of 256 x 256" in str(error.value)
        assert "echo 2, echo time 12.62 ms: 24 slices of 256 x 256" in str(error.value)


def test_one_echo_of_the_knee_is_a_sagittal_volume(real_data: Path, tmp_path: Path) -> None:
    from pydicom import dcmread

    for file in (real_data / "dicom" / "knee_two_echoes").iterdir():
        if str(dcmread(file, stop_before_pixels=True).EchoNumbers) == "1":
            (tmp_path / file.name).symlink_to(file)
    volume = read_volume(tmp_path)
    assert volume.array.shape == (24, 256, 256)
    assert volume.spacing == pytest.approx((4, 0.625, 0.625), abs=1e-3)


def test_slices_are_ordered_by_position_and_not_by_file_name(real_data: Path) -> None:
    shapes = {1: (35, 51, 32), 2: (36, 48, 35), 3: (34, 50, 40)}
    for study, shape in shapes.items():
        volume = read_volume(real_data / "dicom" / f"hippocampus_study{study}")
        assert volume.array.shape == shape
        assert volume.array.dtype == np.int16
        # A brain is smooth from slice to slice; slices in the order of their names (1, 10, 11, 2, ...) are not.
        steps = np.abs(np.diff(volume.array.astype(float), axis=2)).mean(axis=(0, 1))
        assert steps.max() < 4 * np.median(steps)


def test_the_whole_hippocampus_set(real_data: Path) -> None:
    csv_path = real_data / "hippocampus" / "segmentation.csv"
    cases = read_cases(csv_path, masks=True)
    splits = split_cases(cases, [0, 1, 2], [3], [4.0], csv_path=csv_path)
    assert len(splits.train) + len(splits.val) + len(splits.test) == len(cases) == 191
    headers = check_headers(cases, csv_path=csv_path)
    assert Counter(header.image.dtype for header in headers.values()).keys() == {"float32", "uint8"}
    counts = check_masks(cases, 3, csv_path=csv_path)
    assert len(headers) == len(counts) == 191
    assert all((count > 0).all() and count.sum() == np.prod(headers[name].image.source.shape) for name, count in counts.items())
    with pytest.raises(DataError, match="holds the labels 0, 1, 2; with num_classes: 2 labels are 0 to 1"):
        check_masks(cases[:2], 2, csv_path=csv_path)


def test_the_adrenal_table(real_data: Path) -> None:
    csv_path = real_data / "adrenal" / "classification.csv"
    cases = read_cases(csv_path, masks=False, targets=["diagnosis"])
    splits = split_cases(cases, ["train"], ["val"], ["test"], csv_path=csv_path)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (824, 180, 282)
    assert {case.targets["diagnosis"] for case in cases} == {"normal", "hyperplasia"}
    volume = read_volume(cases[0].image)
    assert volume.array.shape == (64, 64, 64)
    assert volume.array.dtype == np.uint8
