"""The one resampling against SciPy's, and its geometry against millimetres."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fuse_examples.imaging.oai_example.geometry import resampling
from fuse_examples.imaging.oai_example.geometry.maps import output_affine, reductions, resize_map, rotation_matrix, view_map
from fuse_examples.imaging.oai_example.geometry.resampling import averaging_cells, resample

ANGLES = st.tuples(*[st.floats(-0.6, 0.6)] * 3)
FLIPS = st.tuples(*[st.booleans()] * 3)


@pytest.fixture(scope="module", autouse=True, params=["kernels", "torch"])
def way(request):
    """Every test runs with the compiled kernels, and as where numba is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":
            patch.setattr(resampling, "compiled_kernels", lambda: None)
        yield request.param


def smooth(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 1.5).astype(np.float32) * 10


def scipy_views(array: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    """The same affine by SciPy, on the area-averaged volume where an axis is reduced beyond 2x."""
    cells = averaging_cells(matrix) if order else np.ones(3, int)
    padded = np.pad(array, [(0, -n % c) for n, c in zip(array.shape, cells, strict=True)], mode="edge")
    d, h, w = (n // c for n, c in zip(padded.shape, cells, strict=True))
    averaged = padded.reshape(d, cells[0], h, cells[1], w, cells[2]).mean(axis=(1, 3, 5))
    linear = matrix[:3, :3] / cells[:, None]
    offset = (matrix[:3, 3] - (cells - 1) / 2) / cells
    return ndimage.affine_transform(averaged, linear, offset, shape, order=order, mode="nearest")


@settings(max_examples=40, deadline=None)
@given(ANGLES, FLIPS, st.floats(0.3, 3.5), st.tuples(*[st.floats(0.3, 0.7)] * 3), st.integers(0, 99))
def test_a_view_equals_scipys_affine_transform(angles, flips, scale, middle, seed) -> None:
    array = smooth((24, 31, 18), seed)
    spacing = (1.5, 0.7, 0.7)
    matrix = view_map(np.array(middle) * array.shape, (12, 10, 9), (9, 11, 10), spacing, rotation_matrix(angles), scale, flips)
    ours = resample(array, matrix, (9, 11, 10), outside=np.nan).numpy()
    theirs = scipy_views(array, matrix, (9, 11, 10), order=1)
    index = np.moveaxis(np.indices((9, 11, 10)), 0, -1) @ matrix[:3, :3].T + matrix[:3, 3]
    inside = ((index > -0.5 + 1e-3) & (index < np.array(array.shape) - 0.5 - 1e-3)).all(-1)
    out = ((index < -0.5 - 1e-3) | (index > np.array(array.shape) - 0.5 + 1e-3)).any(-1)
    assert np.abs(ours - theirs)[inside].max(initial=0) <= 1e-4 * np.ptp(array)
    assert np.isnan(ours[out]).all()
    assert not np.isnan(ours[inside]).any()


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8, np.float64, np.dtype(">i2")])
def test_every_dtype_is_read(dtype) -> None:
    array = np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(dtype)
    view = resample(array, np.eye(4), (4, 5, 6))
    assert view.dtype == torch.float32
    assert np.allclose(view.numpy(), array.astype(np.float32), atol=1e-4)
    assert np.array_equal(resample(array, np.eye(4), (4, 5, 6), mode="nearest").numpy(), array)


def test_a_reduction_beyond_two_is_the_mean_of_its_voxels() -> None:
    array = np.random.default_rng(1).normal(size=(16, 8, 8)).astype(np.float32)
    view = resample(array, resize_map(array.shape, (4, 8, 8)), (4, 8, 8))
    assert np.allclose(view.numpy(), array.reshape(4, 4, 8, 8).mean(axis=1), atol=1e-6)


def test_reductions_count_input_voxels_per_output_step() -> None:
    matrix = view_map((80, 192, 192), (112, 140, 140), (40, 224, 224), (0.7, 140 / 384, 140 / 384))
    assert np.allclose(reductions(matrix), (4, 384 / 224, 384 / 224))
    assert averaging_cells(matrix).tolist() == [4, 1, 1]


@given(st.tuples(*[st.integers(3, 40)] * 3), st.tuples(*[st.integers(3, 40)] * 3))
def test_a_resize_covers_the_same_box(shape, target) -> None:
    matrix = resize_map(shape, target)
    first = matrix @ [-0.5, -0.5, -0.5, 1]
    last = matrix @ [*(np.array(target) - 0.5), 1]
    assert np.allclose(first[:3], -0.5)
    assert np.allclose(last[:3], np.array(shape) - 0.5)


@settings(max_examples=12, deadline=None)
@given(ANGLES, FLIPS, st.floats(0.6, 0.75), st.tuples(*[st.floats(18, 23)] * 3))
def test_a_point_phantom_lands_where_the_affine_says_and_comes_back(angles, flips, scale, point) -> None:
    spacing, shape = np.array((2.0, 1.0, 1.0)), (88, 100, 94)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in (40, 42, 44)], indexing="ij"), -1)
    blob = np.exp(-((index - point) ** 2).sum(-1) / (2 * 4.0**2)).astype(np.float32)
    # The view is so large that it does not cut the blob off when it is turned, and the blob so wide that linear interpolation, there and
    # back, does not blur one side of it more than the other: with a deviation of three voxels that alone moved its centre by up to 0.012.
    matrix = view_map((20, 21, 22), (160, 93, 93), shape, spacing, rotation_matrix(angles), scale, flips)
    view = resample(blob, matrix, shape).numpy()
    expected = np.linalg.solve(matrix, [*point, 1])[:3]
    assert np.abs(np.array(ndimage.center_of_mass(view)) - expected).max() < 0.01
    back = resample(view, np.linalg.inv(matrix), (40, 42, 44)).numpy()
    assert np.abs(np.array(ndimage.center_of_mass(back)) - point).max() < 0.01


def scipy_displaced(array: np.ndarray, matrix: np.ndarray, field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The input index of each voxel of a view, (3, d, h, w), and SciPy's value there, of the averaged volume where an axis is reduced."""
    shape = field.shape[1:]
    index = np.moveaxis(np.indices(shape), 0, -1) @ matrix[:3, :3].T + matrix[:3, 3]
    index = np.moveaxis(index, -1, 0) + field
    cells = averaging_cells(matrix)
    identity = np.diag([*cells, 1.0])
    identity[:3, 3] = (cells - 1) / 2
    averaged = scipy_views(array, identity, tuple(-(-n // c) for n, c in zip(array.shape, cells, strict=True)), order=1)
    of_cell = (index - (cells - 1)[:, None, None, None] / 2) / cells[:, None, None, None]
    return index, ndimage.map_coordinates(averaged, of_cell, order=1, mode="nearest")


@settings(max_examples=40, deadline=None)
@given(ANGLES, st.floats(0.3, 3.5), st.floats(0, 6), st.integers(0, 99))
def test_a_displaced_view_equals_scipys_map_coordinates(angles, scale, strength, seed) -> None:
    array, shape = smooth((24, 31, 18), seed), (9, 11, 10)
    matrix = view_map((12, 15, 9), (12, 10, 9), shape, (1.5, 0.7, 0.7), rotation_matrix(angles), scale)
    field = np.stack([smooth(shape, seed + axis + 1) for axis in range(3)])
    field *= strength / np.abs(field).max()
    ours = resample(array, matrix, shape, outside=np.nan, displacement=field).numpy()
    index, theirs = scipy_displaced(array, matrix, field)
    edge = np.array(array.shape)[:, None, None, None] - 0.5
    inside = ((index > -0.5 + 1e-3) & (index < edge - 1e-3)).all(0)
    out = ((index < -0.5 - 1e-3) | (index > edge + 1e-3)).any(0)
    assert np.abs(ours - theirs)[inside].max(initial=0) <= 1e-4 * np.ptp(array)
    assert np.isnan(ours[out]).all()
    assert not np.isnan(ours[inside]).any()


@settings(max_examples=25, deadline=None)
@given(ANGLES, FLIPS, st.floats(0.7, 3.0), st.tuples(*[st.floats(-4, 4)] * 3), st.sampled_from(["linear", "nearest"]))
def test_no_displacement_changes_nothing_and_a_constant_one_shifts(angles, flips, scale, shift, mode) -> None:
    array, shape = smooth((20, 22, 21), 5), (8, 9, 10)
    matrix = view_map((10, 11, 10), (12, 12, 12), shape, (1, 1, 1), rotation_matrix(angles), scale, flips)
    still = resample(array, matrix, shape, mode, displacement=np.zeros((3, *shape), np.float32))
    assert torch.allclose(still, resample(array, matrix, shape, mode), atol=1e-5)
    moved = matrix.copy()
    moved[:3, 3] += shift
    field = torch.tensor(shift, dtype=torch.float32)[:, None, None, None].expand(3, *shape)
    by_field, by_matrix = (resample(array, m, shape, mode, displacement=f) for m, f in ((matrix, field), (moved, None)))
    index = np.moveaxis(np.indices(shape), 0, -1) @ moved[:3, :3].T + moved[:3, 3]
    on_border = (np.abs(index - np.floor(index) - 0.5) < 1e-3).any(-1)  # between two voxels rounding decides, or what is outside
    assert np.abs((by_field - by_matrix).numpy())[~on_border].max(initial=0) <= 1e-4 * np.ptp(array)


@settings(max_examples=25, deadline=None)
@given(ANGLES, FLIPS, st.floats(0.7, 1.4), st.floats(0, 5))
def test_image_and_mask_stay_aligned(angles, flips, scale, strength) -> None:
    mask = (smooth((26, 30, 28), 3) > 0).astype(np.uint8)
    matrix = view_map((13, 15, 14), (22, 26, 24), (20, 24, 22), (1, 1, 1), rotation_matrix(angles), scale, flips)
    field = np.stack([smooth((20, 24, 22), seed) for seed in (7, 8, 9)])
    field *= strength / np.abs(field).max()
    as_image = resample(mask, matrix, (20, 24, 22), displacement=field).numpy()
    as_mask = resample(mask, matrix, (20, 24, 22), mode="nearest", displacement=field).numpy()
    sure = np.abs(as_image - 0.5) > 0.4375  # away from borders by more than rounding
    assert set(np.unique(as_mask)) <= {0.0, 1.0}
    assert np.array_equal(as_mask[sure & (as_image > 0.999)], as_image[sure & (as_image > 0.999)].round())
    assert np.array_equal(as_mask[as_image < 0.001], np.zeros((as_image < 0.001).sum()))


def test_the_views_affine_gives_millimetres() -> None:
    affine = np.diag([2.0, 1.0, 0.5, 1.0])
    affine[:3, 3] = (-10, 4, 7)
    matrix = resize_map((10, 20, 30), (5, 20, 60))
    view = output_affine(affine, matrix)
    assert np.allclose(np.diag(view)[:3], (4, 1, 0.25))
    assert np.allclose(view[:3, 3], (-10 + 1, 4, 7 - 0.125))
