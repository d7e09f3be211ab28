"""What the compiled kernels do beside the values that `test_resampling.py` compares with SciPy's."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fuse_examples.imaging.oai_example.geometry import resampling
from fuse_examples.imaging.oai_example.geometry.kernels import compiled_kernels
from fuse_examples.imaging.oai_example.geometry.maps import resize_map, rotation_matrix, view_map
from fuse_examples.imaging.oai_example.geometry.resampling import compile_for, resample

TURNED = view_map((7, 9, 8), (12, 15, 14), (9, 10, 11), (1, 1, 1), rotation_matrix((0.2, -0.1, 0.3)))
ABOUT_ONE_AXIS = view_map((7, 9, 8), (12, 15, 14), (9, 10, 11), (1, 1, 1), rotation_matrix((0, 0, 0.3)), flips=(False, True, True))


def scan(dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, (14, 18, 16)).astype(dtype)


def by_torch(monkeypatch: pytest.MonkeyPatch, *arguments, **options) -> torch.Tensor:
    with monkeypatch.context() as patch:
        patch.setattr(resampling, "compiled_kernels", lambda: None)
        return resample(*arguments, **options)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("matrix", [TURNED, ABOUT_ONE_AXIS, resize_map((14, 18, 16), (5, 6, 7))], ids=["turned", "one axis", "reduced"])
def test_views_from_any_layout_and_number_type_are_the_same(matrix, mode) -> None:
    expected = resample(scan("float32"), matrix, (9, 10, 11), mode, outside=-1)
    layouts = {
        "reversed": scan()[::-1, :, ::-1].copy()[::-1, :, ::-1],
        "other order": np.asfortranarray(scan()),
        "big endian": scan(">i2"),
        **{dtype: scan(dtype) for dtype in ("int16", "uint16", "uint8", "float64", "int64")},
    }
    for name, array in layouts.items():
        assert torch.allclose(resample(array, matrix, (9, 10, 11), mode, outside=-1), expected, atol=1e-3), name
    channels = resample(np.stack([scan(), 2 * scan()]), matrix, (9, 10, 11), mode, outside=-1)
    assert torch.allclose(channels[0], expected, atol=1e-3)
    inside = channels[1] != -1
    assert torch.allclose(channels[1][inside], 2 * expected[inside], atol=2e-3)


def test_a_tensor_of_the_cpu_is_read_in_place_and_a_graph_goes_through_torch(monkeypatch) -> None:
    array = torch.from_numpy(scan("float32"))
    assert torch.equal(resample(array, TURNED, (9, 10, 11)), resample(array.numpy(), TURNED, (9, 10, 11)))
    assert resample(array.clone().requires_grad_(), TURNED, (9, 10, 11)).requires_grad
    assert torch.allclose(resample(array.bfloat16(), TURNED, (9, 10, 11)), by_torch(monkeypatch, array, TURNED, (9, 10, 11)), atol=1e-3)


def test_a_memory_map_is_not_written_to_and_its_array_stays_writeable(tmp_path) -> None:
    np.save(tmp_path / "scan.npy", scan())
    mapped = np.load(tmp_path / "scan.npy", mmap_mode="r")
    array = scan()
    assert torch.equal(resample(mapped, TURNED, (9, 10, 11)), resample(array, TURNED, (9, 10, 11)))
    assert array.flags.writeable


@pytest.mark.parametrize("shape", [(1, 9, 8), (9, 1, 8), (9, 8, 1), (1, 1, 1)])
def test_axes_of_a_single_voxel(shape, monkeypatch) -> None:
    array = np.random.default_rng(0).random(shape, dtype=np.float32)
    for rotation in (np.eye(3), rotation_matrix((0.3, 0.2, 0.1))):
        matrix = view_map(np.array(shape) / 2, np.array(shape) * 1.2, (6, 7, 5), (1, 1, 1), rotation)
        ours, theirs = (f(array, matrix, (6, 7, 5), outside=9) for f in (resample, lambda *a, **o: by_torch(monkeypatch, *a, **o)))
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_sums_that_sixteen_bits_cannot_hold_are_floats() -> None:
    array = np.random.default_rng(0).integers(-32768, 32767, (16, 12, 12)).astype(np.int16)
    view = resample(array, resize_map(array.shape, (4, 4, 12)), (4, 4, 12))
    expected = array.reshape(4, 4, 4, 3, 12).mean(axis=(1, 3))
    assert np.allclose(view.numpy(), expected, atol=0.02)


def test_any_number_of_threads_gives_the_same_view() -> None:
    before = torch.get_num_threads()
    field = np.random.default_rng(1).normal(size=(3, 9, 10, 11)).astype(np.float32)
    try:
        views = []
        for n_threads in (1, 3, 16):
            torch.set_num_threads(n_threads)
            views.append(resample(scan(), TURNED, (9, 10, 11), displacement=field))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(views[0], views[1])
    assert torch.equal(views[0], views[2])


def test_numba_is_imported_when_a_view_is_made_and_not_before() -> None:
    program = (
        "import sys, numpy; from fuse_examples.imaging.oai_example.geometry.resampling import resample; assert 'numba' not in sys.modules;"
        "resample(numpy.zeros((3, 3, 3), numpy.int16), numpy.eye(4), (3, 3, 3)); assert 'numba' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_kernels_that_were_compiled_beforehand_are_what_views_use() -> None:
    compile_for([np.dtype("uint16")])
    kernels = resampling.compiled_kernels()
    before = [len(kernel.signatures) for kernel in (kernels.interpolate, kernels.pick, kernels.add_up)]
    for matrix, mode in ((TURNED, "linear"), (resize_map((14, 18, 16), (5, 6, 7)), "linear"), (TURNED, "nearest")):
        resample(scan("uint16"), matrix, (9, 10, 11), mode)
        resample(scan("uint16"), matrix, (9, 10, 11), mode, displacement=torch.zeros(3, 9, 10, 11))
    assert [len(kernel.signatures) for kernel in (kernels.interpolate, kernels.pick, kernels.add_up)] == before


def test_without_a_folder_for_what_was_compiled_kernels_work_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])  # as where neither the package nor a home can be written
    made = compiled_kernels.__wrapped__()
    assert made is not None
    voxels, view = np.arange(64, dtype=np.float32).reshape(4, 4, 4), np.empty((4, 4, 4), np.float32)
    matrix, edges = np.eye(4)[:3], np.full((2, 3), np.nan)
    made.interpolate(voxels, matrix, 1.0, np.zeros((3, 0, 0, 0), np.float32), edges, 0.0, 0, 4, view)
    assert np.array_equal(view, voxels)
