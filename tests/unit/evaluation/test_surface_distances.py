"""Surface distances against brute force over all pairs of voxels, and against MONAI."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy.spatial.distance import cdist

from fuse_examples.imaging.oai_example.evaluation.surface_distances import Mask, SurfaceDistances, box_around, surface, surface_distances

SPACING = (0.7, 0.365, 0.5)


def brute_surface(mask: Mask) -> list[tuple[int, ...]]:
    found = []
    for index in np.argwhere(mask):
        for axis in range(3):
            for step in (-1, 1):
                near = index.copy()
                near[axis] += step
                if not 0 <= near[axis] < mask.shape[axis] or not mask[tuple(near)]:
                    found.append(tuple(index.tolist()))
    return sorted(set(found))


def brute_force(truth: Mask, predicted: Mask, to_mm: np.ndarray) -> SurfaceDistances:
    one, other = (np.array(brute_surface(mask)) @ to_mm.T for mask in (truth, predicted))
    pairs = cdist(one, other)
    return SurfaceDistances(pairs.min(axis=1), pairs.min(axis=0))


def blob(seed: int, shape: tuple[int, int, int] = (9, 8, 7)) -> Mask:
    generator = np.random.default_rng(seed)
    mask = generator.random(shape) < 0.5
    mask[2:6, 2:6, 2:5] |= generator.random((4, 4, 3)) < 0.8
    mask[4, 4, 4] = True
    return mask


def single(*index: int) -> Mask:
    mask = np.zeros((9, 8, 7), dtype=bool)
    mask[index] = True
    return mask


def slab(axis: int, at: int) -> Mask:
    mask = np.zeros((9, 8, 7), dtype=bool)
    np.moveaxis(mask, axis, 0)[at] = True
    return mask


PAIRS = {
    "random": (blob(0), blob(1)),
    "identical": (blob(2), blob(2)),
    "single voxels": (single(0, 0, 0), single(8, 7, 6)),
    "single voxel in a blob": (single(4, 4, 4), blob(3)),
    "one slice": (slab(0, 4), slab(0, 6)),
    "slices across": (slab(0, 0), slab(2, 3)),
    "everything": (np.ones((9, 8, 7), dtype=bool), single(3, 3, 3)),
    "touching the border": (slab(1, 0) | blob(4), slab(1, 7) | slab(2, 6)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_distances_equal_brute_force_and_monai(name: str) -> None:
    truth, predicted = PAIRS[name]
    found = surface_distances(truth, predicted, np.diag(SPACING))
    by_hand = brute_force(truth, predicted, np.diag(SPACING))
    np.testing.assert_allclose(np.sort(found.from_truth), np.sort(by_hand.from_truth), atol=1e-12)
    np.testing.assert_allclose(np.sort(found.from_prediction), np.sort(by_hand.from_prediction), atol=1e-12)
    one_hot = [torch.from_numpy(np.stack([~mask, mask])[None]) for mask in (predicted, truth)]
    hd95 = compute_hausdorff_distance(*one_hot, percentile=95, spacing=SPACING)
    assd = compute_average_surface_distance(*one_hot, symmetric=True, spacing=SPACING)
    # Away from the grid's own distances: MONAI compares in single precision.
    near = compute_surface_dice(*one_hot, class_thresholds=[0.9], spacing=SPACING)
    assert found.hausdorff() == pytest.approx(hd95.item(), abs=1e-5)
    assert found.average() == pytest.approx(assd.item(), abs=1e-5)
    assert found.dice(0.9) == pytest.approx(near.item(), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0.0, 2.5))
def test_any_pair_equals_brute_force_on_a_sheared_grid(one: int, other: int, tolerance: float) -> None:
    to_mm = np.array([[0.0, 0.4, 0.1], [0.7, 0.05, 0.0], [0.2, 0.0, -0.5]])
    truth, predicted = blob(one), blob(other)
    found, by_hand = surface_distances(truth, predicted, to_mm), brute_force(truth, predicted, to_mm)
    assert found.hausdorff(100) == pytest.approx(by_hand.hausdorff(100))
    assert found.hausdorff() == pytest.approx(by_hand.hausdorff())
    assert found.average() == pytest.approx(by_hand.average())
    tolerance += 1e-6  # not on a distance of the grid, where rounding would decide
    assert found.dice(tolerance) == pytest.approx(by_hand.dice(tolerance))


def test_figures_by_hand() -> None:
    distances = SurfaceDistances(np.array([0.0, 0, 0, 4]), np.array([0.0, 1.0]))
    assert distances.hausdorff(100) == 4
    assert distances.hausdorff() == pytest.approx(3.4)  # 0.85 of the way from 0 to 4
    assert distances.average() == pytest.approx(5 / 6)
    assert distances.dice(0.5) == pytest.approx(4 / 6)
    assert distances.dice(1.0) == pytest.approx(5 / 6)


def test_surface_is_what_has_a_neighbour_outside() -> None:
    for mask in (blob(5), slab(0, 3), np.ones((9, 8, 7), dtype=bool)):
        assert [tuple(index) for index in np.argwhere(surface(mask)).tolist()] == brute_surface(mask)


def test_an_empty_mask_is_refused() -> None:
    nothing = np.zeros((9, 8, 7), dtype=bool)
    for pair in ((nothing, blob(0)), (blob(0), nothing), (nothing, nothing)):
        with pytest.raises(ValueError, match="an empty mask has no surface"):
            surface_distances(*pair, np.eye(3))


def test_a_box_around_both() -> None:
    one, other = (slice(2, 5), slice(0, 1), slice(3, 9)), (slice(1, 3), slice(0, 4), slice(5, 6))
    assert box_around([one, other]) == (slice(1, 5), slice(0, 4), slice(3, 9))
    assert box_around([None, other]) == other
    assert box_around([None, None]) is None
