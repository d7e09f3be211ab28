"""Padding to sizes that a network takes: where it goes, how it is undone, and that it does not count."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fuse_examples.imaging.oai_example.models.padding import (
    average_over_image,
    crop,
    image_shares,
    maximum_over_image,
    pad,
    padded_size,
    padding_share,
)

SIZES = st.tuples(*[st.integers(1, 40)] * 3)
MULTIPLES = st.sampled_from([1, 8, 16, 32])


def test_the_example_of_the_default_size() -> None:
    assert padded_size((40, 224, 224), 32) == (64, 224, 224)
    assert padding_share((40, 224, 224), 32) == pytest.approx(24 / 64)
    assert padding_share((40, 224, 224), 8) == 0


@given(size=SIZES, multiple=MULTIPLES)
@settings(max_examples=40, deadline=None)
def test_border_values_are_repeated_on_both_sides_and_cropped_again(size: tuple[int, int, int], multiple: int) -> None:
    x = torch.rand(2, 1, *size)
    padded = pad(x, multiple)
    assert tuple(padded.shape[2:]) == padded_size(size, multiple)
    assert torch.equal(crop(padded, size, multiple), x)
    for axis, length in enumerate(size, start=2):
        missing = padded.shape[axis] - length
        places = (torch.arange(padded.shape[axis]) - missing // 2).clamp(0, length - 1)  # the odd voxel goes behind
        x = x.index_select(axis, places)
    assert torch.equal(padded, x)


def test_a_size_that_fits_is_not_copied() -> None:
    x = torch.rand(1, 1, 8, 16, 8)
    assert pad(x, 8) is x


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_and_memory_format_stay(dtype: torch.dtype) -> None:
    x = torch.rand(2, 3, 5, 6, 7).to(dtype).to(memory_format=torch.channels_last_3d)
    padded = pad(x, 8)
    assert padded.dtype == dtype
    assert padded.is_contiguous(memory_format=torch.channels_last_3d)


@given(length=st.integers(1, 100), multiple=st.sampled_from([8, 16, 32]), finer=st.sampled_from([1, 2, 8]))
@settings(max_examples=60, deadline=None)
def test_a_cells_share_is_counted_voxel_by_voxel(length: int, multiple: int, finer: int) -> None:
    padded = padded_size((length,), multiple)[0]
    before = (padded - length) // 2
    is_image = [before <= place < before + length for place in range(padded)]
    edge = multiple // finer
    expected = [sum(is_image[start : start + edge]) / edge for start in range(0, padded, edge)]
    assert image_shares(length, len(expected), multiple) == pytest.approx(expected)
    if finer == 1 and len(expected) > 1:
        assert min(expected) >= 0.5


def pooled_by_voxel(cells: Tensor, size: tuple[int, int, int], multiple: int) -> tuple[Tensor, Tensor]:
    """(average, maximum) over the voxels of the image, each having the value of its cell."""
    full = cells
    for axis, length in enumerate(padded_size(size, multiple), start=2):
        full = full.repeat_interleave(length // cells.shape[axis], dim=axis)
    inside = crop(full, size, multiple)
    return inside.mean((2, 3, 4)), inside.amax((2, 3, 4))


@given(size=SIZES, multiple=st.sampled_from([8, 32]), finer=st.sampled_from([1, 4]))
@settings(max_examples=30, deadline=None)
def test_pooling_is_that_of_the_images_voxels(size: tuple[int, int, int], multiple: int, finer: int) -> None:
    reduced = [length * finer // multiple for length in padded_size(size, multiple)]
    cells = torch.rand(2, 3, *reduced, generator=torch.Generator().manual_seed(sum(size))).double()
    average, maximum = pooled_by_voxel(cells, size, multiple)
    assert torch.allclose(average_over_image(cells, size, multiple).double(), average, atol=1e-6)
    assert torch.equal(maximum_over_image(cells, size, multiple), maximum)


def test_an_average_keeps_float32_under_autocast() -> None:
    cells = torch.rand(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    for size in ((128, 128, 128), (121, 128, 126)):
        with torch.autocast("cpu", torch.bfloat16):
            found = average_over_image(cells, size, 8)
        assert found.dtype == torch.float32
        assert torch.allclose(found.double(), pooled_by_voxel(cells.double(), size, 8)[0], atol=1e-5)
