from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from series_files import SAGITTAL, ras_affine, series_in

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.header_check import check_headers, check_masks, corner_shift, examine_voxels, survey_headers
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.geometry.volume import Grid

CSV = Path("cases.csv")
AFFINE = np.diag([0.5, 0.75, 2.0, 1.0])


@pytest.fixture
def pair(write_nifti: Callable[..., Path]) -> Callable[..., Case]:
    image = np.arange(60, dtype=np.int16).reshape(3, 4, 5)

    def make(mask: np.ndarray, affine: np.ndarray = AFFINE, row: int = 2) -> Case:
        image_path = write_nifti(image, AFFINE, name=f"image{row}.nii.gz")
        return Case(row, f"p{row}", f"P{row}", image_path, write_nifti(mask, affine, name=f"mask{row}.nii.gz"), "0", {})

    return make


def labels(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape or (60,))) % 3).astype(np.uint8).reshape(shape or (3, 4, 5))


def problems(call: Callable[[], object]) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        call()
    return error.value.problems


def test_good_pairs(pair: Callable[..., Case]) -> None:
    case = pair(labels())
    headers = check_headers([case], csv_path=CSV)
    assert headers["p2"].image.source.shape == (3, 4, 5)
    assert headers["p2"].mask is not None
    assert headers["p2"].mask.dtype == "uint8"
    assert check_headers([Case(3, "q", "Q", case.image, None, "0", {})], csv_path=CSV)["q"].mask is None


def test_axes_in_another_order_are_the_same_place(pair: Callable[..., Case]) -> None:
    turned = np.array([[0, 0, -0.5, 1.0], [0.75, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]])  # stored as A, S, L
    check_headers([pair(labels(4, 5, 3), turned)], csv_path=CSV)


@pytest.mark.parametrize(
    ("shift", "fine"), [((0.04, 0, 0), True), ((0.06, 0, 0), False), ((0, 0, 0.19), True), ((0, 0, 0.21), False), ((0, -0.08, 0), False)]
)
def test_a_tenth_of_a_voxel_is_the_limit(pair: Callable[..., Case], shift: tuple[float, ...], fine: bool) -> None:
    affine = AFFINE.copy()
    affine[:3, 3] = shift
    case = pair(labels(), affine)
    if fine:
        check_headers([case], csv_path=CSV)
        return
    (problem,) = problems(lambda: check_headers([case], csv_path=CSV))
    assert problem.startswith(f"cases.csv:2: patient P2: mask {case.mask}: lies elsewhere than its image: a corner is 0.1 voxels off.")
    assert "mask_affine: from_image" in problem
    check_headers([case], csv_path=CSV, mask_affine="from_image")


def test_the_far_corner_counts() -> None:
    affine = AFFINE.copy()
    affine[2, 2] *= 1.04  # 4 x 2 mm x 4 % at the fifth slice, 0.16 voxels
    assert corner_shift(Grid((3, 4, 5), AFFINE), Grid((3, 4, 5), affine)) == pytest.approx(0.16)


def test_all_problems_come_together(pair: Callable[..., Case], tmp_path: Path) -> None:
    flipped = AFFINE @ np.array([[-1, 0, 0, 2], [0, 1, 0, 3], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    broken = pair(labels(), row=4)
    broken.image.write_bytes(b"not a scan")
    absent = Case(5, "p5", "P5", tmp_path / "gone", tmp_path / "gone_too", "0", {})
    cases = [pair(labels(3, 4, 4)), pair(labels(), flipped, row=3), broken, absent, pair(labels(), row=6)]
    found = problems(lambda: check_headers(cases, csv_path=CSV))
    assert [problem.split(": ")[0] for problem in found[:5]] == [
        "cases.csv:2",
        "cases.csv:3",
        "cases.csv:4",
        "cases.csv:5",
        "cases.csv:5",
    ]
    assert "has shape (3, 4, 4) in RAS, its image (3, 4, 5) in RAS. Correct the seg_path" in found[0]
    assert "a corner is 3.0 voxels off" in found[1]
    assert "patient P4" in found[2]
    assert "of an unknown format" in found[2]
    assert found[3] == f"cases.csv:5: patient P5: image {tmp_path / 'gone'}: does not exist."
    assert found[5] == f"Missing files: 2. Paths in cases.csv are relative to its own folder, {Path.cwd()}."


def test_long_lists_are_cut(tmp_path: Path) -> None:
    cases = [Case(row, f"p{row}", f"P{row}", tmp_path / f"i{row}", tmp_path / f"m{row}", "0", {}) for row in range(2, 15)]
    found = problems(lambda: check_headers(cases, csv_path=tmp_path / "cases.csv"))
    assert len(found) == 22
    assert found[20] == "... and 6 more"
    assert found[21].startswith("Missing files: 26. Paths in ")
    assert found[21].endswith(f"relative to its own folder, {tmp_path}.")


def test_from_image_compares_the_order_of_the_files(pair: Callable[..., Case]) -> None:
    turned = np.array([[0, 0, -0.5, 1.0], [0.75, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]])
    (problem,) = problems(lambda: check_headers([pair(labels(4, 5, 3), turned)], csv_path=CSV, mask_affine="from_image"))
    assert "has shape (4, 5, 3), its image (3, 4, 5)" in problem


def test_a_nifti_mask_on_a_dicom_image(tmp_path: Path, write_nifti: Callable[..., Path]) -> None:
    folder = series_in(tmp_path / "series", np.arange(60, dtype=np.int16).reshape(5, 4, 3))
    affine = ras_affine(SAGITTAL, (10, -20, 30), (0.5, 0.75), 2.0)
    mask = write_nifti(labels(3, 4, 5), affine)
    check_headers([Case(2, "p", "P", folder, mask, "0", {})], csv_path=CSV)


def test_label_counts(pair: Callable[..., Case]) -> None:
    mask = np.zeros((3, 4, 5), np.float32)
    mask[0, 0, :2], mask[2] = 1, 3
    counts = check_masks([pair(mask), pair(labels(), row=3)], 4, csv_path=CSV)
    assert counts["p2"].tolist() == [38, 2, 0, 20]
    assert counts["p3"].tolist() == [20, 20, 20, 0]


def test_labels_that_do_not_fit_are_collected(pair: Callable[..., Case]) -> None:
    negative, fractional = labels().astype(np.int16), labels().astype(np.float32)
    negative[0, 0, 0] = -1
    fractional[0, 0, 0] = 0.5
    cases = [pair(labels()), pair(negative, row=3), pair(fractional, row=4), pair(labels() * 2, row=5), pair(labels() + 1, row=6)]
    found = problems(lambda: check_masks(cases, 3, csv_path=CSV))
    assert found[0].startswith(f"cases.csv:3: patient P3: mask {cases[1].mask}: the mask holds label -1 (")
    assert found[1].startswith(f"cases.csv:4: patient P4: mask {cases[2].mask}: 1 voxels of the mask are not whole numbers")
    assert "cases.csv:5: patient P5" in found[2]
    assert "holds the labels 0, 2, 4; with num_classes: 3 labels are 0 to 2. Set num_classes (background included)" in found[2]
    assert "holds the labels 1, 2, 3;" in found[3]
    assert len(found) == 4


def test_a_survey_goes_on_after_a_problem(pair: Callable[..., Case], tmp_path: Path) -> None:
    gone = Case(3, "gone", "Q", tmp_path / "gone", tmp_path / "gone_too", "0", {})
    good, missing, unequal = survey_headers([pair(labels()), gone, pair(labels(4, 4, 5), row=4)])
    assert good.headers is not None
    assert (good.problems, missing.headers, missing.n_missing, unequal.n_missing) == ((), None, 2, 0)
    assert missing.problems == (f"image {tmp_path / 'gone'}: does not exist.", f"mask {tmp_path / 'gone_too'}: does not exist.")
    (problem,) = unequal.problems
    assert problem.startswith(f"mask {unequal.case.mask}: has shape (4, 4, 5) in RAS, its image (3, 4, 5) in RAS.")


def test_voxels_are_examined_without_an_error(pair: Callable[..., Case], write_nifti: Callable[..., Path]) -> None:
    case = pair(labels())
    (found,) = survey_headers([case])
    assert found.headers is not None
    voxels = examine_voxels(case, found.headers, num_classes=3)
    assert voxels.problems == ()
    assert voxels.image is not None
    assert voxels.mask is not None
    assert (voxels.image.array.shape, voxels.mask.array.max()) == ((3, 4, 5), 2)
    write_nifti(np.full((3, 4, 5), np.nan, np.float32), AFFINE, name=case.image.name)
    broken = examine_voxels(case, found.headers, num_classes=2)
    assert broken.image is None
    assert broken.problems[0].startswith(f"image {case.image}: 60 of 60 voxels are NaN or infinite")
    assert broken.problems[1].startswith(f"mask {case.mask}: holds the labels 0, 1, 2; with num_classes: 2 labels are 0 to 1.")


def test_channels_of_a_case_must_lie_on_one_grid(pair: Callable[..., Case], write_nifti: Callable[..., Path]) -> None:
    case = pair(labels())
    turned = np.array([[0, 0, -0.5, 1.0], [0.75, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]])
    values = np.arange(60, dtype=np.int16)
    good = write_nifti(values.reshape(4, 5, 3), turned, name="good.nii")
    other = write_nifti(values[:48].reshape(3, 4, 4), AFFINE, name="other.nii")
    off = AFFINE.copy()
    off[0, 3] = 1.0
    elsewhere = write_nifti(values.reshape(3, 4, 5), off, name="elsewhere.nii")
    headers = check_headers([replace(case, further_files=(good,))], csv_path=CSV)["p2"]
    assert [header.source.shape for header in headers.images] == [(3, 4, 5), (4, 5, 3)]
    found = problems(lambda: check_headers([replace(case, further_files=(other, elsewhere, Path("gone.nii")))], csv_path=CSV))
    start = f"{CSV}:2: patient P2: image"
    assert found[0] == f"{start} gone.nii: does not exist."
    assert found[1] == (
        f"{start} {other}: has shape (3, 4, 4) in RAS, the first channel (3, 4, 5) in RAS. Resample the channels of a case to one grid."
    )
    assert found[2] == (
        f"{start} {elsewhere}: lies elsewhere than the first channel: a corner is 2.0 voxels off. "
        "Resample the channels of a case to one grid."
    )
    assert found[3].startswith("Missing files: 1.")
