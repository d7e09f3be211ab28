"""Elastic fields that do not fold, and changes of grey values against formulas of their own."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.configuration.segmentation_augmentation import SegmentationAugmentation
from fuse_examples.imaging.oai_example.data.augmentation import gaussian_blur
from fuse_examples.imaging.oai_example.data.segmentation_augmentation import (
    GreyDraw,
    apply_grey,
    draw_elastic,
    draw_grey,
    elastic_field,
)

VIEW = torch.rand((12, 10, 14), generator=torch.Generator().manual_seed(0)) * 2 - 0.5


def setting(**changes: Any) -> SegmentationAugmentation:
    return SegmentationAugmentation(**{"probability": 1.0} | changes)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    largest=st.floats(0.1, 5.0),
    size=st.tuples(*[st.integers(6, 30)] * 3),
    spacing=st.tuples(*[st.floats(0.4, 2.0)] * 3),
)
def test_an_elastic_field_never_folds(seed: int, largest: float, size: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    extent = np.array(size) * spacing
    points = draw_elastic(np.random.default_rng(seed), setting(elastic_mm=largest, elastic_spacing_mm=30.0), extent)
    assert points is not None
    field = elastic_field(points, size, spacing)
    assert field.shape == (3, *size)
    millimetres = field.numpy() * np.array(spacing)[:, None, None, None]
    assert np.abs(millimetres).max() <= largest + 1e-5
    gradients = [np.diff(millimetres, axis=axis + 1) / spacing[axis] for axis in range(3)]
    interior = [gradient[:, : size[0] - 1, : size[1] - 1, : size[2] - 1] for gradient in gradients]
    jacobian = np.moveaxis(np.stack(interior, axis=1), (0, 1), (-2, -1)) + np.eye(3)
    assert np.linalg.det(jacobian).min() > 0


def test_elastic_points_are_upsampled_from_the_first_to_the_last_voxel() -> None:
    points = np.random.default_rng(0).normal(size=(3, 2, 3, 2)).astype(np.float32)
    field = elastic_field(points, (5, 9, 4), (0.5, 2.0, 1.0))
    for corner in product((0, -1), repeat=3):
        assert field[(slice(None), *corner)].tolist() == pytest.approx((points[(slice(None), *corner)] / (0.5, 2.0, 1.0)).tolist())
    assert field[1, 0, 4, 0] == pytest.approx(points[1, 0, 1, 0] / 2)


def test_no_elastic_field_without_a_displacement_or_a_chance() -> None:
    extent = np.full(3, 50.0)
    for nothing in (setting(elastic_mm=0.0), setting(probability=0.0)):
        assert draw_elastic(np.random.default_rng(0), nothing, extent) is None
    lengths = [
        p.shape
        for p in [draw_elastic(np.random.default_rng(0), setting(elastic_spacing_mm=12.0), np.array([50.0, 11, 24]))]
        if p is not None
    ]
    assert lengths == [(3, 5, 2, 3)]


def test_grey_draws_keep_to_their_ranges_and_happen_as_often_as_they_should() -> None:
    chosen = setting(
        probability=0.3, noise_std=0.2, blur_std=2.0, brightness_range=(0.5, 0.9), contrast_range=(2, 3), lowest_resolution=0.4
    )
    draws = [draw_grey(np.random.default_rng(seed), chosen) for seed in range(1500)]
    ranges = {
        "noise_std": (0, 0.2),
        "blur_std": (0, 2.0),
        "brightness": (0.5, 0.9),
        "contrast": (2, 3),
        "zoom": (0.4, 1),
        "gamma": (0.8, 1.25),
    }
    for name, (low, high) in ranges.items():
        values = np.array([getattr(draw, name) for draw in draws])
        happened = values[values != getattr(GreyDraw(), name)]
        assert len(happened) / len(draws) == pytest.approx(0.3, abs=0.05)
        assert low <= happened.min() <= low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) <= happened.max() <= high
    assert np.mean([draw.inverted for draw in draws]) == pytest.approx(0.25, abs=0.05)
    assert len({draw.noise_seed for draw in draws}) == len(draws)


def test_each_change_is_its_formula() -> None:
    low, high, mean = float(VIEW.min()), float(VIEW.max()), float(VIEW.mean())
    assert torch.equal(apply_grey(VIEW, GreyDraw()), VIEW)
    assert torch.allclose(apply_grey(VIEW, GreyDraw(brightness=1.2)), VIEW * 1.2)
    assert torch.allclose(apply_grey(VIEW, GreyDraw(contrast=1.5)), (mean + (VIEW - mean) * 1.5).clamp(low, high), atol=1e-6)
    assert torch.equal(apply_grey(VIEW, GreyDraw(blur_std=0.8)), gaussian_blur(VIEW, 0.8))
    gamma = low + (high - low) * ((VIEW - low) / (high - low)) ** 0.7
    assert torch.allclose(apply_grey(VIEW, GreyDraw(gamma=0.7)), gamma, atol=1e-5)
    negative = high - (high - low) * ((high - VIEW) / (high - low)) ** 0.7
    assert torch.allclose(apply_grey(VIEW, GreyDraw(gamma=0.7, inverted=True)), negative, atol=1e-5)
    noisy = apply_grey(VIEW, GreyDraw(noise_std=0.3, noise_seed=5)) - VIEW
    assert float(noisy.std()) == pytest.approx(0.3, rel=0.1)
    assert torch.equal(noisy, apply_grey(VIEW, GreyDraw(noise_std=0.3, noise_seed=5)) - VIEW)


def test_low_resolution_keeps_slow_changes_and_loses_fast_ones() -> None:
    ramp = torch.arange(24.0).expand(24, 24, 24)
    assert torch.allclose(apply_grey(ramp, GreyDraw(zoom=0.5))[..., 2:-2], ramp[..., 2:-2], atol=1e-4)
    stripes = torch.arange(24).remainder(2).float().expand(24, 24, 24)
    assert float((apply_grey(stripes, GreyDraw(zoom=0.5)) - 0.5).abs().max()) < 1e-6
