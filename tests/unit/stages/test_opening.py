"""Which cases a run opens, and what it finds out from their headers."""

from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from fuse_examples.imaging.oai_example.configuration.blocks import SeriesSettings
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.stages.opening import open_cases


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Five cases: folds a, a, a, b, c; their spacing grows; the axes of the files run to the posterior, inferior and right."""
    rows = ["PatientID,img_path,seg_path,fold"]
    for number, fold in enumerate("aaabc"):
        affine = np.array([[0, 0, 1.0 + number, 0], [-0.5, 0, 0, 0], [0, -2.0, 0, 0], [0, 0, 0, 1]])
        for what in ("image", "mask"):
            nibabel.save(nibabel.Nifti1Image(np.full((3, 4, 5), number, np.uint8), affine), tmp_path / f"{what}{number}.nii")
        rows.append(f"P{number},image{number}.nii,mask{number}.nii,{fold}")
    path = tmp_path / "cases.csv"
    path.write_text("\n".join(rows))
    return path


def config(csv_path: Path, **changes: object):
    values = {"train_folds": ("a",), "val_folds": ("b",), "test_folds": ("c",), "test_ckpt": None, "allow_patient_overlap": False}
    values |= {"series": SeriesSettings(), "tolerate_uneven_spacing": False, "channels": None, "augment_on": "auto"}
    return SimpleNamespace(csv_path=csv_path, **values | changes)


def names(cases) -> list[str]:
    return [case.patient for case in cases]


def test_training_opens_training_and_validation_cases_and_names_those_of_the_test(table: Path) -> None:
    (table.parent / "image4.nii").unlink()  # a training run does not look at test scans
    opened = open_cases(config(table), masks=True)
    assert (names(opened.train), names(opened.evaluation), names(opened.test)) == (["P0", "P1", "P2"], ["P3"], ["P4"])
    assert set(opened.headers) == {case.name for case in (*opened.train, *opened.evaluation)}
    assert all(header.mask is not None for header in opened.headers.values())


def test_a_test_opens_the_cases_of_the_test_folds_alone(table: Path) -> None:
    (table.parent / "image0.nii").unlink()
    opened = open_cases(config(table, test_ckpt=Path("some.ckpt"), train_folds=("x",), val_folds=("y",)), masks=True)
    assert (names(opened.train), names(opened.evaluation)) == ([], ["P4"])
    assert set(opened.headers) == {opened.evaluation[0].name}


def test_files_that_are_not_there_are_all_named(table: Path) -> None:
    (table.parent / "image0.nii").unlink()
    (table.parent / "mask3.nii").unlink()
    with pytest.raises(DataError) as error:
        open_cases(config(table), masks=True)
    assert [problem.split(": ")[:2] for problem in error.value.problems[:2]] == [[f"{table}:2", "patient P0"], [f"{table}:5", "patient P3"]]


def test_masks_that_lie_elsewhere_are_an_error_unless_they_take_the_images_place(table: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4)), table.parent / "mask1.nii")
    with pytest.raises(DataError, match=r"cases.csv:3: patient P1: mask .*mask1.nii"):
        open_cases(config(table), masks=True)
    assert len(open_cases(config(table), masks=True, mask_affine="from_image").train) == 3


def test_the_median_spacing_is_that_of_the_training_cases_in_the_networks_axis_order(table: Path) -> None:
    opened = open_cases(config(table), masks=True)
    assert opened.median_spacing("RAS") == (2.0, 0.5, 2.0)  # right: 1, 2, 3 mm
    assert opened.median_spacing("SLP") == (2.0, 2.0, 0.5)
    assert all(type(value) is float for value in opened.median_spacing("RAS"))  # it travels in checkpoints
