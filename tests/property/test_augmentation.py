"""Random draws: a function of (seed, epoch, row, view) alone, within their ranges, and what moves the image moves the mask."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from fuse_examples.imaging.oai_example.data.augmentation import (
    IntensityDraw,
    apply_intensity,
    draw_intensity,
    draw_pose,
    exchange_labels,
    flippable_axes,
    gaussian_blur,
    generator,
    mirrors_sides,
    shade,
)


@dataclass(frozen=True)
class Settings:
    rotation_degrees: float = 15
    flip_axes: tuple[str, ...] = ("left_right",)
    gamma_range: tuple[float, float] = (0.5, 2.0)
    noise_std: float = 0.1
    probability: float = 0.5


KEYS = st.tuples(st.integers(0, 2**31), st.integers(0, 999), st.integers(0, 10**6), st.integers(0, 9))


@given(KEYS)
def test_the_same_key_gives_the_same_draw(key) -> None:
    one, two = (draw_pose(generator(*key), Settings(), "RAS", (0.8, 1.25)) for _ in range(2))
    assert np.array_equal(one.rotation, two.rotation)
    assert (one.scale, one.flips) == (two.scale, two.flips)
    assert draw_intensity(generator(*key), Settings()) == draw_intensity(generator(*key), Settings())


@given(KEYS)
def test_draws_stay_in_their_ranges(key) -> None:
    pose = draw_pose(generator(*key), Settings(probability=1), "RAS", (0.8, 1.25))
    assert np.allclose(pose.rotation @ pose.rotation.T, np.eye(3))
    assert np.isclose(np.linalg.det(pose.rotation), 1)
    assert 0.8 <= pose.scale <= 1.25
    assert not pose.flips[1]
    assert not pose.flips[2]
    intensity = draw_intensity(generator(*key), Settings(probability=1))
    assert 0.5 <= intensity.gamma <= 2
    assert 0 <= intensity.noise_std <= 0.1


def test_probability_zero_changes_nothing_and_neighbours_differ() -> None:
    still = Settings(probability=0, flip_axes=())
    poses = [draw_pose(generator(0, 0, row), still, "RAS", (0.8, 1.25)) for row in range(50)]
    assert all(np.array_equal(p.rotation, np.eye(3)) and p.scale == 1 and not any(p.flips) for p in poses)
    moving = [
        draw_pose(generator(0, epoch, row), Settings(probability=1), "RAS", (0.8, 1.25)).scale for epoch in range(3) for row in range(3)
    ]
    assert len(set(moving)) == 9


def test_about_half_of_the_draws_are_applied_and_flipped() -> None:
    poses = [draw_pose(generator(0, 0, row), Settings(), "RAS", (0.8, 1.25)) for row in range(2000)]
    assert 0.45 < np.mean([p.scale != 1 for p in poses]) < 0.55
    assert 0.45 < np.mean([p.flips[0] for p in poses]) < 0.55


def test_named_flips_find_their_axis_in_any_orientation() -> None:
    assert flippable_axes(["left_right"], "RAS") == (True, False, False)
    assert flippable_axes(["left_right"], "PIR") == (False, False, True)
    assert flippable_axes(["inferior_superior", "posterior_anterior"], "LIP") == (False, True, True)
    flipped = [draw_pose(generator(0, 0, row), Settings(), "PIR") for row in range(20)]
    assert {p.flips[2] for p in flipped} == {True, False}
    assert all(mirrors_sides(p, "PIR") == p.flips[2] for p in flipped)


def test_sided_labels_are_exchanged() -> None:
    mask = torch.tensor([0, 1, 2, 3, 2, 1])
    assert exchange_labels(mask, [(1, 2)]).tolist() == [0, 2, 1, 3, 1, 2]
    assert mask.tolist() == [0, 1, 2, 3, 2, 1]


def test_gamma_keeps_the_range_and_noise_has_its_deviation() -> None:
    view = torch.linspace(0, 1, 8000).reshape(20, 20, 20)
    darker = apply_intensity(view.clone(), IntensityDraw(2.0, 0.0, 1))
    assert torch.allclose(darker, view**2, atol=1e-6)
    noisy = apply_intensity(view.clone(), IntensityDraw(1.0, 0.1, 1))
    assert abs(float((noisy - view).std()) - 0.1) < 0.005
    assert torch.equal(noisy, apply_intensity(view.clone(), IntensityDraw(1.0, 0.1, 1)))


def test_the_blur_is_scipys_gaussian() -> None:
    view = torch.randn(12, 14, 16, generator=torch.Generator().manual_seed(3))
    expected = ndimage.gaussian_filter(view.numpy().astype(float), 0.8, mode="nearest", radius=3)
    assert np.allclose(gaussian_blur(view, 0.8).numpy(), expected, atol=1e-5)
    drawn = [draw_intensity(generator(0, 0, row), Settings(), blur_std=1.5).blur_std for row in range(400)]
    assert 0.4 < np.mean(np.array(drawn) > 0) < 0.6
    assert max(drawn) <= 1.5
    assert not torch.equal(apply_intensity(view, IntensityDraw(1.0, 0.0, 1, 0.8)), view)


def test_shading_is_the_exponential_of_its_polynomial_with_mean_one_and_leaves_the_smallest_value() -> None:
    view = torch.rand(9, 12, 7, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    coefficients = (0.3, -0.2, 0.5, 0.1, -0.4, 0.2, 0.25, -0.15, 0.35)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in view.shape), indexing="ij")
    field = np.exp(0.3 * x - 0.2 * y + 0.5 * z + 0.1 * x**2 - 0.4 * y**2 + 0.2 * z**2 + 0.25 * y * z - 0.15 * x * z + 0.35 * x * y)
    low = float(view.min())
    expected = low + (view.numpy() - low) * field / field.mean()
    shaded = apply_intensity(view.clone(), IntensityDraw(1.0, 0.0, 1, shading=coefficients))
    assert np.allclose(shaded.numpy(), expected, atol=1e-6)
    assert np.allclose(shade(view - 5, coefficients).numpy(), expected - 5, atol=1e-6)  # as z-scores are: what is lowest stays dark


@given(KEYS)
def test_shading_is_drawn_in_its_range_and_everything_else_as_without_it(key) -> None:
    plain, shaded = (draw_intensity(generator(*key), Settings(probability=1), 1.0, largest) for largest in (0.0, 0.4))
    assert len(shaded.shading) == 9
    assert all(abs(coefficient) <= 0.4 for coefficient in shaded.shading)
    assert plain == replace(shaded, shading=())


def test_half_of_the_views_are_shaded() -> None:
    drawn = [draw_intensity(generator(0, 0, row), Settings(), shading=0.4).shading for row in range(400)]
    assert 0.4 < np.mean([len(one) > 0 for one in drawn]) < 0.6
    assert -0.4 <= np.min([one for one in drawn if one]) < -0.35
