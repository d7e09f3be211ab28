"""The cases of a run in the store: in both splits what is usable, and a table of what was put aside."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest

from fuse_examples.imaging.oai_example.configuration.blocks import IntensitySettings, SeriesSettings, StoreSettings
from fuse_examples.imaging.oai_example.data.reading import Reading, SeriesChoice
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.stages.opening import OpenedCases, open_cases
from fuse_examples.imaging.oai_example.stages.resolution import reading_of, store_of
from fuse_examples.imaging.oai_example.stages.stored_cases import store_cases


def config(folder: Path, **changes: Any) -> Any:
    values: dict[str, Any] = {"csv_path": folder / "cases.csv", "results_dir": folder / "results", "store": StoreSettings()}
    values |= {"train_folds": ("0",), "val_folds": ("1",), "test_folds": (), "test_ckpt": None, "allow_patient_overlap": False}
    values |= {"orientation": "RAS", "intensity": IntensitySettings(), "on_bad_case": "skip"}
    return SimpleNamespace(
        **values | {"series": SeriesSettings(), "tolerate_uneven_spacing": False, "channels": None, "augment_on": "cpu"} | changes
    )


@pytest.fixture
def opened(tmp_path: Path) -> OpenedCases:
    """120 cases, of which the 20 of fold 1 are for validation; one of these has NaN."""
    rows = ["PatientID,path,fold"]
    for number in range(120):
        values = np.random.default_rng(number).normal(0, 1, (2, 3, 4)).astype(np.float32)
        if number == 110:
            values[0, 0, 0] = np.nan
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{number}.nii")
        rows.append(f"P{number},{number}.nii,{int(number >= 100)}")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    return open_cases(config(tmp_path), masks=False)


def test_what_is_put_aside_stands_in_a_table_and_in_the_notes(opened: OpenedCases, tmp_path: Path) -> None:
    stored = store_cases(config(tmp_path), opened, tmp_path / "run")
    assert [one.case.patient for one in stored.train] == [f"P{number}" for number in range(100)]
    assert [one.case.patient for one in stored.evaluation] == [f"P{number}" for number in range(100, 120) if number != 110]
    assert stored.notes == ("1 case put aside, see bad_cases.csv: P110",)
    with open(tmp_path / "run" / "bad_cases.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["row"], row["PatientID"], row["fold"], row["image"]) == ("112", "P110", "1", str(tmp_path / "110.nii"))
    assert row["mask"] == ""
    assert "1 of 24 voxels are NaN or infinite" in row["problem"]


def test_stopping_names_them_instead(opened: OpenedCases, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"112: patient P110: .*1 of 24 voxels"):
        store_cases(config(tmp_path, on_bad_case="stop"), opened, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_a_folder_nothing_is_written(opened: OpenedCases, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    assert len(store_cases(config(tmp_path), opened, None).evaluation) == 19
    assert set(tmp_path.iterdir()) == before | {tmp_path / "results"}


def test_a_case_that_stands_in_both_splits_is_stored_in_both(opened: OpenedCases, tmp_path: Path) -> None:
    both = OpenedCases(opened.train, opened.train[:3], (), opened.headers)
    stored = store_cases(config(tmp_path), both, None)
    assert (len(stored.train), len(stored.evaluation)) == (100, 3)


def test_the_configuration_says_how_the_store_reads(tmp_path: Path) -> None:
    series = SeriesSettings(description="SAG*", echo=2, largest=True)
    settings = config(tmp_path, series=series, tolerate_uneven_spacing=True)
    assert reading_of(settings) == store_of(settings).reading == Reading(SeriesChoice("SAG*", 2, True), True)
