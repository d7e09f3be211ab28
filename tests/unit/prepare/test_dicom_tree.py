"""DICOM trees of every disorder: clean folders, series mixed in one, series spread over many, copies, scouts, damaged files."""

import csv
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from fuse_examples.imaging.oai_example.data.cases import read_cases
from fuse_examples.imaging.oai_example.data.header_check import check_headers
from fuse_examples.imaging.oai_example.data.scans import read_volume
from fuse_examples.imaging.oai_example.prepare import dicom

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from series_files import AXIAL, series_in

UID = "1.2.826.0.1.3680043.8.498.1"


def named(patient: str, number: int, description: str, *, date: str = "20040909", **more: object) -> Callable[[Dataset, int], None]:
    def change(dataset: Dataset, index: int) -> None:
        dataset.PatientID, dataset.SeriesDescription, dataset.SeriesNumber = patient, description, str(number)
        dataset.SeriesInstanceUID = f"{UID}.{int(patient)}.{number}"
        dataset.StudyDate, dataset.StudyDescription = date, "OAI^MR^ENROLLMENT"
        for name, value in more.items():
            setattr(dataset, name, value)

    return change


def voxels(seed: int, slices: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 999, (slices, 6, 4)).astype(np.int16)


def run(root: Path, output: Path, *words: str, folds: int = 2) -> tuple[int, list[dict[str, str]], list[dict[str, str]]]:
    code = dicom.main([str(root), "--output", str(output), "--folds", str(folds), *words])
    tables = []
    for path in (output, output.with_name(f"{output.stem}_left_out.csv")):
        tables.append(list(csv.DictReader(path.open(newline=""))) if path.exists() else [])
    return code, tables[0], tables[1]


def accepted(output: Path) -> dict[str, np.ndarray]:
    """The voxels by path of a table that the stages take."""
    cases = read_cases(output, masks=False)
    check_headers(cases, csv_path=output)
    return {str(case.image): read_volume(case.image).array for case in cases}


def test_clean_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "tree"
    for patient in ("0001", "0002", "0003"):
        for number, side in ((1, "LEFT"), (2, "RIGHT")):
            series_in(root / patient / f"{number}", voxels(int(patient) + number), change=named(patient, number, f"SAG_3D_DESS_{side}"))
    (root / "0001" / "1" / "Thumbs.db").write_bytes(b"nothing")
    (root / "notes.txt").write_text("nothing")
    code, rows, left = run(root, tmp_path / "cases.csv")
    assert (code, left) == (0, [])
    assert rows[0] == {
        "PatientID": "0001", "path": "tree/0001/1", "fold": rows[0]["fold"], "date": "20040909", "side": "LEFT",
        "description": "SAG_3D_DESS_LEFT", "echo": "", "study": "OAI^MR^ENROLLMENT", "series_number": "1", "modality": "MR",
        "accession": "", "slices": "5", "rows": "6", "columns": "4", "spacing_mm": "2 x 0.5 x 0.75",
    }  # fmt: skip
    assert len(accepted(tmp_path / "cases.csv")) == 6
    assert all(len({row["fold"] for row in rows if row["PatientID"] == patient}) == 1 for patient in ("0001", "0002", "0003"))
    assert "SAG_3D_DESS_LEFT          3         3     3      0" in capsys.readouterr().out
    code, rows, _ = run(root, tmp_path / "left.csv", "--description", "sag*left", "nothing")
    assert [row["side"] for row in rows] == ["LEFT"] * 3
    assert run(root, tmp_path / "left.csv")[0] == 2
    assert f"{tmp_path / 'left.csv'}: exists already." in capsys.readouterr().err


def name(ending: str) -> Callable[[int], str]:
    return lambda index: f"{index:02d}{ending}"


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two patients; all series of the first in one folder, file names interleaved; the second's slices in a folder each."""
    root = tmp_path / "tree"
    series_in(root / "all", voxels(1), change=named("0001", 1, "SAG_3D_DESS_LEFT"), file_name=name("a"))
    series_in(root / "all", voxels(2), change=named("0001", 2, "SAG_3D_DESS_RIGHT"), file_name=name("b"))
    for echo in (1, 2):
        more = {"EchoNumbers": str(echo), "EchoTime": str(10 * echo)}
        series_in(root / "all", voxels(2 + echo), change=named("0001", 3, "SAG_T2_MAP_LEFT", **more), file_name=name(f"e{echo}"))
    series_in(root / "all", voxels(9, 2), directions=AXIAL, change=named("0001", 4, "MP_LOCATOR_LEFT"), file_name=name("s"))
    series_in(tmp_path / "whole", voxels(7), change=named("0002", 1, "SAG_3D_DESS_LEFT"))
    for number, file in enumerate(sorted((tmp_path / "whole").iterdir())):
        (root / "spread" / str(number)).mkdir(parents=True)
        shutil.move(file, root / "spread" / str(number) / "IM0001")
    return root


def test_mixed_folders_are_refused_with_their_contents(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, rows, _ = run(mixed, tmp_path / "cases.csv")
    error = capsys.readouterr().err
    assert (code, rows) == (2, [])
    assert (
        f'{mixed / "all"}: holds "SAG_3D_DESS_LEFT" (5 slices); "SAG_3D_DESS_RIGHT" (5 slices); '
        '"SAG_T2_MAP_LEFT", echo 1 (5 slices); "SAG_T2_MAP_LEFT", echo 2 (5 slices).'
    ) in error
    assert f'{mixed / "spread" / "0"}: holds "SAG_3D_DESS_LEFT" (1 slices, spread over 5 folders).' in error
    assert "Pass --link DIR (links to the files) or --copy DIR" in error


@pytest.mark.parametrize("how", ["--link", "--copy"])
def test_mixed_folders_are_laid_out(mixed: Path, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, rows, left = run(mixed, tmp_path / "cases.csv", how, str(tmp_path / "own"))
    assert code == 0, capsys.readouterr().err
    assert [(row["PatientID"], row["description"], row["echo"]) for row in rows] == [
        ("0001", "SAG_3D_DESS_LEFT", ""),
        ("0001", "SAG_3D_DESS_RIGHT", ""),
        ("0001", "SAG_T2_MAP_LEFT", "1"),
        ("0001", "SAG_T2_MAP_LEFT", "2"),
        ("0002", "SAG_3D_DESS_LEFT", ""),
    ]
    assert rows[2]["path"].startswith("own/0001/20040909/3_SAG_T2_MAP_LEFT_echo_1_")
    assert [(entry["description"], entry["reason"]) for entry in left] == [("MP_LOCATOR_LEFT", "has 2 slices; a volume needs 3")]
    arrays = accepted(tmp_path / "cases.csv")
    for row, seed in zip(rows, (1, 2, 3, 4, 7), strict=True):
        # a sagittal stack of these files runs to the right; rows downwards, columns to the back
        np.testing.assert_array_equal(arrays[str(tmp_path / row["path"])], voxels(seed)[:, ::-1, ::-1].transpose(0, 2, 1))
    assert all(file.is_symlink() == (how == "--link") for file in (tmp_path / rows[0]["path"]).iterdir())
    assert run(mixed, tmp_path / "cases2.csv", how, str(tmp_path / "own"))[0] == 2
    assert "exists already. Name another folder for" in capsys.readouterr().err
    assert run(mixed, tmp_path / "cases2.csv", how, str(tmp_path / "own"), "--overwrite")[0] == 0
    assert not list((tmp_path / "own").rglob(".*"))


def test_a_description_may_avoid_the_layout(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    series_in(mixed / "clean1", voxels(1), change=named("0003", 1, "COR_T1"))
    series_in(mixed / "clean2", voxels(2), change=named("0004", 1, "COR_T1"))
    code, rows, _ = run(mixed, tmp_path / "cases.csv", "--description", "COR*")
    assert (code, [row["path"] for row in rows]) == (0, ["tree/clean1", "tree/clean2"])
    assert run(mixed, tmp_path / "x.csv", "--description", "FLAIR*")[0] == 2
    error = capsys.readouterr().err
    assert "no series description fits FLAIR*. Found:" in error
    assert "  2 x SAG_T2_MAP_LEFT" in error


def test_copies_broken_series_and_damaged_files_are_left_out_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "tree"
    for patient in ("0001", "0002"):
        series_in(root / patient, voxels(int(patient)), change=named(patient, 1, "DESS"))
    shutil.copytree(root / "0001", root / "copy_of_0001")
    series_in(root / "gap", voxels(3, 6), change=named("0003", 1, "DESS"), file_name=lambda index: f"{index:02d}")
    (root / "gap" / "03").unlink()
    series_in(root / "nameless", voxels(4), change=lambda dataset, index: dataset.__setattr__("PatientID", ""))
    series_in(root / "cut", voxels(5), change=named("0005", 1, "DESS"), file_name=lambda index: f"{index:02d}")
    cut = root / "cut" / "02"
    cut.write_bytes(cut.read_bytes()[:-10])
    code, rows, left = run(root, tmp_path / "cases.csv")
    assert (code, [row["path"] for row in rows]) == (0, ["tree/0001", "tree/0002"])
    reasons = {Path(entry["path"]).name: entry["reason"] for entry in left}
    assert reasons["copy_of_0001"] == f"holds the same images as {root / '0001'}"
    assert reasons["gap"].startswith("slices are missing: 1 between 02 and 04")
    assert reasons["nameless"] == "has no PatientID, so folds could not keep patients apart"
    assert "is truncated" in reasons["cut"]
    assert len(left) == 4
    assert "Left out: 4, with the reason for each in" in capsys.readouterr().out
    code, rows, left = run(root, tmp_path / "named.csv", "--patient", "^([^/]+)/")
    assert [row["PatientID"] for row in rows] == ["0001", "0002", "nameless"]


def test_a_series_with_an_image_that_reading_refuses_has_no_row(tmp_path: Path) -> None:
    root = tmp_path / "tree"

    def placeless(dataset: Dataset, index: int) -> None:
        named("0003", 1, "DESS")(dataset, index)
        if index == 4:  # at the end of a stack no gap tells of it
            del dataset.ImagePositionPatient

    def screenshot(dataset: Dataset, index: int) -> None:
        named("0002", 2, "DESS")(dataset, index)
        dataset.PhotometricInterpretation = "PALETTE COLOR"

    for patient in ("0001", "0002"):
        series_in(root / patient, voxels(int(patient)), change=named(patient, 1, "DESS"))
    series_in(root / "0002", voxels(5)[:1], change=screenshot, file_name=lambda index: "screen")  # of another series: no harm
    series_in(root / "placeless", voxels(3), change=placeless)
    code, rows, left = run(root, tmp_path / "cases.csv")
    assert (code, [row["path"] for row in rows]) == (0, ["tree/0001", "tree/0002"])
    assert len(accepted(tmp_path / "cases.csv")) == 2
    assert [Path(entry["path"]).name for entry in left] == ["0002", "placeless"]
    assert "031: has no usable ImagePositionPatient" in left[1]["reason"]


def test_mistakes(tmp_path: Path, mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(mixed, tmp_path / "a.csv", "--link", str(mixed / "own"))[0] == 2
    assert f"--link {mixed / 'own'}: lies inside {mixed} or around it." in capsys.readouterr().err
    assert run(mixed, tmp_path / "a.csv", "--link", str(tmp_path / "own"), folds=3)[0] == 2
    assert "2 patients cannot be spread over 3 folds." in capsys.readouterr().err
    assert not (tmp_path / "own").exists()
    assert run(tmp_path / "nowhere", tmp_path / "a.csv")[0] == 2
    assert "nowhere: is not a folder." in capsys.readouterr().err
    os.makedirs(tmp_path / "empty" / "sub")
    assert run(tmp_path / "empty", tmp_path / "a.csv")[0] == 2
    assert "empty: holds no DICOM images." in capsys.readouterr().err
    assert run(mixed, tmp_path / "a.csv", "--patient", "[a-z]+")[0] == 2
    assert "--patient [a-z]+: has no group in parentheses" in capsys.readouterr().err


@pytest.mark.real_data
def test_real_series(real_data: Path, tmp_path: Path) -> None:
    code, rows, left = run(real_data / "dicom", tmp_path / "cases.csv", "--link", str(tmp_path / "own"), folds=3)
    assert (code, len(rows)) == (0, 7)
    assert len(accepted(tmp_path / "cases.csv")) == 7
    assert [entry["reason"] for entry in left] == ["has no PatientID, so folds could not keep patients apart"] * 2
    code, rows, left = run(
        real_data / "dicom" / "knee_two_echoes", tmp_path / "knee.csv", "--copy", str(tmp_path / "two"), "--patient", "^(.)", folds=1
    )
    assert [row["echo"] for row in rows] == ["1", "2"]
    assert len(accepted(tmp_path / "knee.csv")) == 2
