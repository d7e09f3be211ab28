"""Crop boxes for any volume, range and seed: inside, of the drawn size, and the same for the same generator."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.geometry.crops import CropBox, draw_crop, through_plane_axis

shapes = st.tuples(*[st.integers(1, 600)] * 3)
spacings = st.tuples(*[st.floats(0.1, 8)] * 3)
seeds = st.integers(0, 2**32 - 1)


def ranges(least: float, largest: float) -> st.SearchStrategy[tuple[float, float]]:
    return st.tuples(st.floats(least, largest), st.floats(least, largest)).map(lambda pair: (min(pair), max(pair)))


@given(seeds, shapes, spacings, ranges(0.01, 1), ranges(0.01, 1), ranges(0.25, 4), st.sampled_from([None, 0, 1, 2]))
def test_box_lies_inside_with_shares_in_range(seed, shape, spacing, in_plane, through_plane, aspect, axis) -> None:
    box = draw_crop(np.random.default_rng(seed), shape, spacing, in_plane, through_plane, aspect, axis)
    assert all(low >= 0 and high <= n and size > 0 for low, high, size, n in zip(box.start, box.stop, box.size, shape, strict=True))
    shares = [size / n for size, n in zip(box.size, shape, strict=True)]
    length = shares.pop(axis if axis is not None else through_plane_axis(spacing))
    area = shares[0] * shares[1]
    assert through_plane[0] - 1e-9 <= length <= through_plane[1] + 1e-9
    assert in_plane[0] * (1 - 1e-9) <= area <= in_plane[1] * (1 + 1e-9)
    # The ratio is within its range, or else it gave way as little as the area made it: an edge spans the whole slice.
    ratio = shares[0] / shares[1]
    if not aspect[0] * (1 - 1e-9) <= ratio <= aspect[1] * (1 + 1e-9):
        assert max(shares) == pytest.approx(1)


@given(seeds, shapes, spacings)
def test_same_seed_same_box_and_six_draws(seed, shape, spacing) -> None:
    first, second = np.random.default_rng(seed), np.random.default_rng(seed)
    arguments = (shape, spacing, (0.1, 0.6), (0.2, 0.9), (0.8, 1.25))
    assert draw_crop(first, *arguments) == draw_crop(second, *arguments)
    second = np.random.default_rng(seed)
    second.random(6)
    assert first.random() == second.random()


@given(shapes, spacings)
def test_whole_volume(shape, spacing) -> None:
    box = draw_crop(np.random.default_rng(0), shape, spacing, (1, 1), (1, 1))
    assert box == CropBox((0.0, 0.0, 0.0), tuple(map(float, shape)))


def test_shares_and_positions_fill_their_ranges_evenly() -> None:
    rng = np.random.default_rng(0)
    boxes = [draw_crop(rng, (100, 200, 300), (2, 1, 1), (0.2, 0.6), (0.3, 0.5), (0.5, 2.0)) for _ in range(4000)]
    size, start = np.array([box.size for box in boxes]), np.array([box.start for box in boxes])
    drawn = {
        "length": (size[:, 0] / 100 - 0.3) / 0.2,
        "area": (size[:, 1] * size[:, 2] / 60_000 - 0.2) / 0.4,
        **{f"position {axis}": start[:, axis] / (n - size[:, axis]) for axis, n in enumerate((100, 200, 300))},
    }
    for name, values in drawn.items():
        shares = np.histogram(values, bins=5, range=(0, 1))[0] / 4000
        assert np.abs(shares - 0.2).max() < 0.03, name
    ratio = np.log((size[:, 1] / 200) / (size[:, 2] / 300))
    assert abs(np.mean(ratio)) < 0.03
    assert ratio.min() < math.log(0.55)
    assert ratio.max() > math.log(1.8)
    draws = np.array(list(drawn.values()))
    assert np.abs(np.corrcoef(draws) - np.eye(5)).max() < 0.06, "the draws are independent"


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [((0.7, 0.36, 0.36), 0), ((1, 1, 3), 2), ((1, 2, 1), 1), ((1, 1, 1), 0), ((0.9999999, 1, 1), 0), ((1, 2, 2), 1), ((1, 1, 1.01), 2)],
)
def test_through_plane_axis_is_the_first_of_the_largest_spacing(spacing: tuple[float, float, float], axis: int) -> None:
    assert through_plane_axis(spacing) == axis
    box = draw_crop(np.random.default_rng(0), (50, 50, 50), spacing, (1, 1), (0.5, 0.5))
    assert [size for size in box.size if size != 50] == [25]
    assert box.size[axis] == 25


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("scale_in_plane", (0.0, 0.5)),
        ("scale_in_plane", (0.5, 1.1)),
        ("scale_through_plane", (0.6, 0.5)),
        ("aspect", (-1.0, 1.0)),
        ("aspect", (2.0, 1.0)),
    ],
)
def test_ranges_that_cannot_be_drawn_from_are_refused(name: str, bad: tuple[float, float]) -> None:
    arguments = {"scale_in_plane": (0.5, 1), "scale_through_plane": (0.5, 1), name: bad}
    with pytest.raises(ValueError, match=rf"{name} must be \(least, largest\) with 0 < least <= largest.*not \({bad[0]}, {bad[1]}\)"):
        draw_crop(np.random.default_rng(0), (9, 9, 9), (1, 1, 1), **arguments)


def test_an_axis_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="through_plane must be 0, 1 or 2, not 3"):
        draw_crop(np.random.default_rng(0), (9, 9, 9), (1, 1, 1), (0.5, 1), (0.5, 1), through_plane=3)
