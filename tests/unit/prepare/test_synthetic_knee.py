"""The synthetic knees as their users meet them: files on disk, geometry, and what does and does not tell the cohorts apart."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fuse_examples.imaging.oai_example.errors import ConfigError, DataError
from fuse_examples.imaging.oai_example.prepare import synthetic_knee
from fuse_examples.imaging.oai_example.prepare.knee_phantom.cohort import plan_patients
from fuse_examples.imaging.oai_example.prepare.knee_phantom.measurements import mean_thickness_mm, volume_mm3
from fuse_examples.imaging.oai_example.prepare.knee_phantom.scanner import SCANNERS
from fuse_examples.imaging.oai_example.prepare.knee_phantom.shape import CONTROL, PROGRESSION
from fuse_examples.imaging.oai_example.prepare.synthetic_knee import knee_arrays, main, write_data_set

STRUCTURES = range(1, 7)
FEMORAL, LATERAL_TIBIAL, MEDIAL_TIBIAL, PATELLAR, LATERAL_MENISCUS, MEDIAL_MENISCUS = STRUCTURES


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@dataclass
class Series:
    """A DICOM folder, read without the code under test: values in (slice, row, column) order by position, affine to RAS mm."""

    values: np.ndarray
    affine: np.ndarray
    headers: list[Any]
    file_order: list[int]


def read_series(folder: Path) -> Series:
    files = sorted(folder.iterdir())
    headers = [pydicom.dcmread(file) for file in files]
    along_columns, along_rows = np.array(headers[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    normal = np.cross(along_columns, along_rows)
    positions = np.array([header.ImagePositionPatient for header in headers], dtype=float)
    order = np.argsort(positions @ normal)
    first, last = positions[order[0]], positions[order[-1]]
    row_spacing, column_spacing = (float(value) for value in headers[0].PixelSpacing)
    lps = np.eye(4)
    lps[:3] = np.c_[(last - first) / (len(files) - 1), along_rows * row_spacing, along_columns * column_spacing, first]
    slices = []
    for k in order:
        slope, intercept = getattr(headers[k], "RescaleSlope", 1), getattr(headers[k], "RescaleIntercept", 0)
        slices.append(headers[k].pixel_array * float(slope) + float(intercept))
    return Series(np.stack(slices), np.diag([-1, -1, 1, 1]) @ lps, headers, list(order))


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("knees") / "set"
    write_data_set(folder, patients=24, labelled=16, seed=5)
    return folder


@pytest.fixture(scope="module")
def all_series(data_set: Path) -> dict[str, Series]:
    return {row["path"]: read_series(data_set / row["path"]) for row in rows_of(data_set / "classification.csv")}


# --- the CSV files ---


def test_csv_files_have_the_columns_of_their_stages(data_set: Path) -> None:
    scans = ["PatientID", "path", "fold", "V00COHORT", "side", "visit"]
    assert list(rows_of(data_set / "self_supervised.csv")[0]) == scans
    assert list(rows_of(data_set / "classification.csv")[0]) == scans
    assert list(rows_of(data_set / "segmentation.csv")[0]) == ["PatientID", "img_path", "seg_path", "fold"]


def test_every_path_is_relative_and_exists(data_set: Path) -> None:
    for name, columns in (("self_supervised", ["path"]), ("classification", ["path"]), ("segmentation", ["img_path", "seg_path"])):
        for row in rows_of(data_set / f"{name}.csv"):
            for column in columns:
                assert not Path(row[column]).is_absolute()
                assert (data_set / row[column]).exists()


def test_a_patient_is_in_one_fold_and_in_the_same_in_every_file(data_set: Path) -> None:
    folds: dict[str, set[str]] = {}
    for name in ("self_supervised", "classification", "segmentation"):
        for row in rows_of(data_set / f"{name}.csv"):
            folds.setdefault(row["PatientID"], set()).add(row["fold"])
    assert len(folds) == 24
    assert all(len(of_patient) == 1 for of_patient in folds.values())
    assert set().union(*folds.values()) == {"0", "1", "2", "3", "4"}


def test_segmentation_has_one_row_per_labelled_patient_half_of_them_from_nifti(data_set: Path) -> None:
    rows = rows_of(data_set / "segmentation.csv")
    assert len(rows) == len({row["PatientID"] for row in rows}) == 16
    assert sum(row["img_path"].endswith(".nii.gz") for row in rows) == 8
    assert sum((data_set / row["img_path"]).is_dir() for row in rows) == 8


def test_cohort_belongs_to_the_patient_and_some_have_two_knees_or_two_visits(data_set: Path) -> None:
    patients: dict[str, list[dict[str, str]]] = {}
    for row in rows_of(data_set / "classification.csv"):
        patients.setdefault(row["PatientID"], []).append(row)
    cohorts = [{row["V00COHORT"] for row in rows} for rows in patients.values()]
    assert sorted(cohorts, key=str) == [{PROGRESSION}] * 12 + [{CONTROL}] * 12
    assert any({row["side"] for row in rows} == {"LEFT", "RIGHT"} for rows in patients.values())
    assert any({row["visit"] for row in rows} == {"V00", "V01"} for rows in patients.values())


def test_default_set_has_forty_patients_and_twenty_segmented_in_the_test_fold() -> None:
    planned = [patient for patient in plan_patients(0, 200, 100) if patient.series[0].fold == 4]
    assert len(planned) == 40
    assert sum(patient.labelled for patient in planned) == 20
    assert sum(patient.series[0].cohort == PROGRESSION for patient in planned) == 20


# --- the DICOM series ---


def test_series_are_sagittal_stacks_in_extensionless_files_out_of_order(all_series: dict[str, Series]) -> None:
    for path, series in all_series.items():
        depth = len(series.headers)
        names = sorted(Path(header.filename).name for header in series.headers)
        assert names == [f"{k:03d}" for k in range(1, depth + 1)]
        assert series.file_order not in (list(range(depth)), list(range(depth))[::-1]), path
        assert nib.aff2axcodes(series.affine) in (("R", "I", "P"), ("L", "I", "P"))
        assert 32 <= depth <= 40


def test_slices_are_evenly_spaced_and_numbered_along_the_normal(all_series: dict[str, Series]) -> None:
    for series in all_series.values():
        ordered = [series.headers[k] for k in series.file_order]
        positions = np.array([header.ImagePositionPatient for header in ordered], dtype=float)
        steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
        assert np.allclose(steps, float(ordered[0].SpacingBetweenSlices), atol=1e-4)
        numbers = np.diff([int(header.InstanceNumber) for header in ordered])
        assert np.all(numbers == 1) or np.all(numbers == -1)
        assert len({header.SOPInstanceUID for header in ordered}) == len(ordered)
        assert all(header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID for header in ordered)
        assert len({header.SeriesInstanceUID for header in ordered}) == 1


def test_tags_are_like_the_oai(data_set: Path, all_series: dict[str, Series]) -> None:
    for row in rows_of(data_set / "classification.csv"):
        header = all_series[row["path"]].headers[0]
        release, group, patient, date, number = row["path"].split("/")
        assert header.PatientID == patient == row["PatientID"]
        assert len(patient) == 7
        assert header.StudyDate == date
        assert header.AccessionNumber == "0166" + number
        assert header.SeriesDescription == f"SAG_3D_DESS_{row['side']}"
        period, folder = ("ENROLLMENT", "00m/0.E.1") if row["visit"] == "V00" else ("12 MONTH", "12m/1.E.1")
        assert header.StudyDescription == f"OAI^MR^{period}^{row['side']}"
        assert f"{release}/{group}" == folder
        assert float(header.MagneticFieldStrength) > 1
        assert float(header.EchoTime) > 4


def test_scanners_differ_in_sign_scaling_and_transfer_syntax(all_series: dict[str, Series]) -> None:
    headers = [series.headers[0] for series in all_series.values()]
    assert {header.ManufacturerModelName for header in headers} == {scanner.model for scanner in SCANNERS}
    assert {header.PixelRepresentation for header in headers} == {0, 1}
    assert {header.file_meta.TransferSyntaxUID.is_implicit_VR for header in headers} == {True, False}
    assert any("RescaleSlope" not in header for header in headers)
    assert any(len({float(header.get("RescaleSlope", 1)) for header in series.headers}) > 1 for series in all_series.values())
    assert any(series.values.min() < 700 and "RescaleIntercept" in series.headers[0] for series in all_series.values())


# --- one space for image and mask ---


def values_at(series: Series, index: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, float]:
    """The series' values where voxels `index` (n, 3) of another grid lie, and the largest distance from its voxel centres (mm)."""
    world = affine @ np.c_[index, np.ones(len(index))].T
    here = np.linalg.solve(series.affine, world)[:3]
    nearest = np.rint(here).astype(int)
    gap = series.affine[:3, :3] @ (here - nearest)
    return series.values[tuple(nearest)], float(np.linalg.norm(gap, axis=0).max())


def test_nifti_image_and_dicom_series_of_a_knee_agree_voxel_by_voxel(data_set: Path, all_series: dict[str, Series]) -> None:
    orders = set()
    for row in rows_of(data_set / "segmentation.csv"):
        if row["img_path"].endswith(".nii.gz"):
            (path,) = [p for p in all_series if f"/{row['PatientID']}/" in p and is_series_of(data_set, p, row["img_path"])]
            image = nib.load(data_set / row["img_path"])
            index = np.argwhere(np.ones(image.shape, dtype=bool))
            values, gap = values_at(all_series[path], index, image.affine)
            assert gap < 1e-3
            assert np.allclose(np.asarray(image.dataobj).ravel(), values, atol=1e-2, rtol=1e-6)
            orders.add("".join(nib.aff2axcodes(image.affine)))
    assert len(orders) == 4
    assert "PIR" in orders


def is_series_of(data_set: Path, path: str, image: str) -> bool:
    patient, visit, side, _ = Path(image).name.split("_")
    (row,) = [row for row in rows_of(data_set / "classification.csv") if row["path"] == path]
    return (row["PatientID"], row["visit"], row["side"]) == (patient, visit, side)


def test_mask_lies_on_its_images_grid_and_on_its_cartilage(data_set: Path, all_series: dict[str, Series]) -> None:
    for row in rows_of(data_set / "segmentation.csv"):
        mask = nib.load(data_set / row["seg_path"])
        labels = np.asarray(mask.dataobj)
        assert set(np.unique(labels)) == {0, *STRUCTURES}
        if row["img_path"].endswith(".nii.gz"):
            image = nib.load(data_set / row["img_path"])
            assert image.shape == mask.shape
            assert np.allclose(image.affine, mask.affine)
            series = Series(np.asarray(image.dataobj), image.affine, [], [])
        else:
            series = all_series[row["img_path"]]
            assert sorted(series.values.shape) == sorted(mask.shape)
        means = {k: values_at(series, np.argwhere(labels == k), mask.affine)[0].mean() for k in STRUCTURES}
        assert values_at(series, np.argwhere(labels > 0), mask.affine)[1] < 1e-3
        below = np.argwhere(np.isin(labels, (LATERAL_TIBIAL, MEDIAL_TIBIAL))) @ mask.affine[:3, :3].T + mask.affine[:3, 3] - (0, 0, 9)
        marrow, _ = values_at(series, below, np.eye(4))
        for cartilage in (FEMORAL, LATERAL_TIBIAL, MEDIAL_TIBIAL, PATELLAR):
            assert means[cartilage] > 2 * marrow.mean(), row
        for meniscus in (LATERAL_MENISCUS, MEDIAL_MENISCUS):
            assert means[meniscus] < 0.5 * means[FEMORAL], row


def centres_in_world(mask: np.ndarray, affine: np.ndarray) -> dict[int, np.ndarray]:
    return {k: affine[:3, :3] @ np.argwhere(mask == k).mean(0) + affine[:3, 3] for k in STRUCTURES}


@pytest.mark.parametrize("side", ["RIGHT", "LEFT"])
@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.model)
def test_structures_are_where_anatomy_has_them(scanner: Any, side: Any) -> None:
    knee = knee_arrays(3, side=side, scanner=scanner)
    right, anterior, superior = np.eye(3)
    lateral = right if side == "RIGHT" else -right
    centre = centres_in_world(knee.mask, knee.affine)
    assert (centre[LATERAL_TIBIAL] - centre[MEDIAL_TIBIAL]) @ lateral > 20
    assert (centre[LATERAL_MENISCUS] - centre[MEDIAL_MENISCUS]) @ lateral > 20
    assert (centre[PATELLAR] - centre[FEMORAL]) @ anterior > 15
    for tibial in (LATERAL_TIBIAL, MEDIAL_TIBIAL):
        assert (centre[FEMORAL] - centre[tibial]) @ superior > 3
    assert centre[FEMORAL] @ lateral > 30  # the right knee lies to the right of the body's midline


def test_medial_meniscus_is_the_longer_one_and_the_lateral_the_more_closed(knees: list[dict[str, Any]]) -> None:
    assert np.mean([row["meniscus_lengths"][1] > row["meniscus_lengths"][0] for row in knees]) > 0.95


def test_labelled_files_have_lateral_on_the_right_side(data_set: Path) -> None:
    for row in rows_of(data_set / "segmentation.csv"):
        mask = nib.load(data_set / row["seg_path"])
        centre = centres_in_world(np.asarray(mask.dataobj), mask.affine)
        sign = 1 if "RIGHT" in row["seg_path"] else -1
        assert sign * (centre[LATERAL_TIBIAL] - centre[MEDIAL_TIBIAL])[0] > 20


def test_second_visit_shows_the_same_knee_in_nearly_the_same_place() -> None:
    planned = [patient for patient in plan_patients(0, 40, 0) if {s.names.visit for s in patient.series} == {"V00", "V01"}]
    assert planned
    for patient in planned[:3]:
        first, second = patient.series[:2]
        assert first.shape == second.shape
        assert first.names.side == second.names.side
        assert first.names.date < second.names.date
        assert 0 < np.abs(np.subtract(first.pose.centre, second.pose.centre)).max() <= 3
        scans = [series.scan() for series in (first, second)]
        volumes = [volume_mm3(scan.mask, scan.affine) for scan in scans]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.03)
        assert not np.array_equal(scans[0].stored, scans[1].stored)


# --- what tells the cohorts apart ---


@pytest.fixture(scope="module")
def knees() -> list[dict[str, Any]]:
    """Measurements of every series of 120 patients, made as the data set's are."""
    return list(measured_knees(plan_patients(1, 120, 60)))


def measured_knees(planned: Any) -> Iterator[dict[str, Any]]:
    for patient in planned:
        for series in patient.series:
            scan = series.scan()
            faces = [np.take(scan.mask, end, axis) for axis in range(3) for end in (0, -1)]
            lengths = [np.ptp(np.argwhere(scan.mask == k)[:, 1]) for k in (LATERAL_MENISCUS, MEDIAL_MENISCUS)]
            yield {
                "patient": patient.patient,
                "fold": series.fold,
                "thin": series.cohort == PROGRESSION,
                "volume": volume_mm3(scan.mask, scan.affine),
                "foreground": np.count_nonzero(scan.mask),
                "intensity": float(scan.values().mean()),
                "left": series.names.side == "LEFT",
                "spacing": scan.scanner.spacing,
                "second_visit": series.names.visit == "V01",
                "thickness": mean_thickness_mm(scan.mask, scan.affine),
                "mask": scan.mask,
                "drawn": series.shape,
                "voxels": np.bincount(scan.mask.ravel(), minlength=7)[1:],
                "at_border": int(sum(np.count_nonzero(face) for face in faces)),
                "meniscus_lengths": lengths,
            }


def ridge_thickness(mask: np.ndarray, spacing: np.ndarray) -> float:
    """Another definition of thickness: twice the mean distance to the outside over the plates' ridge, the local maxima of that distance."""
    values = []
    for label in (FEMORAL, LATERAL_TIBIAL, MEDIAL_TIBIAL, PATELLAR):
        (box,) = ndimage.find_objects((mask == label).astype(np.uint8))
        inside = np.pad(mask[box] == label, 1)
        distance = ndimage.distance_transform_edt(inside, sampling=spacing)
        ridge = inside & (distance == ndimage.maximum_filter(distance, size=3))
        values.append(2 * distance[ridge].mean())
    return float(np.mean(values))


def confounders(knees: list[dict[str, Any]]) -> np.ndarray:
    return np.array([[row["volume"], row["intensity"], row["left"], *row["spacing"], row["second_visit"]] for row in knees], dtype=float)


def test_volume_intensity_side_spacing_and_visit_do_not_tell_the_cohort(knees: list[dict[str, Any]]) -> None:
    truth = np.array([row["thin"] for row in knees])
    patients = np.array([row["patient"] for row in knees])
    model = make_pipeline(StandardScaler(), LogisticRegression())
    by_patient = [StratifiedGroupKFold(5, shuffle=True, random_state=seed) for seed in range(3)]
    for split in (*by_patient, PredefinedSplit([row["fold"] for row in knees])):
        groups = None if isinstance(split, PredefinedSplit) else patients
        score = cross_val_predict(model, confounders(knees), truth, groups=groups, cv=split, method="decision_function")
        assert 0.35 <= roc_auc_score(truth, score) <= 0.65, split


def test_no_confounder_tells_the_cohort_in_any_fold(knees: list[dict[str, Any]]) -> None:
    for fold in range(5):
        rows = [row for row in knees if row["fold"] == fold]
        for name in ("volume", "intensity", "left", "foreground"):
            assert 0.33 <= roc_auc_score([row["thin"] for row in rows], [row[name] for row in rows]) <= 0.67, (fold, name)


def test_mean_cartilage_thickness_from_the_mask_tells_the_cohort(knees: list[dict[str, Any]]) -> None:
    assert roc_auc_score([not row["thin"] for row in knees], [row["thickness"] for row in knees]) >= 0.95


def test_thickness_by_another_definition_tells_it_too(knees: list[dict[str, Any]]) -> None:
    some = knees[::4]
    ridges = [ridge_thickness(row["mask"], np.array(row["spacing"])) for row in some]
    assert roc_auc_score([not row["thin"] for row in some], ridges) >= 0.95


def test_measured_thickness_is_the_drawn_one_but_for_the_rims(knees: list[dict[str, Any]]) -> None:
    drawn = [
        (row["drawn"].femoral_thickness * 4 + row["drawn"].lateral_tibial_thickness + row["drawn"].medial_tibial_thickness) / 6
        for row in knees
    ]
    ratio = np.array([row["thickness"] for row in knees]) / drawn
    assert 0.75 < ratio.min() < ratio.max() < 1.2


def test_cohorts_differ_by_a_voxel_in_thickness(knees: list[dict[str, Any]]) -> None:
    thick, thin = (np.mean([row["drawn"].femoral_thickness for row in knees if row["thin"] is thin]) for thin in (False, True))
    assert thick - thin > max(scanner.spacing[1] for scanner in SCANNERS) * 0.9


def test_every_structure_is_large_enough_and_inside_the_field_of_view(knees: list[dict[str, Any]]) -> None:
    assert np.min([row["voxels"] for row in knees]) >= 150
    assert np.mean([row["at_border"] > 0 for row in knees]) < 0.03


# --- seeds ---


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_same_seed_same_files_with_any_number_of_workers_other_seed_other_pixels(tmp_path: Path) -> None:
    for name, seed, workers in (("a", 7, 1), ("b", 7, 2), ("c", 8, 1)):
        write_data_set(tmp_path / name, patients=2, labelled=2, seed=seed, workers=workers)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    images = [{value for path, value in each.items() if path.endswith(".nii.gz") or "/" in path} for each in (a, c)]
    assert images[0].isdisjoint(images[1])


def test_knee_arrays_are_reproducible_and_their_facts_true() -> None:
    first, again, other = knee_arrays(1), knee_arrays(1), knee_arrays(2)
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)
    assert first.image.dtype == np.float32
    assert first.image.shape == first.mask.shape == SCANNERS[0].size
    assert nib.aff2axcodes(first.affine) == ("R", "A", "S")
    assert first.facts["voxels"][FEMORAL] == np.count_nonzero(first.mask == FEMORAL)
    assert first.facts["foreground_mm3"] == pytest.approx(np.count_nonzero(first.mask) * np.prod(SCANNERS[0].spacing))
    assert knee_arrays(1, cohort=CONTROL).facts["thickness_mm"] > first.facts["thickness_mm"] + 0.5


# --- the command ---


def test_an_existing_folder_is_refused_and_replaced_only_when_told(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_data_set(folder, patients=1, labelled=0, seed=1)
    before = contents(folder)
    with pytest.raises(DataError, match=r"set exists already\. Name another folder, or pass --overwrite"):
        write_data_set(folder, patients=1, labelled=0, seed=2)
    assert contents(folder) == before
    write_data_set(folder, patients=1, labelled=0, seed=2, overwrite=True)
    assert contents(folder).keys() != before.keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_overwrite_leaves_a_folder_of_someone_elses_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"holds no data_set\.json, so it was not written by this command"):
        write_data_set(tmp_path, patients=1, labelled=0, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_run_that_is_cut_off_leaves_no_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "set"

    def cut_off(*_: Any) -> None:
        assert not folder.exists()
        assert [path.name for path in tmp_path.iterdir()] == [".set.incomplete"]
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic_knee, "_write_csv", cut_off)
    with pytest.raises(KeyboardInterrupt):
        write_data_set(folder, patients=1, labelled=0)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".set.incomplete").mkdir()
    (tmp_path / ".set.incomplete" / "classification.csv").write_text("half a tab")
    write_data_set(tmp_path / "set", patients=1, labelled=0)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_an_empty_folder_is_accepted_and_the_set_describes_itself(tmp_path: Path) -> None:
    counts = write_data_set(tmp_path, patients=1, labelled=1, seed=4)
    described = json.loads((tmp_path / "data_set.json").read_text())
    assert described["seed"] == 4
    assert described["rows"] == counts
    assert described["labels"][FEMORAL] == "FemoralCartilage"
    assert counts["segmentation"] == len(rows_of(tmp_path / "segmentation.csv")) == 1
    knee = rows_of(tmp_path / "knees.csv")[0]
    mask = nib.load(tmp_path / rows_of(tmp_path / "segmentation.csv")[0]["seg_path"])
    assert float(knee["foreground_mm3"]) == pytest.approx(volume_mm3(np.asarray(mask.dataobj), mask.affine), abs=1)
    series = read_series(tmp_path / knee["path"])
    assert float(knee["mean_intensity"]) == pytest.approx(series.values.mean(), abs=0.01)


def test_mistaken_numbers_are_shown_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        write_data_set(tmp_path / "set", patients=0, labelled=3, seed=-1, workers=0)
    assert str(caught.value).splitlines() == [
        "--patients is 0; give a number between 1 and 100000.",
        "--labelled is 3; give a number between 0 and the number of patients, 0.",
        "--seed is -1; give a number that is not negative.",
        "--workers is 0; give 1 or more.",
    ]
    assert list(tmp_path.iterdir()) == []


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(tmp_path / "set"), "--patients", "1", "--labelled", "1", "--seed", "3", "--workers", "1"]
    assert main(words) == 0
    assert "segmentation.csv with 1 rows" in capsys.readouterr().out
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    assert "--labelled" in capsys.readouterr().out


def test_scanner_settings_stay_in_their_range() -> None:
    for scanner in SCANNERS:
        through, *in_plane = scanner.spacing
        assert 1.5 <= through <= 2.2
        assert all(1.05 <= value <= 1.4 for value in in_plane)
        assert all(64 <= value <= 80 for value in scanner.size[1:])
    assert replace(SCANNERS[0], noise=0.1) not in SCANNERS
