"""A table with everything that can be wrong with it, checked."""

import csv
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
from matplotlib.image import imread
from pydicom.dataset import Dataset

from fuse_examples.imaging.oai_example.data.cases import read_cases
from fuse_examples.imaging.oai_example.data.header_check import check_headers
from fuse_examples.imaging.oai_example.geometry.volume import from_file_order
from fuse_examples.imaging.oai_example.prepare import check
from fuse_examples.imaging.oai_example.prepare.checking.oddities import outlying
from fuse_examples.imaging.oai_example.prepare.checking.pictures import tile_of
from fuse_examples.imaging.oai_example.prepare.checking.table_check import CheckOptions, check_table
from fuse_examples.imaging.oai_example.prepare.sides import side_in

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from series_files import SAGITTAL, ras_affine, series_in

AFFINE = np.diag([2.0, 0.75, 0.5, 1.0])
SHAPE = (5, 8, 7)


def scan(
    path: Path,
    seed: int,
    *,
    affine: np.ndarray = AFFINE,
    shape: tuple[int, ...] = SHAPE,
    change: Callable[[np.ndarray], None] | None = None,
) -> str:
    values = np.random.default_rng(seed).integers(1, 999, shape).astype(np.float32)
    if change:
        change(values)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path.name


def mask(path: Path, labels: tuple[int, ...] = (0, 1, 2), affine: np.ndarray = AFFINE) -> str:
    values = np.resize(np.array(labels, np.uint8), SHAPE)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path.name


def table(folder: Path, rows: list[tuple[object, ...]], masks: bool = False) -> Path:
    header = ["PatientID", "img_path", "seg_path", "fold", "extra"] if masks else ["PatientID", "path", "fold", "extra"]
    with (folder / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *[(*row, f"extra {number}") for number, row in enumerate(rows)]])
    return folder / "cases.csv"


def run(source: Path, *words: str) -> tuple[int, list[dict[str, str]]]:
    output = source.parent / "out"
    code = check.main([str(source), "--output", str(output), *words])
    with (output / "check.csv").open(newline="") as file:
        return code, list(csv.DictReader(file))


def nan(values: np.ndarray) -> None:
    values[0, 0, 0] = np.nan


@pytest.fixture
def unscaled_pair(tmp_path: Path) -> tuple[str, str]:
    """A DICOM series and the NIfTI made of it, stored in another axis order."""
    values = np.random.default_rng(5).integers(0, 999, (5, 7, 8)).astype(np.int16)
    series_in(tmp_path / "series", values)
    stored = values.transpose(2, 1, 0)
    volume = from_file_order(stored, ras_affine(SAGITTAL, (10, -20, 30), (0.5, 0.75), 2.0)).oriented("LSA")
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(volume.array), volume.affine), tmp_path / "converted.nii.gz")
    return "series", "converted.nii.gz"


def test_a_good_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        (f"{number:03d}", scan(tmp_path / f"{number}_LEFT.nii.gz", number), mask(tmp_path / f"m{number}.nii.gz"), number % 2)
        for number in range(6)
    ]
    code, facts = run(table(tmp_path, rows, masks=True))
    shown = capsys.readouterr().out
    assert code == 0
    assert {key: text for key, text in facts[0].items() if key not in ("image", "mask")} == {
        "row": "2", "PatientID": "000", "fold": "0", "usable": "yes", "format": "NIfTI", "slices": "5", "plane": "sagittal",
        "matrix": "8 x 7", "spacing_mm": "2 x 0.75 x 0.5", "orientation": "RAS", "side": "LEFT", "type": "float32", "files": "1",
        "description": "", "labels": "0 1 2", "problems": "", "notes": "",
    }  # fmt: skip
    assert "Careful" not in shown
    assert "Worth a look" not in shown
    assert "    1      6     558" in shown
    assert imread(tmp_path / "out" / "contact_sheet.png").std() > 0.05
    assert check.main([str(tmp_path / "cases.csv"), "--output", str(tmp_path / "out")]) == 2
    assert f"{tmp_path / 'out' / 'check.csv'}: exists already." in capsys.readouterr().err


def test_rows_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shifted, alone = AFFINE.copy(), AFFINE.copy()
    shifted[0, 3], alone[0, 3] = 9, 5
    (tmp_path / "text.nii.gz").write_bytes(b"text")
    rows = [
        ("A", scan(tmp_path / "a.nii.gz", 1), mask(tmp_path / "am.nii.gz"), 0),
        ("B", "gone.nii.gz", "am.nii.gz", 0),
        ("C", "text.nii.gz", "am.nii.gz", 1),
        ("D", scan(tmp_path / "d.nii.gz", 2), mask(tmp_path / "dm.nii.gz", affine=shifted), 1),
        ("E", scan(tmp_path / "e.nii.gz", 3, affine=alone, change=nan), mask(tmp_path / "em.nii.gz", affine=alone), 2),
    ]
    source = table(tmp_path, rows, masks=True)
    code, facts = run(source, "--pictures", "0", "--write-usable", str(tmp_path / "deep" / "usable.csv"), "--full")
    error = capsys.readouterr().err
    assert code == 2
    assert [fact["usable"] for fact in facts] == ["yes", "no", "no", "no", "no"]
    assert f"{source}:3: patient B: image {tmp_path / 'gone.nii.gz'}: does not exist." in error
    assert f"{source}:5: patient D: mask {tmp_path / 'dm.nii.gz'}: lies elsewhere than its image" in error
    assert f"{source}:6: patient E: image {tmp_path / 'e.nii.gz'}: 1 of 280 voxels are NaN or infinite." in error
    assert "4 of 5 rows cannot be used." in error
    assert "Traceback" not in error
    usable = read_cases(tmp_path / "deep" / "usable.csv", masks=True)
    assert [case.patient for case in usable] == ["A"]
    check_headers(usable, csv_path=tmp_path / "deep" / "usable.csv")
    assert (tmp_path / "deep" / "usable.csv").read_text().splitlines()[1].endswith(",extra 0")
    code, facts = run(source, "--mask-affine", "from_image", "--pictures", "0", "--overwrite")
    assert [fact["usable"] for fact in facts] == ["yes", "no", "no", "yes", "yes"]  # E is only seen in full


def test_the_same_scan_twice_as_dicom_and_nifti(tmp_path: Path, unscaled_pair: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    series, converted = unscaled_pair
    rows = [("A", series, 0), ("B", converted, 1), ("C", scan(tmp_path / "c.nii.gz", 7), 0), ("D", scan(tmp_path / "d.nii.gz", 8), 0)]
    assert run(table(tmp_path, rows), "--pictures", "0")[0] == 0
    assert "rows 2 and 3 hold the same image (patients A, B; folds 0, 1)." in capsys.readouterr().out


def test_a_moved_copy_is_found_in_full_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = AFFINE.copy()
    moved[1, 3] = 30
    source = table(tmp_path, [("A", scan(tmp_path / "a.nii.gz", 1), 0), ("B", scan(tmp_path / "b.nii.gz", 1, affine=moved), 0)])
    run(source, "--pictures", "0")
    assert "hold the same image" not in capsys.readouterr().out
    run(source, "--pictures", "0", "--full", "--overwrite")
    assert "rows 2 and 3 hold the same image (patients A, B; fold 0)." in capsys.readouterr().out


def test_one_voxel_makes_another_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def one_off(values: np.ndarray) -> None:
        values[4, 7, 6] += 1

    run(table(tmp_path, [("A", scan(tmp_path / "a.nii.gz", 1), 0), ("B", scan(tmp_path / "b.nii.gz", 1, change=one_off), 0)]))
    assert "hold the same image" not in capsys.readouterr().out


def test_oddities_are_noted_and_shown_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(f"P{n}", scan(tmp_path / f"{n}.nii.gz", n), mask(tmp_path / f"m{n}.nii.gz"), n % 2) for n in range(8)]
    thick = np.diag([3.0, 0.75, 0.5, 1.0])
    rows[3] = ("P3", scan(tmp_path / "3.nii.gz", 3, affine=thick), mask(tmp_path / "m3.nii.gz", affine=thick), 1)
    rows[5] = ("P5", rows[5][1], mask(tmp_path / "m5.nii.gz", (0, 1, 7)), 1)
    rows[6] = ("P7", rows[6][1], mask(tmp_path / "m6.nii.gz", (0,)), 0)
    code, facts = run(table(tmp_path, rows, masks=True))
    shown = capsys.readouterr().out
    assert code == 0
    assert facts[3]["notes"] == "spacing of 3 mm left-right; the median is 2"
    assert "holds label 7, which 1 of 8 masks have" in facts[5]["notes"]
    assert facts[6]["notes"] == "its mask is empty"
    assert "Patient P7 is in fold 0 (row 8) and in fold 1 (row 9)." in shown
    assert [line.split()[0] for line in shown.splitlines()[1:5]] == ["5", "7", "8", "2"]


def test_what_readers_note_is_collected_and_not_printed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scout = np.random.default_rng(5).integers(0, 999, (5, 7, 8)).astype(np.int16)
    series_in(tmp_path / "series", scout)
    (tmp_path / "series" / "copy").write_bytes((tmp_path / "series" / "003").read_bytes())
    checked = check_table(table(tmp_path, [("A", "series", 0)]), CheckOptions())
    assert checked.cases[0].notes == ("dropped 1 exact duplicate(s) of other slices: copy",)
    assert caplog.records == []
    assert logging.getLogger("fuse_examples.imaging.oai_example.data").propagate


def setattr_of_each(dataset: Dataset, index: int, name: str, value: str) -> None:
    setattr(dataset, name, value)


def test_a_folder_of_two_echoes_is_read_as_the_configuration_would(tmp_path: Path) -> None:
    for echo in (1, 2):
        values = np.random.default_rng(echo).integers(0, 999, (5, 7, 8)).astype(np.int16)
        numbered = partial(setattr_of_each, name="EchoNumbers", value=str(echo))
        series_in(tmp_path / "series", values, change=numbered, file_name=partial("{1}_{0}".format, echo))
    source = table(tmp_path, [("A", "series", 0)])
    code, facts = run(source, "--pictures", "0")
    assert (code, facts[0]["usable"]) == (2, "no")
    assert "holds 2 volumes" in facts[0]["problems"]
    code, facts = run(source, "--pictures", "0", "--echo", "2", "--overwrite", "--full")
    assert (code, facts[0]["usable"], facts[0]["slices"]) == (0, "yes", "5")


def channel_table(folder: Path) -> Path:
    """Three rows of two channels: good; the second is not finite; the second has another shape."""
    shapes, changes = (SHAPE, SHAPE, (5, 8, 6)), (None, nan, None)
    rows = []
    for number, (shape, change) in enumerate(zip(shapes, changes, strict=True)):
        affine = AFFINE.copy()
        affine[0, 3] = number  # no two rows may repeat one another, so only --full reads them
        first = scan(folder / f"t1_{number}.nii.gz", number, affine=affine)
        rows.append((f"P{number}", first, scan(folder / f"t2_{number}.nii.gz", 10 + number, affine=affine, shape=shape, change=change), 0))
    with (folder / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("PatientID", "T1", "T2", "fold"), *rows])
    return folder / "cases.csv"


def test_every_channel_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = channel_table(tmp_path)
    output = tmp_path / "elsewhere" / "usable.csv"
    code, facts = run(source, "--channels", "T1", "T2", "--full", "--write-usable", str(output))
    error = capsys.readouterr().err
    assert (code, [fact["usable"] for fact in facts]) == (2, ["yes", "no", "no"])
    assert f"{source}:3: patient P1: image {tmp_path / 't2_1.nii.gz'}: 1 of 280 voxels are NaN or infinite." in error
    assert f"{source}:4: patient P2: image {tmp_path / 't2_2.nii.gz'}: has shape (5, 8, 6) in RAS, the first channel (5, 8, 7)" in error
    (case,) = read_cases(output, masks=False, channels=["T1", "T2"])
    assert all(path.exists() for path in case.images)  # both columns of paths were rewritten for the other folder
    assert check.main([str(output), "--output", str(tmp_path / "again"), "--channels", "T1", "T2"]) == 0
    assert f'dino.py --check csv_path={output} channels="[T1, T2]"' in capsys.readouterr().out
    assert check.main([str(source), "--output", str(tmp_path / "twice"), "--channels", "T1", "T1"]) == 2
    assert "--channels: T1 is named more than once." in capsys.readouterr().err


def test_outliers_are_robust() -> None:
    assert outlying([1, 1, 1, 1, 1.05], 0.1) == [False] * 5
    assert outlying([1, 1, 1, 1, 1.2], 0.1) == [False] * 4 + [True]
    assert outlying([1] * 14 + [1.3] * 6, 0.1) == [False] * 20  # another scanner
    values = [*range(100, 140), 400, 3]
    assert [v for v, far in zip(values, outlying(values, 0.25), strict=True) if far] == [400, 3]


def test_a_tile_shows_the_slice_with_most_of_the_mask() -> None:
    array = np.zeros((4, 6, 5), np.int16) + np.arange(6)[None, :, None].astype(np.int16)
    labels = np.zeros((4, 6, 5), np.uint8)
    labels[3, 1, 4] = 1
    tile = tile_of(from_file_order(array, AFFINE), from_file_order(labels, AFFINE), "sagittal")
    tinted = np.argwhere(np.ptp(tile.pixels, axis=-1) > 0.05)
    assert tinted.tolist() == [[0, 4]]  # superior is up, anterior left: index 4 of 5 is the first row, 1 of 6 the fifth column
    assert tile.aspect == pytest.approx(0.5 / 0.75)


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("SAG_3D_DESS_LEFT", "LEFT"),
        ("OAI^MR^12 MONTH^RIGHT", "RIGHT"),
        ("COR IW TSE L", "LEFT"),
        ("L SPINE", ""),
        ("BRIGHT", ""),
        ("left and right", ""),
        ("", ""),
    ],
)
def test_sides_in_words(text: str, side: str) -> None:
    assert side_in(text) == side


def test_a_table_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cases.csv").write_text("PatientID,img_path\nA,a\n")
    assert check.main([str(tmp_path / "cases.csv"), "--output", str(tmp_path / "out")]) == 2
    assert "has no column seg_path" in capsys.readouterr().err


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["hippocampus/segmentation.csv"])
def test_real_tables_are_usable(name: str, real_data: Path, tmp_path: Path) -> None:
    checked = check_table(real_data / name, CheckOptions(pictures=4))
    assert checked.unusable == []
    assert checked.remarks == ()
    assert {label for entry in checked.cases for label in entry.labels} == {0, 1, 2}
