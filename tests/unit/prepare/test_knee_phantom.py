"""The parts of the phantom, each against an independent formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from fuse_examples.imaging.oai_example.prepare.knee_phantom.allocation import N_FOLDS, Allocation, SeriesTraits, allocate, area_under_curve
from fuse_examples.imaging.oai_example.prepare.knee_phantom.frame import (
    Surface,
    Waves,
    capsule,
    ellipsoid,
    inside,
    knee_frame,
    smooth_max,
    smooth_min,
    sum_of_waves,
    surface,
)
from fuse_examples.imaging.oai_example.prepare.knee_phantom.measurements import mean_thickness_mm, volume_mm3
from fuse_examples.imaging.oai_example.prepare.knee_phantom.painting import Contrast, paint_knee
from fuse_examples.imaging.oai_example.prepare.knee_phantom.shape import draw_shape, other_knee, with_thickness

SIZE = (20, 24, 22)


def centred(spacing: tuple[float, float, float], size: tuple[int, int, int] = SIZE) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -np.array(spacing) * (np.array(size) - 1) / 2
    return affine


def tilted() -> np.ndarray:
    affine = centred((2.0, 1.1, 1.3))
    angle = 0.1
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ affine


def points(affine: np.ndarray, size: tuple[int, int, int] = SIZE) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def test_frame_holds_the_world_position_of_every_voxel() -> None:
    frame = knee_frame(SIZE, tilted())
    assert np.allclose(np.stack([frame.x, frame.y, frame.z], axis=-1), points(tilted()), atol=1e-4)
    assert frame.x.dtype == np.float32
    assert frame.spacing == pytest.approx((2.0, 1.1, 1.3))


def test_part_of_a_frame_holds_all_voxels_of_the_box_asked_for() -> None:
    frame = knee_frame(SIZE, tilted())
    part = frame.around((-4.0, -3.0, 1.0), (6.0, 5.0, 8.0), margin=0)
    wanted = np.all((points(tilted()) >= (-4, -3, 1)) & (points(tilted()) <= (6, 5, 8)), axis=-1)
    covered = np.zeros(SIZE, dtype=bool)
    covered[part.box] = True
    assert wanted.any()
    assert not np.any(wanted & ~covered)
    assert covered.sum() < 0.5 * covered.size
    assert np.array_equal(part.x, frame.x[part.box])
    nested = part.around((-1.0, -1.0, 2.0), (1.0, 1.0, 5.0), margin=0)
    assert np.array_equal(nested.y, part.y[inside(nested.box, part.box)])


def test_sum_of_waves_is_a_sum_of_cosines_of_variance_one() -> None:
    rng = np.random.default_rng(0)
    waves = Waves(rng.normal(0, 0.3, (30, 3)), rng.uniform(0, 6, 30))
    expected = np.cos(points(tilted()) @ waves.vectors.T + waves.phases).sum(-1) * np.sqrt(2 / 30)
    assert np.allclose(sum_of_waves(waves, SIZE, tilted()), expected, atol=2e-4)


def test_capsule_is_the_distance_to_a_segment() -> None:
    start, end = np.array((-3.0, 2.0, -6.0)), np.array((5.0, -1.0, 4.0))
    along = np.linspace(0, 1, 4001)[:, None] * (end - start) + start
    frame = knee_frame(SIZE, tilted())
    distance = capsule(frame, tuple(start), tuple(end), 2.0)
    for index in [(0, 0, 0), (10, 12, 11), (19, 3, 20), (5, 20, 2)]:
        nearest = np.linalg.norm(along - points(tilted())[index], axis=1).min()
        assert distance[index] == pytest.approx(nearest - 2.0, abs=2e-3)


def test_ellipsoid_of_equal_radii_is_a_sphere() -> None:
    frame = knee_frame(SIZE, tilted())
    expected = np.linalg.norm(points(tilted()) - (1, 2, 3), axis=-1) - 6
    assert np.allclose(ellipsoid(frame, (1.0, 2.0, 3.0), (6.0, 6.0, 6.0)), expected, atol=1e-4)


def test_surface_turns_any_level_function_into_a_distance() -> None:
    radius = np.linalg.norm(points(tilted()), axis=-1)
    built = surface((3 * (radius**2 - 81)).astype(np.float32), (2.0, 1.1, 1.3))
    near = np.abs(radius - 9) < 1.0
    assert np.allclose(built.distance[near], (radius - 9)[near], atol=0.12)


@given(st.floats(-1.5, 1.5), st.sampled_from([0, 1, 2]))
@settings(max_examples=25, deadline=None)
def test_coverage_by_a_flat_surface_is_the_exact_share_of_each_voxel(offset: float, axis: int) -> None:
    spacing = (2.0, 1.1, 1.3)
    level = points(centred(spacing))[..., axis].astype(np.float32)
    share = surface(level, spacing).covered(offset)
    low = level - spacing[axis] / 2
    assert np.allclose(share, np.clip((offset - low) / spacing[axis], 0, 1), atol=1e-4)


def test_layer_between_two_surfaces_holds_its_volume() -> None:
    level = points(centred((2.0, 1.1, 1.3)))[..., 2].astype(np.float32)
    bed = Surface(level, 1.3)
    thin = bed.covered(np.full(SIZE, 0.4, dtype=np.float32)) - bed.covered()
    assert thin[3, 3].sum() * 1.3 == pytest.approx(0.4, abs=1e-4)


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0.1, 4))
def test_smooth_extremes_bound_the_sharp_ones(a: float, b: float, width: float) -> None:
    first, second = np.float32([a]), np.float32([b])
    high, low = smooth_max(first, second, width)[0], smooth_min(first, second, width)[0]
    assert max(a, b) - 1e-4 <= high <= max(a, b) + width / 4 + 1e-4
    assert min(a, b) - width / 4 - 1e-4 <= low <= min(a, b) + 1e-4


# --- measurements ---


@pytest.mark.parametrize("thickness", [2.5, 4.0])
def test_mean_thickness_of_a_spherical_shell(thickness: float) -> None:
    spacing = (1.0, 0.7, 0.8)
    size = (70, 100, 90)
    radius = np.linalg.norm(points(centred(spacing, size), size), axis=-1)
    mask = ((radius >= 25) & (radius < 25 + thickness)).astype(np.uint8)
    assert mean_thickness_mm(mask, centred(spacing, size), labels=(1,)) == pytest.approx(thickness, rel=0.05)


def test_volume_and_thickness_of_small_things() -> None:
    mask = np.zeros((5, 6, 7), dtype=np.uint8)
    assert mean_thickness_mm(mask, np.eye(4)) == 0
    mask[1:3, 2:4, 3:5] = 5
    assert volume_mm3(mask, np.diag([2, 0.5, 3, 1])) == pytest.approx(8 * 3)
    assert mean_thickness_mm(mask, np.eye(4)) == 0  # a meniscus is no cartilage


# --- shapes and painting ---


def test_a_left_knee_is_the_mirror_image_of_a_right_one() -> None:
    shape = with_thickness(draw_shape(np.random.default_rng(3)), 3.0)
    size = (36, 60, 60)
    right = centred((2.0, 1.4, 1.4), size)
    left = np.diag([-1.0, 1.0, 1.0, 1.0]) @ right
    signal, mask = paint_knee(shape, size, right, Contrast())
    mirrored_signal, mirrored_mask = paint_knee(shape, size, left, Contrast())
    assert set(np.unique(mask)) == set(range(7))
    assert np.mean(mask != mirrored_mask[::-1]) < 1e-4
    assert np.abs(signal - mirrored_signal[::-1]).max() < 0.02
    assert np.mean(mask != mirrored_mask) > 0.01  # and a knee is not its own mirror image


def test_signal_is_finite_float32_between_air_and_fluid_with_soft_edges() -> None:
    size = (36, 60, 60)
    signal, mask = paint_knee(draw_shape(np.random.default_rng(4)), size, centred((2.0, 1.4, 1.4), size), Contrast())
    assert signal.dtype == np.float32
    assert mask.dtype == np.uint8
    assert signal.min() >= 0
    assert signal.max() < 1.1
    cartilage = signal[mask == 1]
    assert 0.6 < np.median(cartilage) < 0.76
    assert np.mean((cartilage > 0.2) & (cartilage < 0.6)) > 0.05  # partial volume at the rims


def test_thickness_is_set_without_touching_anything_else() -> None:
    shape = draw_shape(np.random.default_rng(5))
    thin, thick = with_thickness(shape, 2.4), with_thickness(shape, 3.6)
    assert thick.femoral_thickness / thin.femoral_thickness == pytest.approx(1.5)
    assert thick.patellar_thickness / thin.patellar_thickness == pytest.approx(1.5)
    assert thick.femoral_area < thin.femoral_area
    assert (thick.scale, thick.condyle_radius, thick.meniscus_width) == (thin.scale, thin.condyle_radius, thin.meniscus_width)
    again = with_thickness(thin, 3.6)
    assert again.femoral_area == pytest.approx(thick.femoral_area)


def test_knees_of_one_patient_are_alike_and_not_equal() -> None:
    rng = np.random.default_rng(6)
    shape = draw_shape(rng)
    other = other_knee(rng, shape)
    assert other != shape
    assert other.scale == pytest.approx(shape.scale, rel=0.021)
    assert other.femoral_thickness == shape.femoral_thickness


# --- allocation ---


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=40))
def test_area_under_curve_is_sklearns(pairs: list[tuple[int, bool]]) -> None:
    score, truth = np.array([p[0] for p in pairs], dtype=float), np.array([p[1] for p in pairs])
    if truth.all() or not truth.any():
        assert area_under_curve(score, truth) == 0.5
    else:
        assert area_under_curve(score, truth) == pytest.approx(roc_auc_score(truth, score))


def patients_and_series() -> tuple[np.ndarray, SeriesTraits, np.ndarray]:
    rng = np.random.default_rng(0)
    traits = np.c_[rng.normal(size=(200, 2)), rng.integers(0, 2, 200)]
    owner = np.repeat(np.arange(200), rng.integers(1, 3, 200))
    return traits, SeriesTraits(traits[owner], owner, watched=3), (np.arange(200) < 100).astype(np.int64)


def test_each_group_is_dealt_evenly_to_cohorts_and_folds() -> None:
    traits, series, groups = patients_and_series()
    drawn = allocate(np.random.default_rng(1), traits, groups, series)
    for group in (0, 1):
        for fold in range(N_FOLDS):
            here = (groups == group) & (drawn.fold == fold)
            assert (np.count_nonzero(here & drawn.cohort), np.count_nonzero(here & ~drawn.cohort)) == (10, 10)


def worst_in_a_fold(drawn: Allocation, series: SeriesTraits) -> float:
    cohort, fold = drawn.cohort[series.owner], drawn.fold[series.owner]
    areas = [roc_auc_score(cohort[fold == k], series.numbers[fold == k, column]) for k in range(N_FOLDS) for column in range(3)]
    return float(np.max(np.abs(np.array(areas) - 0.5)))


def test_no_watched_trait_tells_the_cohort_in_any_fold() -> None:
    traits, series, groups = patients_and_series()
    for seed in range(5):
        assert worst_in_a_fold(allocate(np.random.default_rng(seed), traits, groups, series), series) <= 0.0801


def test_traits_together_do_not_tell_the_cohort_and_do_not_tell_its_opposite() -> None:
    traits, series, groups = patients_and_series()
    areas = []
    for seed in range(3):
        truth = allocate(np.random.default_rng(seed), traits, groups, series).cohort[series.owner]
        for split in range(3):
            folds = GroupKFold(5, shuffle=True, random_state=split)
            score = cross_val_predict(
                LogisticRegression(), series.numbers, truth, groups=series.owner, cv=folds, method="decision_function"
            )
            areas.append(roc_auc_score(truth, score))
    assert 0.45 < np.mean(areas) < 0.55
    assert 0.35 < np.min(areas) < np.max(areas) < 0.65


def test_folds_share_a_trait_more_evenly_than_chance() -> None:
    traits, series, groups = patients_and_series()
    drawn = allocate(np.random.default_rng(1), traits, groups, series)
    means = [[traits[(drawn.fold == k) & (drawn.cohort == value), 0].mean() for k in range(N_FOLDS)] for value in (True, False)]
    assert np.std(means, axis=1).max() < 0.1  # by chance 1 / sqrt(20) = 0.22


@pytest.mark.parametrize("patients", [1, 2, 7, 23])
def test_small_sets_are_allocated_too(patients: int) -> None:
    traits = np.random.default_rng(2).normal(size=(patients, 3))
    series = SeriesTraits(traits, np.arange(patients), watched=3)
    drawn = allocate(np.random.default_rng(3), traits, np.zeros(patients, dtype=np.int64), series)
    assert abs(2 * int(drawn.cohort.sum()) - patients) <= 1
    assert np.ptp(np.bincount(drawn.fold, minlength=N_FOLDS)) <= 2
