"""Contours to masks: every voxel compared by its position in the patient, left and right, counted from either end."""

import csv
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from contour_files import BOXES, COLUMNS, NAMES, ROWS, SLICES, Box, expected_positions, write_knee, write_mat, write_text
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon

from fuse_examples.imaging.oai_example.data.cases import read_cases
from fuse_examples.imaging.oai_example.data.header_check import check_headers, check_masks
from fuse_examples.imaging.oai_example.data.scans import read_mask, read_volume
from fuse_examples.imaging.oai_example.prepare import imorphics
from fuse_examples.imaging.oai_example.prepare.knee_contours.outlines import inside

KNEES = [(side, lateral_first) for side in ("LEFT", "RIGHT") for lateral_first in (True, False)]
knees = pytest.mark.parametrize(("side", "lateral_first"), KNEES)


def series_table(path: Path, rows: list[tuple[str, str, str, str, str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("PatientID", "path", "side", "visit", "barcode"), *rows])
    return path


def one_knee(folder: Path, side: str, lateral_first: bool) -> Path:
    write_knee(folder / "scans" / "knee", side, lateral_first=lateral_first)
    return series_table(folder / "series.csv", [("9000099", "scans/knee", side, "V00", "016600000001")])


def run(folder: Path, table: Path, *words: str, folds: int = 1) -> int:
    return imorphics.main([str(folder), "--series", str(table), "--output", str(table.parent / "data"), "--folds", str(folds), *words])


def positions(mask: Path, label: int) -> set[tuple[float, float, float]]:
    image = nibabel.load(mask)
    index = np.argwhere(np.asanyarray(image.dataobj) == label)
    points = index @ image.affine[:3, :3].T + image.affine[:3, 3]
    return {(round(x, 4), round(y, 4), round(z, 4)) for x, y, z in points.tolist()}


def check_positions(mask: Path, side: str) -> None:
    expected = expected_positions(side)
    taken: set[tuple[float, float, float]] = set()
    for label, name in enumerate(NAMES, start=1):  # what an earlier structure has, a later one has not
        assert positions(mask, label) == expected[name] - taken, name
        taken |= expected[name]


@knees
@pytest.mark.parametrize("form", ["mat", "txt", "txt without names"])
def test_every_voxel_lies_where_its_outline_does(side: str, lateral_first: bool, form: str, tmp_path: Path) -> None:
    table = one_knee(tmp_path, side, lateral_first)
    file = tmp_path / "contours" / "9000099" / "V00" / f"9000099_{side}.{form[:3]}"
    if form == "mat":
        write_mat(file, lateral_first=lateral_first)
    else:
        write_text(file, lateral_first=lateral_first, named=form == "txt")
    assert run(tmp_path / "contours", table) == 0
    check_positions(tmp_path / "data" / "masks" / f"9000099_V00_{side}.nii.gz", side)
    cases = read_cases(tmp_path / "data" / "segmentation.csv", masks=True)
    check_headers(cases, csv_path=table)
    counts = check_masks(cases, 7, csv_path=table)["9000099"]
    femoral, patellar = 7 * 3 * 11, 3 * 2 * 3 - 3  # one column of one row in each of three slices is the femur's
    assert counts[1:].tolist() == [femoral, 3 * 2 * 5, 2 * 3 * 6, patellar, 2, 1 * 2 * 2]
    assert read_mask(cases[0].mask).array.shape == read_volume(cases[0].image).array.shape


@knees
def test_slices_counted_from_the_other_end_are_noticed(
    side: str, lateral_first: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = one_knee(tmp_path, side, lateral_first)
    file = tmp_path / "contours" / "9000099" / "V00" / "9000099.mat"
    write_mat(file, lateral_first=not lateral_first)
    assert run(tmp_path / "contours", table) == 2
    error = capsys.readouterr().err
    assert (
        f"{file}: its lateral structures lie medially in this {side.lower()} knee: its slices seem to be counted from the other end."
        in error
    )
    assert "Pass --slice-order reversed if all are, or --slice-order by_anatomy" in error
    for order in ("reversed", "by_anatomy"):
        assert run(tmp_path / "contours", table, "--slice-order", order, "--overwrite") == 0
        check_positions(tmp_path / "data" / "masks" / f"9000099_V00_{side}.nii.gz", side)
    assert "1 of 1 masks had their slices counted from the other end, such as 9000099.mat." in capsys.readouterr().out


def test_a_set_of_knees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    contours = tmp_path / "contours"
    for k, patient in enumerate(("9674570", "9000105", "9000106", "9000107")):
        side = ("LEFT", "RIGHT")[k % 2]
        for visit in (0, 1):
            write_knee(tmp_path / patient / str(visit), side, lateral_first=True, patient=patient, visit=visit)
            rows.append((patient, f"{patient}/{visit}", side, f"V0{visit}", f"01660000{k}{visit}01"))
            boxes = {name: box for name, box in BOXES.items() if patient != "9674570" or name != "PatellarCartilage"}
            write_mat(
                contours / patient / f"V0{visit}" / f"{patient}_20040909_SAG_3D_DESS_{side}_01660000{k}{visit}01.mat",
                lateral_first=True,
                boxes=boxes,
            )
            write_text(contours / patient / f"V0{visit}" / "outlines.txt", lateral_first=False)  # the .mat beside it is taken
    write_mat(contours / "9000999" / "V00" / "9000999_LEFT.mat", lateral_first=True)
    write_mat(contours / "9000107" / "V00" / "x_016699999999.mat", lateral_first=True)
    write_mat(contours / "9000107" / "V03" / "cut.mat", lateral_first=True)
    rows.append(("9000107", "9000107/0", "RIGHT", "V03", ""))
    (contours / "9000107" / "V03" / "cut.mat").write_bytes((contours / "9000107" / "V03" / "cut.mat").read_bytes()[:300])
    table = series_table(tmp_path / "series.csv", rows)
    assert run(contours, table, folds=2) == 0
    shown = capsys.readouterr().out
    with (tmp_path / "data" / "segmentation.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [(row["PatientID"], row["visit"]) for row in written] == [
        (patient, visit) for patient in ("9000105", "9000106", "9000107", "9674570") for visit in ("V00", "V01")
    ]
    assert [row["missing"] for row in written] == [""] * 6 + ["PatellarCartilage"] * 2
    assert all(len({row["fold"] for row in written if row["PatientID"] == name}) == 1 for name in {row["PatientID"] for row in written})
    assert "    4  PatellarCartilage           6" in shown
    assert "18 voxels were claimed by two structures" in shown
    assert "num_classes=7" in shown
    with (tmp_path / "data" / "left_out.csv").open(newline="") as file:
        left = {Path(row["file"]).name: row["reason"] for row in csv.DictReader(file)}
    assert "the table has no series of participant 9000999 at V00, LEFT." in left["9000999_LEFT.mat"]
    assert "its series 016699999999 is not in the table of series." in left["x_016699999999.mat"]
    assert "cannot be read as a MATLAB file" in left["cut.mat"]
    assert len(left) == 3
    assert len(check_headers(read_cases(tmp_path / "data" / "segmentation.csv", masks=True), csv_path=table)) == 8
    assert run(contours, table, folds=2) == 2
    assert f"{tmp_path / 'data' / 'masks'}: exists already." in capsys.readouterr().err


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-3, 12), st.floats(-3, 12)), min_size=3, max_size=9))
def test_filling_agrees_with_another_implementation(points: list[tuple[float, float]]) -> None:
    polygon = np.array(points)
    grid = np.array([(column, row) for row in range(9) for column in range(8)], float)
    crossings, on_an_edge = np.zeros(len(grid), int), np.zeros(len(grid), bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):  # a ray to the left, edge by edge
        for place, (x, y) in enumerate(grid):
            if min(y0, y1) <= y < max(y0, y1):
                crossing = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
                crossings[place] += crossing <= x
                on_an_edge[place] |= abs(crossing - x) < 1e-9  # there rounding decides
    np.testing.assert_array_equal(inside(polygon, (9, 8)).ravel()[~on_an_edge], (crossings % 2 == 1)[~on_an_edge])


def test_filling_agrees_with_matplotlib_and_shared_edges_count_once() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 12))
        radius = rng.uniform(5, 14, 12)
        star = np.column_stack([16 + radius * np.cos(angle), 15 + radius * np.sin(angle)])
        grid = np.array([(column, row) for row in range(30) for column in range(32)], float)
        np.testing.assert_array_equal(
            inside(star, (30, 32)).ravel(), Polygon(np.vstack([star, star[:1]]), closed=True).contains_points(grid)
        )
    left, right = np.array([[2, 2], [5, 2], [5, 7], [2, 7]], float), np.array([[5, 2], [9, 2], [9, 7], [5, 7]], float)
    assert (inside(left, (10, 10)) & inside(right, (10, 10))).sum() == 0
    assert (inside(left, (10, 10)) | inside(right, (10, 10))).sum() == 7 * 5


BELOW: dict[str, Box] = {"FemoralCartilage": (1, 2, 300, 310, 2, 5)}


def text(content: str) -> Callable[[Path], object]:
    return lambda file: file.with_suffix(".txt").write_text(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (text("FemoralCartilage { { { 1 1 0 2 2 0"), "ends within 3 open braces; it may be cut off."),
        (text("{ { { 1 1 0 2 2 0 3 1 0 } } }"), "has 1 blocks without names; the structures are 6."),
        (text("FemoralCartilage { { { 1 1 0 2 2 } } }"), "has 5 numbers; points are three each"),
        (text("FemoralCartilage { { { 1 1 0 2 2 1 3 1 1 } } }"), "is not within one slice (z from 0 to 1)"),
        (text("FemoralCartilage { } }"), "a brace is closed that was not opened."),
        (text("FemoralCartilage { }"), "holds no outline of FemoralCartilage, "),
        (lambda file: write_mat(file, lateral_first=True, slices=SLICES + 1), f"has outlines for {SLICES + 1} slices, its series"),
        (lambda file: write_mat(file, lateral_first=True, boxes=BELOW), "no voxel lies inside its outlines"),
        (lambda file: write_mat(file.with_name("9000100.mat"), lateral_first=True), "neither its name nor its folders name a participant"),
    ],
)  # fmt: skip
def test_mistakes_in_contours(spoil, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    table = one_knee(tmp_path, "LEFT", True)
    folder = tmp_path / "contours" / ("knee" if "neither" in message else "9000099/V00")
    folder.mkdir(parents=True)
    spoil(folder / "9000099.mat")
    assert run(tmp_path / "contours", table) == 2
    assert message in capsys.readouterr().err


def test_mistakes_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = one_knee(tmp_path, "LEFT", True)
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", table) == 2
    assert "empty: holds no outlines (.mat, or .txt with braces) and no arrays (.seg)." in capsys.readouterr().err
    assert imorphics.main([str(tmp_path / "empty")]) == 2
    assert "--series is missing: outlines need the grid of their series." in capsys.readouterr().err
    table.write_text("PatientID,path\nA,b\n")
    assert run(tmp_path / "empty", table) == 2
    assert "has no column side; found PatientID, path." in capsys.readouterr().err


def write_iwoai(folder: Path, name: str, values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Write .im and .seg with slices in `order`; return the channels (rows, columns, slices, 6)."""
    folder.mkdir(parents=True, exist_ok=True)
    channels = np.zeros((ROWS, COLUMNS, SLICES, 6), np.uint8)
    for channel, box in enumerate(BOXES.values()):
        first, last, top, bottom, left, right = box
        channels[top:bottom, left:right, first:last, (0, 1, 2, 3, 4, 5)[channel]] = 1
    with h5py.File(folder / f"{name}.im", "w") as file:
        file["data"] = values[order].transpose(1, 2, 0).astype(np.float32)
    with h5py.File(folder / f"{name}.seg", "w") as file:
        file["data"] = channels
    return channels


@knees
def test_iwoai_arrays_find_their_series(side: str, lateral_first: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = write_knee(tmp_path / "scans" / "knee", side, lateral_first=lateral_first)
    write_knee(tmp_path / "scans" / "another", side, lateral_first=lateral_first, patient="9000100")
    rows = [("9000100", "scans/another", side, "V00", ""), ("9000099", "scans/knee", side, "V00", "")]
    table = series_table(tmp_path / "series.csv", rows)
    from_lateral = np.arange(SLICES) if lateral_first else np.arange(SLICES)[::-1]
    write_iwoai(tmp_path / "arrays", "train_001_V00", values, from_lateral)
    write_iwoai(tmp_path / "arrays", "valid_002_V01", values + 1, from_lateral)
    assert run(tmp_path / "arrays", table) == 0
    mask = tmp_path / "data" / "masks" / f"9000099_V00_{side}.nii.gz"
    expected = expected_positions(side)
    assert positions(mask, 1) == expected["FemoralCartilage"]
    assert positions(mask, 2) == expected["LateralTibialCartilage"] | expected["MedialTibialCartilage"]
    assert positions(mask, 3) == expected["PatellarCartilage"] - expected["FemoralCartilage"]
    assert positions(mask, 4) == expected["LateralMeniscus"] | expected["MedialMeniscus"]
    assert "valid_002_V01.im: none of the series in the table has these voxels." in (tmp_path / "data" / "left_out.csv").read_text()
    check_headers(read_cases(tmp_path / "data" / "segmentation.csv", masks=True), csv_path=table)


def test_iwoai_arrays_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(0).integers(0, 999, (SLICES, ROWS, COLUMNS)).astype(np.int16)
    for name in ("train_001_V00", "train_001_V01", "test_003_V00"):
        channels = write_iwoai(tmp_path / "arrays", name, values, np.arange(SLICES))
    output = tmp_path / "data"
    assert imorphics.main([str(tmp_path / "arrays"), "--output", str(output)]) == 0
    assert 'structure_names="[FemoralCartilage, TibialCartilage, PatellarCartilage, Menisci]"' in capsys.readouterr().out
    cases = read_cases(output / "segmentation.csv", masks=True)
    assert [(case.patient, case.fold) for case in cases] == [("test_003", "test"), ("train_001", "train"), ("train_001", "train")]
    check_headers(cases, csv_path=output / "segmentation.csv")
    mask, image = read_mask(cases[0].mask), read_volume(cases[0].image)
    np.testing.assert_array_equal(image.array, values[:, ::-1, ::-1].transpose(0, 2, 1))  # right, anterior, superior
    np.testing.assert_array_equal(mask.array == 1, (channels[..., 0] > 0)[::-1, ::-1].transpose(2, 1, 0))
    np.testing.assert_allclose(image.spacing, (0.7, 0.36458333, 0.36458333), rtol=1e-6)
    (tmp_path / "arrays" / "train_001_V00.im").unlink()
    (tmp_path / "arrays" / "other.seg").write_bytes(b"x")
    assert imorphics.main([str(tmp_path / "arrays"), "--output", str(output), "--overwrite"]) == 0
    left = (output / "left_out.csv").read_text()
    assert "has no image train_001_V00.im beside it." in left
    assert "is not named as in the challenge, such as train_001_V00.seg." in left
