"""DICOM-SEG objects of series as scanners write them: real ones of four vendors, and made ones with the tags that scanners fill in."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import predicting
import pydicom
import pytest
from nibabel.affines import apply_affine
from pydicom.dataset import Dataset
from series_files import series_in
from test_dicom_seg import CHECKER, LPS_TO_RAS, SEGMENTER

from fuse_examples.imaging.oai_example.data.dicom import slice_files
from fuse_examples.imaging.oai_example.data.scans import read_header
from fuse_examples.imaging.oai_example.evaluation.dicom_seg import write_dicom_seg

VENDORS = ("ge", "hitachi", "philips", "siemens")
SHAPE = (7, 6, 9)


def checked(path: Path) -> list[str]:
    """The validator's errors."""
    done = subprocess.run([str(CHECKER), str(path)], capture_output=True, text=True, timeout=600)
    assert "Segmentation" in done.stdout + done.stderr  # it did recognise the object
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


@pytest.fixture(params=VENDORS)
def real_series(request: pytest.FixtureRequest, real_data: Path, tmp_path: Path) -> Path:
    """A vendor's series with the frame of reference that its anonymisation took away."""
    source, folder = real_data / "dicom" / f"vendor_{request.param}", tmp_path / request.param
    folder.mkdir()
    for path in source.iterdir():
        dataset = pydicom.dcmread(path)
        assert "FrameOfReferenceUID" not in dataset
        dataset.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.3"
        dataset.save_as(folder / path.name)
    return folder


@pytest.mark.real_data
def test_masks_of_real_series_lie_where_their_voxels_lie(real_series: Path, tmp_path: Path) -> None:
    header = read_header(real_series)
    labels = np.zeros(header.source.shape, np.uint8)  # (columns, rows, slices)
    columns, rows, slices = (size // 2 for size in labels.shape)
    labels[5:columns, 3:rows, :slices] = 1
    labels[columns:, rows : rows + 4, 1:] = 2
    path = tmp_path / "seg.dcm"
    write_dicom_seg(path, labels, header.source, slice_files(real_series), SEGMENTER)
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True, allow_missing_positions=True)
    for label in (1, 2):
        there = apply_affine(LPS_TO_RAS @ volume.affine, np.argwhere(volume.array == label))
        here = apply_affine(header.source.affine, np.argwhere(labels == label))
        assert len(there) == len(here) > 0
        assert there.mean(axis=0) == pytest.approx(here.mean(axis=0), abs=1e-3)  # mm
        assert np.ptp(there, axis=0) == pytest.approx(np.ptp(here, axis=0), abs=1e-3)
    sources = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, real_series.iterdir())}
    (referenced,) = pydicom.dcmread(path).ReferencedSeriesSequence
    assert {one.ReferencedSOPInstanceUID for one in referenced.ReferencedInstanceSequence} == set(sources)
    if CHECKER is not None:
        of_the_source = ("(0x0010,0x1010)", "Dicom dataset contains invalid data values")  # PatientAge is "0Y" since the anonymisation
        assert [line for line in checked(path) if not any(words in line for words in of_the_source)] == []


def scanner(dataset: Dataset, index: int) -> None:
    """What a scanner's export holds besides."""
    predicting.in_a_study(dataset, index)
    dataset.StudyID, dataset.StudyTime, dataset.AccessionNumber, dataset.SeriesNumber = "7", "101112.123456", "A1", 12
    dataset.SeriesDate, dataset.SeriesTime = dataset.ContentDate, dataset.ContentTime = "20260102", "101502"
    dataset.Manufacturer, dataset.ManufacturerModelName, dataset.DeviceSerialNumber = "SIEMENS", "Prisma", "12345"
    dataset.PatientBirthDate, dataset.PatientAge, dataset.PatientWeight, dataset.OtherPatientIDs = "19600101", "066Y", "80.5", "X1"
    dataset.ReferringPhysicianName, dataset.StudyDescription, dataset.InstitutionName = "Doe^J", "MR Knie re.", "X"
    dataset.BodyPartExamined, dataset.Laterality, dataset.PatientPosition = "KNEE", "R", "FFS"
    dataset.SliceThickness, dataset.SpacingBetweenSlices, dataset.SliceLocation = "1.8", "2.0", f"{2.0 * index}"
    dataset.WindowCenter, dataset.WindowWidth, dataset.RescaleSlope, dataset.RescaleIntercept = "400", "900", "1", "0"
    dataset.private_block(0x0051, "SIEMENS MR HEADER", create=True).add_new(0x0F, "LO", "C:HEA")
    knee = Dataset()
    knee.CodeValue, knee.CodingSchemeDesignator, knee.CodeMeaning = "72696002", "SCT", "Knee"
    dataset.AnatomicRegionSequence = [knee]


def computed_tomography(dataset: Dataset, index: int) -> None:
    dataset.SOPClassUID, dataset.Modality = pydicom.uid.CTImageStorage, "CT"


def unnumbered(dataset: Dataset, index: int) -> None:
    dataset.SeriesNumber = dataset.InstanceNumber = ""


def negative_numbers(dataset: Dataset, index: int) -> None:
    dataset.SeriesNumber, dataset.InstanceNumber = -5, -index


def japanese(dataset: Dataset, index: int) -> None:
    dataset.SpecificCharacterSet, dataset.PatientName = ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"


def long_description(dataset: Dataset, index: int) -> None:
    dataset.SeriesDescription = "x" * 64


def uneven_in_the_last_digits(dataset: Dataset, index: int) -> None:
    dataset.ImagePositionPatient = [round(10 + 2.0 * index + 1e-4 * (index % 3), 6), -20.0, 30.0]


KINDS = (computed_tomography, unnumbered, negative_numbers, japanese, long_description, uneven_in_the_last_digits)


@pytest.mark.skipif(CHECKER is None, reason="needs dciodvfy, of Debian's package dicom3tools")
@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
def test_the_validator_finds_no_error_with_a_scanners_tags(kind: Callable[[Dataset, int], None], tmp_path: Path) -> None:
    def both(dataset: Dataset, index: int) -> None:
        scanner(dataset, index)
        kind(dataset, index)

    folder = series_in(tmp_path / "series", np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), change=both)
    labels = np.zeros(SHAPE[::-1], np.uint8)
    labels[2:4, 1:5, 1:4], labels[3:8, 4, 2:6] = 1, 2
    path = tmp_path / "seg.dcm"
    write_dicom_seg(path, labels, read_header(folder).source, slice_files(folder), SEGMENTER)
    assert checked(path) == []
    seg, source = pydicom.dcmread(path), pydicom.dcmread(slice_files(folder)[0][0])
    assert (str(seg.PatientName), seg.PatientBirthDate, seg.AccessionNumber) == (str(source.PatientName), "19600101", "A1")
    assert seg.pixel_array.sum() == (labels > 0).sum()


@pytest.mark.skipif(CHECKER is None, reason="needs dciodvfy, of Debian's package dicom3tools")
def test_the_validator_finds_no_error_where_a_duplicate_was_dropped(tmp_path: Path) -> None:
    folder = series_in(tmp_path / "series", np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), change=scanner)
    kept = slice_files(folder)
    shutil.copy(kept[2][0], folder / "copy")  # the same object under another name
    assert len(slice_files(folder)) == SHAPE[0]
    path = tmp_path / "seg.dcm"
    write_dicom_seg(path, np.ones(SHAPE[::-1], np.uint8), read_header(folder).source, slice_files(folder), SEGMENTER)
    assert checked(path) == []
    assert len(pydicom.dcmread(path).ReferencedSeriesSequence[0].ReferencedInstanceSequence) == SHAPE[0]
