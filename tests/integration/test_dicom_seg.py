"""DICOM-SEG objects: where they lie, frame by frame and voxel by voxel, what they refer to, and which series get none."""

import csv
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ball_cases
import highdicom
import numpy as np
import predicting
import pydicom
import pytest
import small_stages
from enhanced_files import enhanced
from nibabel.affines import apply_affine
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from series_files import AXIAL, CORONAL, SAGITTAL, ras_affine, series_in

from fuse_examples.imaging.oai_example.configuration.structure_codes import DEFAULT, Code, StructureCode, read_structure_codes
from fuse_examples.imaging.oai_example.data.dicom import slice_files
from fuse_examples.imaging.oai_example.data.scans import read_header, read_mask, read_volume
from fuse_examples.imaging.oai_example.errors import ConfigError, DataError
from fuse_examples.imaging.oai_example.evaluation.dicom_seg import MAY_BE_EMPTY, Segmenter, _segment, write_dicom_seg
from fuse_examples.imaging.oai_example.evaluation.masks import write_mask
from fuse_examples.imaging.oai_example.geometry.volume import from_file_order
from fuse_examples.imaging.oai_example.prepare import check

TURN = np.deg2rad(25)
OBLIQUE = ((np.cos(TURN), np.sin(TURN), 0), (0, 0, -1))
PLANES = {"axial": AXIAL, "coronal": CORONAL, "sagittal": SAGITTAL, "oblique": OBLIQUE}
SHAPE = (7, 6, 9)  # slices, rows, columns
NAMES = ("femur", "femoral_cartilage", "meniscus")
SEGMENTER = Segmenter(NAMES, dict.fromkeys(NAMES, DEFAULT), "0123456789abcdef" * 4)
TWO = dict.fromkeys(("ball", "core"), DEFAULT)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
CHECKER = shutil.which("dciodvfy")


@pytest.fixture
def labels() -> np.ndarray:
    """(slices, rows, columns); the two structures are not symmetric in any direction, and the third is absent."""
    array = np.zeros(SHAPE, dtype=np.uint8)
    array[1:4, 1:5, 2:4] = 1
    array[2:6, 4, 3:8] = 2
    return array


def series(folder: Path, directions: Any = SAGITTAL, change: Callable[[Dataset, int], None] = lambda dataset, index: None) -> Path:
    """A series whose slices hold their own number."""

    def both(dataset: Dataset, index: int) -> None:
        predicting.in_a_study(dataset, index)
        change(dataset, index)

    values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    return series_in(folder, values, directions=directions, change=both)


def written(folder: Path, labels: np.ndarray, segmenter: Segmenter = SEGMENTER) -> Path:
    path = folder.with_name(f"{folder.name}.seg.dcm")
    write_dicom_seg(path, labels.T, read_header(folder).source, slice_files(folder), segmenter)
    return path


# ---- where it lies


@pytest.mark.parametrize("plane", PLANES)
def test_read_by_highdicom_each_voxel_lies_where_it_was_found(plane: str, labels: np.ndarray, tmp_path: Path) -> None:
    path = written(series(tmp_path / "series", PLANES[plane]), labels)
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True, allow_missing_positions=True)
    found = LPS_TO_RAS @ volume.affine  # of (slice, row, column)
    expected = ras_affine(PLANES[plane], (10, -20, 30), (0.5, 0.75), 2.0)  # of (column, row, slice)
    for label in (1, 2):
        there = apply_affine(found, np.argwhere(volume.array == label))
        here = apply_affine(expected, np.argwhere(label == labels.T))
        assert len(there) == len(here) == (labels == label).sum()
        distance = np.linalg.norm(there[:, None] - here[None], axis=-1)
        assert distance.min(axis=1).max() < 1e-3  # mm


@pytest.mark.parametrize("plane", PLANES)
def test_read_by_pydicom_each_frame_is_that_of_the_slice_it_refers_to(plane: str, labels: np.ndarray, tmp_path: Path) -> None:
    folder = series(tmp_path / "series", PLANES[plane])
    sources = {header.SOPInstanceUID: header for header in map(pydicom.dcmread, folder.iterdir())}
    seg = pydicom.dcmread(written(folder, labels))
    assert (seg.Rows, seg.Columns) == SHAPE[1:]
    (orientation,) = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    (measures,) = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert orientation.ImageOrientationPatient == next(iter(sources.values())).ImageOrientationPatient
    assert list(map(float, measures.PixelSpacing)) == [0.5, 0.75]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(2.0)
    seen = []
    for group, frame in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        label = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        (reference,) = group.DerivationImageSequence[0].SourceImageSequence
        source = sources[reference.ReferencedSOPInstanceUID]
        assert group.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient
        place = source.InstanceNumber - 1
        assert np.array_equal(frame, labels[place] == label)
        seen.append((label, place))
    occurring = [(label, place) for label in (1, 2) for place in range(SHAPE[0]) if (labels[place] == label).any()]
    assert seen == occurring  # segment by segment, and in each of them in the order of the series


def test_frames_follow_the_numbers_of_the_series_where_they_run_against_its_normal(labels: np.ndarray, tmp_path: Path) -> None:
    def backwards(dataset: Dataset, index: int) -> None:
        dataset.InstanceNumber = 100 - index

    folder = series(tmp_path / "series", change=backwards)
    numbers = {header.SOPInstanceUID: int(header.InstanceNumber) for header in map(pydicom.dcmread, folder.iterdir())}
    seg = pydicom.dcmread(written(folder, labels))
    found: dict[int, list[int]] = {1: [], 2: []}
    for group, frame in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        label = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        number = numbers[group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert np.array_equal(frame, labels[100 - number] == label)
        assert group.FrameContentSequence[0].DimensionIndexValues[0] == label
        found[label].append(number)
    assert found == {1: [97, 98, 99], 2: [95, 96, 97, 98]}
    places = [list(group.FrameContentSequence[0].DimensionIndexValues) for group in seg.PerFrameFunctionalGroupsSequence]
    assert places == sorted(places)  # the index that viewers sort by says the same


def test_it_refers_to_every_slice_of_the_series_and_carries_its_patient(labels: np.ndarray, tmp_path: Path) -> None:
    folder = series(tmp_path / "series")
    seg = pydicom.dcmread(written(folder, labels))
    (referenced,) = seg.ReferencedSeriesSequence
    sources = [pydicom.dcmread(path) for path, _ in slice_files(folder)]
    assert referenced.SeriesInstanceUID == sources[0].SeriesInstanceUID != seg.SeriesInstanceUID
    named = {one.ReferencedSOPInstanceUID for one in referenced.ReferencedInstanceSequence}
    assert named == {one.SOPInstanceUID for one in sources}
    for name in ("PatientID", "PatientName", "PatientSex", "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID"):
        assert seg[name].value == sources[0][name].value
    assert seg.PatientBirthDate == ""  # the series has none
    assert seg.SeriesDescription == "Segmentation SAG_3D_DESS_LEFT"


def test_segments_have_the_structures_names_codes_and_origin(labels: np.ndarray, tmp_path: Path) -> None:
    femur = StructureCode(Code("91723000", "SCT", "Anatomical Structure"), Code("71341001", "SCT", "Femur"))
    segmenter = Segmenter(NAMES, {**SEGMENTER.codes, "femur": femur}, SEGMENTER.digest)
    seg = highdicom.seg.segread(written(series(tmp_path / "series"), labels, segmenter))
    described = [seg.get_segment_description(number) for number in (1, 2, 3)]  # the third is absent
    assert [one.segment_label for one in described] == list(NAMES)
    assert described[0].segmented_property_type == codes.SCT.Femur
    assert described[0].segmented_property_category == codes.SCT.AnatomicalStructure
    assert {one.segmented_property_type for one in described[1:]} == {codes.SCT.Tissue}
    assert {one.segmented_property_category for one in described[1:]} == {codes.SCT.Tissue}
    identification = described[0].SegmentationAlgorithmIdentificationSequence[0]
    assert SEGMENTER.digest in identification.AlgorithmParameters
    assert {one.SegmentAlgorithmType for one in described} == {"AUTOMATIC"}


def test_where_nothing_was_found_all_frames_are_there_and_empty(tmp_path: Path) -> None:
    seg = pydicom.dcmread(written(series(tmp_path / "series"), np.zeros(SHAPE, dtype=np.uint8)))
    assert seg.NumberOfFrames == len(NAMES) * SHAPE[0]
    assert not seg.pixel_array.any()


# ---- series as they come


def test_duplicates_and_scouts_that_reading_drops_are_not_referred_to(labels: np.ndarray, tmp_path: Path) -> None:
    folder = series(tmp_path / "series")
    kept = slice_files(folder)
    copy = pydicom.dcmread(kept[2][0])
    copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    copy.save_as(folder / "zz_copy")
    scout = pydicom.dcmread(kept[0][0])
    scout.SOPInstanceUID = scout.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    scout.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    scout.save_as(folder / "zz_scout")
    assert slice_files(folder) == kept
    seg = pydicom.dcmread(written(folder, labels))
    named = {one.ReferencedSOPInstanceUID for one in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert named.isdisjoint({copy.SOPInstanceUID, scout.SOPInstanceUID})
    assert len(named) == SHAPE[0]


def test_an_orientation_that_differs_in_its_last_digit_is_the_same(labels: np.ndarray, tmp_path: Path) -> None:
    def shaken(dataset: Dataset, index: int) -> None:
        if index == 3:
            dataset.ImageOrientationPatient = ["0", "1", "0.00001", "0", "0", "-1"]

    assert pydicom.dcmread(written(series(tmp_path / "series", change=shaken), labels)).NumberOfFrames == 7


def test_names_in_any_script_are_carried(labels: np.ndarray, tmp_path: Path) -> None:
    def latin(dataset: Dataset, index: int) -> None:
        dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 100", "Müller^Jörg"

    seg = pydicom.dcmread(written(series(tmp_path / "series", change=latin), labels))
    assert seg.PatientName == "Müller^Jörg"


@pytest.mark.parametrize("name", ["FrameOfReferenceUID", "StudyInstanceUID"])
def test_a_series_without_what_must_be_referred_to_is_refused_by_name(name: str, labels: np.ndarray, tmp_path: Path) -> None:
    folder = series(tmp_path / "series", change=lambda dataset, index: delattr(dataset, name))
    first = slice_files(folder)[0][0]
    with pytest.raises(DataError) as error:
        written(folder, labels)
    assert str(error.value) == (
        f"{first}: has no {name}, to which a DICOM-SEG must refer. Its mask is there as NIfTI; --no-dicom-seg asks for no more. "
        "(7 files of the series in all)"
    )
    assert not folder.with_name("series.seg.dcm").exists()


def test_files_that_count_their_one_frame_are_slices_as_others_are(labels: np.ndarray, tmp_path: Path) -> None:
    def counted(dataset: Dataset, index: int) -> None:
        dataset.NumberOfFrames = 1

    plain = pydicom.dcmread(written(series(tmp_path / "plain"), labels))
    folder = series(tmp_path / "series", change=counted)
    sources = {header.SOPInstanceUID for header in map(pydicom.dcmread, folder.iterdir())}
    seg = pydicom.dcmread(written(folder, labels))
    assert np.array_equal(seg.pixel_array, plain.pixel_array)
    references = [group.DerivationImageSequence[0].SourceImageSequence[0] for group in seg.PerFrameFunctionalGroupsSequence]
    assert {one.ReferencedSOPInstanceUID for one in references} <= sources
    assert not any("ReferencedFrameNumber" in one for one in references)


@pytest.mark.parametrize("name", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_files_that_do_not_belong_together_are_refused_by_name(name: str, labels: np.ndarray, tmp_path: Path) -> None:
    folder = series(tmp_path / "series", change=lambda dataset, index: setattr(dataset, name, f"1.2.3.{index}"))
    with pytest.raises(DataError) as error:
        written(folder, labels)
    assert str(error.value) == (
        f"{folder}: its files differ in {name}, of which a DICOM-SEG can have one. "
        "Its mask is there as NIfTI; --no-dicom-seg asks for no more."
    )


def multi_frame(dataset: Dataset) -> None:
    predicting.in_a_study(dataset, 0)


def test_an_enhanced_file_is_referred_to_frame_by_frame(labels: np.ndarray, tmp_path: Path) -> None:
    order = [3, 0, 6, 1, 5, 2, 4]  # frame f lies at slice order[f]
    values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    file = enhanced(tmp_path / "series" / "all.dcm", values[order], order, change=multi_frame)
    seg = pydicom.dcmread(written(file.parent, labels))
    for group, frame in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        label = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        (reference,) = group.DerivationImageSequence[0].SourceImageSequence
        assert np.array_equal(frame, labels[order[reference.ReferencedFrameNumber - 1]] == label)
    assert seg.pixel_array.sum() == (labels > 0).sum()


def test_an_enhanced_file_that_holds_more_than_the_volume_is_refused_by_name(labels: np.ndarray, tmp_path: Path) -> None:
    values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    order = list(range(7))
    file = enhanced(tmp_path / "series" / "all.dcm", values[[*order, 2]], [*order, 2], change=multi_frame)  # a frame twice
    with pytest.raises(DataError, match="is a multi-frame file of 8 frames, of which 7 are the volume"):
        written(file.parent, labels)


# ---- a validator's word


@pytest.mark.skipif(CHECKER is None, reason="needs dciodvfy, of Debian's package dicom3tools")
@pytest.mark.parametrize("plane", [*PLANES, "nothing found", "enhanced"])
def test_the_validator_finds_no_error(plane: str, labels: np.ndarray, tmp_path: Path) -> None:
    if plane == "enhanced":
        values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
        folder = enhanced(tmp_path / "series" / "all.dcm", values, list(range(7)), change=multi_frame).parent
    else:
        folder = series(tmp_path / "series", PLANES.get(plane, AXIAL))
    path = written(folder, labels if plane != "nothing found" else np.zeros_like(labels))
    done = subprocess.run([str(CHECKER), str(path)], capture_output=True, text=True, timeout=600)
    assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []
    assert "Segmentation" in done.stdout + done.stderr  # it did recognise the object


# ---- codes


def test_codes_are_read_and_every_mistake_is_told(tmp_path: Path) -> None:
    path = tmp_path / "codes.yaml"
    path.write_text("femur:\n  type: [71341001, SCT, Femur]\nmeniscus:\n  category: [85756007, SCT, Tissue]\n  type: ['1', 99ME, disc]\n")
    found = read_structure_codes(path, NAMES)
    assert found == {
        "femur": StructureCode(Code("91723000", "SCT", "Anatomical Structure"), Code("71341001", "SCT", "Femur")),
        "femoral_cartilage": DEFAULT,
        "meniscus": StructureCode(Code("85756007", "SCT", "Tissue"), Code("1", "99ME", "disc")),
    }
    assert read_structure_codes(None, NAMES) == dict.fromkeys(NAMES, DEFAULT)
    wrong = "femr:\n  type: [1, SCT, Femur]\nfemur: bone\nmeniscus:\n  type: [1, SCT]\n"
    path.write_text(wrong + "femoral_cartilage:\n  type: [12345678901234567, SCT, x]\n")
    with pytest.raises(ConfigError) as error:
        read_structure_codes(path, NAMES)
    assert error.value.problems == (
        f"{path}:1: femr: is no structure of the checkpoint, which has femur, femoral_cartilage, meniscus; did you mean 'femur'?",
        f"{path}:3: femur: must have `type` and may have `category`, found 'bone'",
        f"{path}:5: meniscus.type: must be [value, scheme, meaning], such as [71341001, SCT, Femur]; found [1, 'SCT']",
        f"{path}:7: femoral_cartilage.type: the value '12345678901234567' has 17 characters; DICOM takes 16, and no backslash",
    )


# ---- as a mask to learn from


def labels_of(path: Path, image: Path) -> np.ndarray:
    return read_mask(path, affine_of=read_header(image).source).array


@pytest.mark.parametrize("plane", PLANES)
def test_a_mask_to_learn_from_has_the_labels_that_were_written(plane: str, labels: np.ndarray, tmp_path: Path) -> None:
    folder = series(tmp_path / "series", PLANES[plane])
    path = written(folder, labels)
    source = read_header(folder).source
    expected = from_file_order(labels.T, source.affine)
    found = read_mask(path, affine_of=source)
    assert np.array_equal(found.array, expected.array)
    assert np.allclose(found.affine, expected.affine)
    alone = tmp_path / "alone"
    alone.mkdir()
    path.rename(alone / "mask")
    assert np.array_equal(labels_of(alone, folder), expected.array)  # a folder with nothing else


def test_it_lies_on_the_nifti_of_its_series_too(labels: np.ndarray, tmp_path: Path) -> None:
    folder = series(tmp_path / "series", OBLIQUE)
    volume = read_volume(folder)
    nifti = ball_cases.save_nifti(tmp_path / "image.nii.gz", np.ascontiguousarray(volume.array), volume.affine, "PIL")
    path = written(folder, labels)
    assert np.array_equal(labels_of(path, nifti), labels_of(path, folder))


def test_a_label_map_is_read_and_what_has_no_labels_is_refused(labels: np.ndarray, tmp_path: Path) -> None:
    folder = series(tmp_path / "series")
    sources = [pydicom.dcmread(path) for path, _ in slice_files(folder)]
    for source in sources:
        source.SliceThickness = "2.0"
        for name in MAY_BE_EMPTY:
            setattr(source, name, source.get(name))

    def save(kind: str, pixels: np.ndarray, name: str) -> Path:
        segments = [_segment(1, SEGMENTER), _segment(2, SEGMENTER)]
        uids = {"series_instance_uid": pydicom.uid.generate_uid(), "sop_instance_uid": pydicom.uid.generate_uid()}
        maker = dict.fromkeys(("manufacturer", "manufacturer_model_name", "software_versions", "device_serial_number"), "1")
        made = highdicom.seg.Segmentation(sources, pixels, kind, segments, series_number=1, instance_number=1, **uids, **maker)
        made.save_as(tmp_path / name)
        return tmp_path / name

    found = labels_of(save("LABELMAP", labels, "map.dcm"), folder)
    assert np.array_equal(found, labels_of(save("BINARY", labels, "binary.dcm"), folder))
    with pytest.raises(DataError, match=r"shares\.dcm: is a DICOM-SEG of type FRACTIONAL, which holds shares and no labels"):
        labels_of(save("FRACTIONAL", np.stack([labels == 1, labels == 2], axis=-1).astype(float) / 2, "shares.dcm"), folder)
    both = np.stack([labels > 0, labels == 2], axis=-1).astype(np.uint8)
    count = (labels == 2).sum()
    with pytest.raises(DataError, match=rf"its segments overlap in {count} voxels, and a mask holds one label a voxel"):
        labels_of(save("BINARY", both, "both.dcm"), folder)


def test_a_mask_elsewhere_and_a_mask_as_an_image_are_refused(labels: np.ndarray, tmp_path: Path) -> None:
    path = written(series(tmp_path / "series"), labels)
    values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    shifted = series_in(tmp_path / "shifted", values, origin=(10, -20.3, 30))
    with pytest.raises(DataError, match=r"frame 1: lies elsewhere than its image: its voxels are not the image's \(0\.4 voxels off"):
        labels_of(path, shifted)
    coarse = series_in(tmp_path / "coarse", values, spacing=(1.0, 0.75))
    with pytest.raises(DataError, match="lies elsewhere than its image"):
        labels_of(path, coarse)
    small = series_in(tmp_path / "small", np.ascontiguousarray(values[:, :4]))
    with pytest.raises(DataError, match="voxels are outside it"):
        labels_of(path, small)
    with pytest.raises(DataError, match="can only be read together with its image"):
        read_mask(path)
    with pytest.raises(DataError, match="is a DICOM segmentation, a mask and no image"):
        read_volume(path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"series\.seg\.dcm: the DICOM"):
        labels_of(path, tmp_path / "series")


def test_a_run_learns_the_same_from_dicom_segs_as_from_niftis(tmp_path: Path) -> None:
    rows: dict[str, list[dict[str, object]]] = {"dicom": [], "nifti": []}
    for number in range(3):
        folder = predicting.write_series(tmp_path / f"scan{number}", number)
        _, mask = ball_cases.ball(number)
        stored = mask.transpose(0, 2, 1)[:, ::-1, ::-1]  # as write_series lays the image out
        seg = tmp_path / f"mask{number}.dcm"
        source = read_header(folder).source
        write_dicom_seg(seg, np.ascontiguousarray(stored).T, source, slice_files(folder), Segmenter(("ball", "core"), TWO, "0" * 64))
        write_mask(tmp_path / f"mask{number}.nii.gz", np.ascontiguousarray(stored).T, source)
        for kind, ending in (("dicom", "dcm"), ("nifti", "nii.gz")):
            rows[kind].append({"PatientID": number, "img_path": folder.name, "seg_path": f"mask{number}.{ending}", "fold": min(number, 1)})
    found = {}
    for kind, table in rows.items():
        path = small_stages.write_table(tmp_path / f"{kind}.csv", table)
        run = small_stages.run("segmentation", path, tmp_path / kind, num_classes=3, train_folds=[0], val_folds=[1], test_folds=[])
        found[kind] = small_stages.read_json(run / "val_metrics.json")["metrics"]
        assert check.main([str(path), "--full", "--output", str(tmp_path / f"{kind}_check")]) == 0
    assert found["dicom"] == found["nifti"]
    counts = [list(csv.DictReader((tmp_path / f"{kind}_check" / "check.csv").open())) for kind in rows]
    assert [row["labels"] for row in counts[0]] == [row["labels"] for row in counts[1]]
