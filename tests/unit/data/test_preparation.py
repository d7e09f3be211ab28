"""Cases brought into the store: all that cannot be used are named together, by row and patient."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.header_check import CaseHeaders
from fuse_examples.imaging.oai_example.data.preparation import prepare_cases
from fuse_examples.imaging.oai_example.data.scans import read_header
from fuse_examples.imaging.oai_example.data.store import VolumeStore
from fuse_examples.imaging.oai_example.errors import ConfigError, DataError

CSV = Path("table.csv")
WriteNifti = Callable[..., Path]


@pytest.fixture
def prepare(tmp_path: Path) -> Callable:
    def run(pairs: list[tuple[Path, Path | None]], **options):
        cases = [Case(row, f"c{row}", f"P{row}", image, mask, "0", {}) for row, (image, mask) in enumerate(pairs, start=2)]
        headers = {case.name: CaseHeaders(read_header(case.image), read_header(case.mask) if case.mask else None) for case in cases}
        return prepare_cases(cases, headers, VolumeStore(tmp_path / "store", "RAS", (0.5, 99.5)), CSV, **options)

    return run


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (4, 5, 6)).astype(np.float32)


def labels(highest: int = 1) -> np.ndarray:
    values = np.zeros((4, 5, 6), np.uint8)
    values[1:3, 2, 2:4] = highest
    return values


def test_good_cases_come_back_in_order_and_open(prepare: Callable, write_nifti: WriteNifti) -> None:
    pairs = [(write_nifti(image(n), name=f"i{n}.nii"), write_nifti(labels(), name=f"m{n}.nii")) for n in range(3)]
    ready = prepare(pairs, num_classes=2).volumes
    assert [one.case.row for one in ready] == [2, 3, 4]
    assert all(np.array_equal(one.image().array, image(n)) for n, one in enumerate(ready))
    assert ready[0].mask().label_counts == {0: 116, 1: 4}


def test_every_problem_is_named_at_once(prepare: Callable, write_nifti: WriteNifti) -> None:
    broken = image()
    broken[0, 0, 0] = np.inf
    pairs = [
        (write_nifti(broken, name="inf.nii"), write_nifti(labels(), name="m.nii")),
        (write_nifti(image(), name="good.nii"), write_nifti(labels(), name="m2.nii")),
        (write_nifti(np.zeros((4, 5, 6), np.int16), name="flat.nii"), None),
        (write_nifti(image(), name="i4.nii"), write_nifti(labels(5), name="m4.nii")),
    ]
    with pytest.raises(DataError) as error:
        prepare(pairs, num_classes=3)
    first, second, third = error.value.problems
    assert first.startswith(f"table.csv:2: patient P2: {pairs[0][0]}: 1 of 120 voxels are NaN or infinite")
    assert second.startswith(f"table.csv:4: patient P4: {pairs[2][0]}: every voxel has the value 0")
    assert third == (
        f"table.csv:5: patient P5: the mask {pairs[3][1]} holds label 5 (4 voxels), but num_classes is 3, which allows labels 0 to 2. "
        "Set num_classes to 6 or correct the mask."
    )


@pytest.mark.parametrize(
    ("window", "side"), [((-1000.0, 0.0), "above"), ((200.0, 400.0), "below"), ((-1000.0, 1.0), None), ((199.0, 400.0), None), (None, None)]
)
def test_an_image_beside_the_window_is_a_problem(
    prepare: Callable, write_nifti: WriteNifti, window: tuple[float, float] | None, side: str | None
) -> None:
    ramp = np.linspace(0, 200, 120).round().astype(np.int16).reshape(4, 5, 6)
    path = write_nifti(ramp, name="ramp.nii")
    if side is None:
        assert len(prepare([(path, None)], window=window).volumes) == 1
        return
    with pytest.raises(DataError) as error:
        prepare([(path, None)], window=window)
    assert error.value.problems[0] == (
        f"table.csv:2: patient P2: {path}: its values, 0 to 200, all lie {side} intensity.window {list(window or ())}, which leaves "
        "nothing of the image. A window is in the scan's own units (HU for CT): correct the file, or train with a window that fits, or "
        "with intensity.method: percentile."
    )


def test_a_long_list_is_cut(prepare: Callable, write_nifti: WriteNifti) -> None:
    pairs = [(write_nifti(np.zeros((4, 5, 6), np.int16), name=f"{n}.nii"), None) for n in range(23)]
    with pytest.raises(DataError) as error:
        prepare(pairs)
    assert len(error.value.problems) == 21
    assert error.value.problems[-1] == "... and 3 more"


def test_without_num_classes_any_label_will_do(prepare: Callable, write_nifti: WriteNifti) -> None:
    (ready,) = prepare([(write_nifti(image(), name="i.nii"), write_nifti(labels(200), name="m.nii"))]).volumes
    assert ready.mask().label_counts[200] == 4


def test_a_mask_takes_its_images_place_where_told(prepare: Callable, write_nifti: WriteNifti) -> None:
    pair = (write_nifti(image(), np.diag([-1.0, 1, 1, 1]), name="i.nii"), write_nifti(labels(), np.diag([7.0, 7, 7, 1]), name="m.nii"))
    (ready,) = prepare([pair], mask_takes_image_affine=True).volumes
    assert np.array_equal(ready.mask().grid.affine, ready.image().grid.affine)
    assert np.array_equal(ready.mask().array, labels()[::-1])


def hundred(write_nifti: WriteNifti, broken: set[int], n_cases: int = 100) -> list[tuple[Path, None]]:
    flat = np.zeros((4, 5, 6), np.int16)
    return [(write_nifti(flat if n in broken else image(n), name=f"i{n}.nii"), None) for n in range(n_cases)]


def test_one_bad_case_in_a_hundred_is_put_aside_where_that_is_allowed(
    prepare: Callable, write_nifti: WriteNifti, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = hundred(write_nifti, {7})
    prepared = prepare(pairs, on_bad_case="skip")
    assert [one.case.row for one in prepared.volumes] == [*range(2, 9), *range(10, 102)]
    (bad,) = prepared.bad
    assert bad.case.patient == "P9"
    assert bad.problems == (f"{pairs[7][0]}: every voxel has the value 0; there is no image in it. Exclude this scan.",)
    assert f"put aside: table.csv:9: patient P9: {pairs[7][0]}: every voxel has the value 0" in caplog.text


def test_stopping_says_that_few_could_be_put_aside(prepare: Callable, write_nifti: WriteNifti) -> None:
    with pytest.raises(DataError) as error:
        prepare(hundred(write_nifti, {7}))
    assert len(error.value.problems) == 2
    assert error.value.problems[-1] == (
        "1 of 100 cases cannot be used. Correct the table or the files, or put these aside with on_bad_case: skip."
    )


@pytest.mark.parametrize(("n_cases", "broken", "limit"), [(100, {3, 60}, 1), (99, {3}, 0)])
def test_more_than_one_in_a_hundred_is_an_error(
    prepare: Callable, write_nifti: WriteNifti, n_cases: int, broken: set[int], limit: int
) -> None:
    with pytest.raises(DataError) as error:
        prepare(hundred(write_nifti, broken, n_cases), on_bad_case="skip")
    assert len(error.value.problems) == len(broken) + 1
    assert error.value.problems[-1] == (
        f"{len(broken)} of {n_cases} cases cannot be used; on_bad_case: skip puts aside at most 1 % ({limit}). "
        "Correct the table or the files."
    )


def test_a_scan_that_vanishes_after_its_header_was_read_is_a_bad_case(prepare: Callable, write_nifti: WriteNifti, monkeypatch) -> None:
    pairs = hundred(write_nifti, set())
    whole = VolumeStore.remove_abandoned

    def then_lose_two(store: VolumeStore) -> None:
        whole(store)
        pairs[4][0].unlink()
        pairs[5][0].write_bytes(pairs[5][0].read_bytes()[:-40])

    monkeypatch.setattr(VolumeStore, "remove_abandoned", then_lose_two)
    with pytest.raises(DataError) as error:
        prepare(pairs, on_bad_case="skip")
    first, second, _ = error.value.problems
    assert first == f"table.csv:6: patient P6: {pairs[4][0]}: does not exist."
    assert second == (
        f"table.csv:7: patient P7: {pairs[5][0]}: has changed since the run began. Start it again when the files are complete."
    )


@pytest.mark.parametrize("what", ["voxels.npy", "facts.json"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_store_that_is_damaged_during_the_run_is_told_and_is_no_bad_case(
    prepare: Callable, write_nifti: WriteNifti, tmp_path: Path, what: str, how: str
) -> None:
    pairs = [(write_nifti(image(), name="i.nii"), write_nifti(labels(), name="m.nii"))]
    (ready,) = prepare(pairs).volumes
    for path in (tmp_path / "store").rglob(what):
        path.write_bytes(path.read_bytes()[:-30]) if how == "cut" else path.unlink()
    for open_again in (ready.image, ready.mask, lambda: prepare(pairs, on_bad_case="skip")):
        with pytest.raises(ConfigError) as error:
            open_again()
        assert str(error.value).startswith(f"store.path: {tmp_path / 'store'}")
        assert "is damaged (" in str(error.value)
        assert str(error.value).endswith(". Remove that folder; it is made anew from the scan.")


def test_a_scan_and_its_stored_volume_that_both_vanish_are_told(prepare: Callable, write_nifti: WriteNifti, tmp_path: Path) -> None:
    pairs = [(write_nifti(image(), name="i.nii"), None)]
    (ready,) = prepare(pairs).volumes
    pairs[0][0].unlink()
    assert np.array_equal(ready.image().array, image())  # the run does not need the scan any more
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(DataError, match=r"i\.nii: does not exist\."):
        ready.image()
