"""The store: never stale, never half-written, shared by processes, and exactly the voxels of the file."""

import json
import multiprocessing
import os
import signal
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom.dataset import Dataset
from series_files import SAGITTAL, ras_affine, series_in

from fuse_examples.imaging.oai_example.data import store as store_module
from fuse_examples.imaging.oai_example.data.reading import Reading, SeriesChoice
from fuse_examples.imaging.oai_example.data.scans import read_header, read_volume
from fuse_examples.imaging.oai_example.data.store import VolumeStore
from fuse_examples.imaging.oai_example.errors import ConfigError, DataError
from fuse_examples.imaging.oai_example.geometry.volume import Grid

WriteNifti = Callable[..., Path]
PERCENTILES = (0.5, 99.5)
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def store(tmp_path: Path) -> VolumeStore:
    return VolumeStore(tmp_path / "store", "RAS", PERCENTILES)


def scan(seed: int = 0, dtype: Any = np.int16) -> np.ndarray:
    return np.random.default_rng(seed).integers(-300, 900, (5, 6, 7)).astype(dtype)


def stamp(path: Path) -> str:
    return read_header(path).fingerprint


def entries(store: VolumeStore) -> list[str]:
    return sorted(entry.name for entry in store.folder.iterdir() if entry.name != ".contents") if store.folder.exists() else []


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8, np.float32])
def test_an_image_keeps_its_number_type_and_its_voxels(store: VolumeStore, write_nifti: WriteNifti, dtype: Any) -> None:
    values = np.abs(scan()).astype(dtype)
    image = store.image(path := write_nifti(values), stamp(path))
    assert image.array.dtype == dtype
    assert np.array_equal(image.array, values)
    assert isinstance(image.array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        image.array[0, 0, 0] = 1


def test_axes_are_turned_and_the_place_in_space_kept(tmp_path: Path, write_nifti: WriteNifti) -> None:
    affine = np.array([[0, 0, -0.5, 40], [0, 2, 0, -3], [1.5, 0, 0, 9], [0, 0, 0, 1.0]])
    path = write_nifti(scan(), affine)
    image = VolumeStore(tmp_path / "store", "PSR", PERCENTILES).image(path, stamp(path))
    assert image.grid.orientation == "PSR"
    assert image.source.shape == (5, 6, 7)
    assert np.array_equal(image.source.affine, affine)
    for index in ((0, 0, 0), (3, 2, 1), (5, 4, 6)):  # world position -> the file's voxel
        world = image.grid.affine @ [*index, 1]
        i, j, k = np.rint(np.linalg.solve(affine, world)[:3]).astype(int)
        assert image.array[index] == scan()[i, j, k]


def test_statistics_are_those_of_all_voxels(store: VolumeStore, write_nifti: WriteNifti) -> None:
    found = store.image(path := write_nifti(scan()), stamp(path)).statistics
    low, high = np.percentile(scan(), PERCENTILES)
    expected = [low, high, scan().min(), scan().max(), scan().mean(), scan().std()]
    assert list(found.as_dict().values()) == pytest.approx(expected, rel=1e-12)


def test_a_changed_file_is_not_served_stale(store: VolumeStore, write_nifti: WriteNifti) -> None:
    first = store.image(path := write_nifti(scan(1)), stamp(path))
    status = path.stat()
    write_nifti(scan(2))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # within the same second
    second = store.image(path, stamp(path))
    assert np.array_equal(second.array, scan(2))
    assert np.array_equal(first.array, scan(1))  # a run that has it open keeps it


def test_a_file_that_was_rewritten_with_its_old_size_and_time_is_not_served_stale(store: VolumeStore, write_nifti: WriteNifti) -> None:
    store.image(path := write_nifti(scan(1), name="scan.nii"), stamp(path))
    status = path.stat()
    write_nifti(scan(2), name="scan.nii")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert np.array_equal(store.image(path, stamp(path)).array, scan(2))


def test_a_touched_or_moved_scan_finds_its_entry(store: VolumeStore, write_nifti: WriteNifti, monkeypatch: pytest.MonkeyPatch) -> None:
    store.image(path := write_nifti(scan()), stamp(path))
    monkeypatch.setattr(store_module, "read_volume", lambda path, reading: pytest.fail("read again"))
    os.utime(path)
    assert np.array_equal(store.image(path, stamp(path)).array, scan())
    moved = path.rename(path.with_name("moved.nii"))
    assert np.array_equal(store.image(moved, stamp(moved)).array, scan())
    assert len(entries(store)) == 1


def test_a_scan_that_changes_while_it_is_read_is_not_stored(
    store: VolumeStore, write_nifti: WriteNifti, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_nifti(scan(1))
    mark = stamp(path)

    def then_changed(path: Path, reading: Reading) -> Any:
        volume = read_volume(path, reading)
        write_nifti(scan(2))
        return volume

    monkeypatch.setattr(store_module, "read_volume", then_changed)
    with pytest.raises(DataError, match=rf"{path}: has changed since the run began. Start it again when the files are complete."):
        store.image(path, mark)
    assert entries(store) == []


def test_a_slice_that_was_replaced_in_a_folder_is_seen(store: VolumeStore, tmp_path: Path) -> None:
    folder = series_in(tmp_path / "series", scan(1, np.int16))
    store.image(folder, stamp(folder))
    series_in(folder, scan(2, np.int16))
    assert np.array_equal(store.image(folder, stamp(folder)).array, read_volume(folder).array)


def test_hidden_scans_are_told_apart_and_a_file_browsers_droppings_are_nothing(
    store: VolumeStore, write_nifti: WriteNifti, tmp_path: Path
) -> None:
    one, other = write_nifti(scan(1), name=".one.nii"), write_nifti(scan(2), name=".other.nii")
    assert np.array_equal(store.image(one, stamp(one)).array, scan(1))
    assert np.array_equal(store.image(other, stamp(other)).array, scan(2))
    folder = series_in(tmp_path / "series", scan(3, np.int16), file_name=".{:03d}".format)
    store.image(folder, stamp(folder))
    series_in(folder, scan(4, np.int16), file_name=".{:03d}".format)
    assert np.array_equal(store.image(folder, stamp(folder)).array, read_volume(folder).array)
    before = stamp(folder)
    (folder / ".DS_Store").write_bytes(b"Bud1")
    (folder / "._000").write_bytes(b"droppings")
    assert stamp(folder) == before


def test_settings_and_kinds_have_entries_of_their_own(tmp_path: Path, write_nifti: WriteNifti) -> None:
    path = write_nifti(np.abs(scan()))
    mark, folder = stamp(path), tmp_path / "store"
    VolumeStore(folder, "RAS", PERCENTILES).image(path, mark)
    wider = VolumeStore(folder, "RAS", (0, 100)).image(path, mark)
    turned = VolumeStore(folder, "LAS", PERCENTILES).image(path, mark)
    mask = VolumeStore(folder, "RAS", PERCENTILES).mask(path, mark)
    assert (wider.statistics.low, wider.statistics.high) == (np.abs(scan()).min(), np.abs(scan()).max())
    assert np.array_equal(turned.array, np.abs(scan())[::-1])
    assert sum(mask.label_counts.values()) == scan().size
    assert len(list(folder.glob("[0-9a-f]*"))) == 4


def test_another_way_of_reading_has_an_entry_of_its_own(tmp_path: Path, write_nifti: WriteNifti) -> None:
    path = write_nifti(scan())
    readings = [Reading(), Reading(SeriesChoice(description="SAG*")), Reading(SeriesChoice(echo=2)), Reading(SeriesChoice(largest=True))]
    for reading in [*readings, Reading(tolerate_uneven_spacing=True), Reading()]:
        VolumeStore(tmp_path / "store", "RAS", PERCENTILES, reading).image(path, stamp(path))
    assert len(list((tmp_path / "store").glob("[0-9a-f]*"))) == 5


def test_an_entry_is_built_once(store: VolumeStore, write_nifti: WriteNifti, monkeypatch: pytest.MonkeyPatch) -> None:
    store.image(path := write_nifti(scan()), mark := stamp(path))
    monkeypatch.setattr(store_module, "read_volume", lambda path, reading: pytest.fail("read again"))
    assert np.array_equal(store.image(path, mark).array, scan())


def test_a_dicom_folder_and_its_nifti_have_one_array_and_one_scale(store: VolumeStore, tmp_path: Path, write_nifti: WriteNifti) -> None:
    values = np.random.default_rng(5).integers(0, 4000, (31, 33, 35)).astype(np.int16)
    folder = series_in(tmp_path / "series", values)
    affine = ras_affine(SAGITTAL, (10, -20, 30), (0.5, 0.75), 2.0)
    path = write_nifti(np.ascontiguousarray(values.transpose(2, 1, 0)), affine)
    dicom, nifti = store.image(folder, stamp(folder)), store.image(path, stamp(path))
    assert np.array_equal(dicom.array, nifti.array)
    assert dicom.statistics == nifti.statistics  # to the last bit: mean and deviation are sums


# ---- masks


def test_labels_are_counted_and_sampled_evenly(store: VolumeStore, write_nifti: WriteNifti) -> None:
    labels = np.zeros((20, 30, 40), np.uint8)
    labels[2:4, 5, 6] = 1
    labels[5:20, 10:30, 10:40] = 4
    mask = store.mask(path := write_nifti(labels), stamp(path))
    assert mask.label_counts == {0: labels.size - 2 - 9000, 1: 2, 4: 9000}
    assert set(mask.foreground) == {1, 4}
    assert mask.foreground[1].tolist() == [[2, 5, 6], [3, 5, 6]]
    sample = mask.foreground[4]
    assert len(np.unique(sample, axis=0)) == len(sample) == 1000
    assert (labels[tuple(sample.T)] == 4).all()
    assert np.abs(sample.mean(axis=0) - [12, 19.5, 24.5]).max() < 0.5


def test_a_mask_can_take_its_images_place(store: VolumeStore, write_nifti: WriteNifti) -> None:
    labels = np.abs(scan()).astype(np.uint8)
    path = write_nifti(labels, np.diag([9.0, 9, 9, 1]))
    place = np.diag([-1.0, 1, 1, 1])
    mask = store.mask(path, stamp(path), Grid((5, 6, 7), place))
    assert np.array_equal(mask.source.affine, place)
    assert np.array_equal(mask.array, labels[::-1])
    assert np.array_equal(store.mask(path, stamp(path)).array, labels)  # and its own, where asked so


def test_a_negative_label_is_refused_and_nothing_is_stored(store: VolumeStore, write_nifti: WriteNifti) -> None:
    labels = np.zeros((5, 6, 7), np.int16)
    labels[0, 0, :3] = -2
    path = write_nifti(labels)
    with pytest.raises(DataError, match=rf"{path}: the mask holds label -2 \(3 voxels\); labels are 0 and up. Correct the mask."):
        store.mask(path, stamp(path))
    assert entries(store) == []


# ---- writing


def test_a_build_that_breaks_off_leaves_nothing(store: VolumeStore, write_nifti: WriteNifti, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nifti(scan())
    with monkeypatch.context() as patch:
        patch.setattr(store_module.json, "dumps", _second_call_raises(json.dumps))
        with pytest.raises(KeyboardInterrupt):
            store.image(path, stamp(path))
    assert entries(store) == []
    assert np.array_equal(store.image(path, stamp(path)).array, scan())


def _second_call_raises(function: Callable[..., str]) -> Callable[..., str]:
    calls = []

    def call(*args: Any, **options: Any) -> str:  # the first names the entry, the second writes it, after the voxels
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return function(*args, **options)

    return call


@pytest.mark.parametrize("moment", ["in the voxels", "before the rename"])
def test_a_build_that_is_killed_leaves_no_entry(store: VolumeStore, write_nifti: WriteNifti, moment: str) -> None:
    path = write_nifti(scan())

    def half(file: Path, array: np.ndarray) -> None:
        file.write_bytes(array.tobytes()[: array.nbytes // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    def build() -> None:
        if moment == "in the voxels":
            store_module.np.save = half  # type: ignore[assignment]
        else:
            store_module.os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        store.image(path, stamp(path))

    child = FORK.Process(target=build)
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    (left,) = entries(store)
    assert left.startswith(".building-")
    assert np.array_equal(store.image(path, stamp(path)).array, scan())

    store.remove_abandoned()  # it may be another process's work in progress
    assert left in entries(store)
    os.utime(store.folder / left, (time.time() - 25 * 3600,) * 2)
    store.remove_abandoned()
    assert len(entries(store)) == 1
    assert left not in entries(store)


def test_two_processes_that_build_the_same_entry(store: VolumeStore, write_nifti: WriteNifti, tmp_path: Path) -> None:
    path = write_nifti(scan())
    together, rename = FORK.Barrier(2), os.rename

    def build(number: int) -> None:
        def both_at_once(*names: Any) -> None:
            together.wait(20)
            rename(*names)

        store_module.os.rename = both_at_once  # type: ignore[assignment]
        image = store.image(path, stamp(path))
        (tmp_path / f"seen_{number}").write_bytes(image.array.tobytes())

    children = [FORK.Process(target=build, args=(number,)) for number in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0, 0]
    assert [(tmp_path / f"seen_{number}").read_bytes() for number in range(2)] == [scan().tobytes()] * 2
    (entry,) = entries(store)
    assert not entry.startswith(".")


def test_others_may_read_what_one_has_stored(store: VolumeStore, write_nifti: WriteNifti) -> None:
    before = os.umask(0o022)
    try:
        store.image(path := write_nifti(scan()), stamp(path))
    finally:
        os.umask(before)
    (entry,) = (store.folder / name for name in entries(store))
    assert stat.S_IMODE(entry.stat().st_mode) == 0o755
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o644 for file in entry.iterdir())


def test_a_full_disk_is_said_in_words(store: VolumeStore, write_nifti: WriteNifti, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    path = write_nifti(scan())
    monkeypatch.setattr(store_module.np, "save", full)
    with pytest.raises(ConfigError, match=rf"store.path: {store.folder} cannot be written \(No space left on device\). Free space"):
        store.image(path, stamp(path))
    assert entries(store) == []


def test_a_disk_that_is_too_small_is_refused_before_anything_is_built(
    tmp_path: Path, write_nifti: WriteNifti, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = VolumeStore(tmp_path / "not" / "yet" / "there", "RAS", PERCENTILES)
    image, mask = write_nifti(scan(), name="image.nii"), write_nifti(np.abs(scan()).astype(np.uint8), name="mask.nii")
    free, asked = [0], []

    def disk_usage(folder: Path) -> Any:
        asked.append(folder)
        return type("Usage", (), {"free": free[0]})

    def check() -> None:
        store.check_room([(image, read_header(image))], [(mask, read_header(mask), None)])

    monkeypatch.setattr(store_module.shutil, "disk_usage", disk_usage)
    free[0] = scan().size * 3 - 1  # two bytes a voxel of the image, one of the mask
    with pytest.raises(ConfigError) as error:
        check()
    assert str(error.value) == (
        f"store.path: {store.folder} has 0.00 GB free, and the 2 volumes that are not in it yet need 0.00 GB. "
        "Free space there, or set store.path to a folder with more room."
    )
    assert asked == [tmp_path]
    assert not store.folder.exists()
    free[0] += 1
    check()
    store.image(image, stamp(image))
    free[0] = scan().size  # the image is there
    check()


def test_a_disk_that_is_too_small_is_named_with_what_is_free_and_what_is_needed(
    store: VolumeStore, write_nifti: WriteNifti, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_nifti(scan())
    large = replace(read_header(path), source=Grid((1000, 1000, 1500), np.eye(4)))  # 3 GB in two bytes a voxel
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1_250_000_000}))
    with pytest.raises(ConfigError, match=r"has 1\.25 GB free, and the 2 volumes that are not in it yet need 6\.00 GB\. Free space there"):
        store.check_room([(path, large), (path, large)], [])


def test_the_room_counted_is_the_room_taken(tmp_path: Path) -> None:
    """Whatever a header's type and scaling make of the voxels."""
    store = VolumeStore(tmp_path / "store", "RAS", PERCENTILES)
    scalings = [(1.0, 0.0), (1.0, -1024.0), (0.37, 0.0)]
    for number, (dtype, scaling) in enumerate((dtype, scaling) for dtype in (np.uint8, np.int16, np.float64) for scaling in scalings):
        file = nibabel.Nifti1Image(np.abs(scan(number)).astype(dtype), np.eye(4))
        file.header.set_slope_inter(*scaling)
        nibabel.save(file, path := tmp_path / f"{number}.nii")
        header = read_header(path)
        assert store.image(path, header.fingerprint).array.dtype.itemsize == header.voxel_bytes, (dtype, scaling)

    def scaled(dataset: Dataset, index: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = str(1 + index / 8), "0"

    series = series_in(tmp_path / "series", scan(20, np.int16), change=scaled)
    header = read_header(series)
    assert (header.dtype, header.voxel_bytes) == ("int16", 4)
    assert store.image(series, header.fingerprint).array.dtype == np.float32
