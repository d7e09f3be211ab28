"""Masks of whole cells: how many, in which blocks, and a function of (seed, epoch, row, view) alone."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.configuration.dino_config import CropSettings, MaskingSettings, ViewAugmentation
from fuse_examples.imaging.oai_example.data.intensity import measure
from fuse_examples.imaging.oai_example.data.loading import build_loader
from fuse_examples.imaging.oai_example.data.masking import MaskedCollation, MaskedViews, Masking, draw_mask
from fuse_examples.imaging.oai_example.data.multi_crop import MultiCrop, PretrainingViews
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.sampler import EpochSampler, SampleKey
from fuse_examples.imaging.oai_example.data.store import StoredImage
from fuse_examples.imaging.oai_example.geometry.volume import Grid

GRID = (3, 4, 5)
grids = st.tuples(*[st.integers(1, 6)] * 3).filter(lambda grid: np.prod(grid) > 1)
ratios = st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)).map(sorted).map(tuple)
edges = st.tuples(st.integers(1, 4), st.integers(1, 4)).map(sorted).map(tuple)


def masks_of(key: SampleKey, seed: int = 0, n_global: int = 2, **changes: Any) -> torch.Tensor:
    return Masking(MaskingSettings(**changes), n_global, GRID)(seed, key)


@given(seed=st.integers(0, 2**32), grid=grids, ratio=ratios, block_cells=edges)
@settings(max_examples=100, deadline=None)
def test_the_share_is_within_the_range_and_leaves_cells_of_both_kinds(seed: int, grid: Any, ratio: Any, block_cells: Any) -> None:
    mask = draw_mask(np.random.default_rng(seed), grid, ratio, block_cells)
    assert mask.shape == grid
    assert 1 <= mask.sum() <= mask.size - 1
    low, high = max(1, round(ratio[0] * mask.size)), min(mask.size - 1, round(ratio[1] * mask.size))
    assert min(low, high) <= mask.sum() <= max(low, high)


@pytest.mark.parametrize("edge", [1, 2, 3])
def test_blocks_have_the_configured_edges(edge: int) -> None:
    """Of a grid so large that one block is all that is wanted, most blocks lie inside, and are whole."""
    share = edge**3 / 12**3
    found = []
    for seed in range(60):
        mask = draw_mask(np.random.default_rng(seed), (12, 12, 12), (share, share), (edge, edge))
        assert mask.sum() == edge**3
        found.append(tuple(int(np.ptp(places)) + 1 for places in np.nonzero(mask)))
    assert found.count((edge, edge, edge)) >= 15


def test_edges_are_drawn_for_each_axis() -> None:
    share = 2 / 12**3
    masks = [draw_mask(np.random.default_rng(seed), (12, 12, 12), (share, share), (1, 2)) for seed in range(60)]
    assert {tuple(int(np.ptp(places)) for places in np.nonzero(mask)) for mask in masks} >= {(1, 0, 0), (0, 1, 0), (0, 0, 1)}


@pytest.mark.parametrize(("grid", "block_cells"), [((4, 4, 4), (1, 3)), ((2, 2, 2), (1, 3)), ((3, 4, 3), (3, 3))])
def test_each_cell_is_masked_as_often_as_any_other(grid: tuple[int, ...], block_cells: tuple[int, int]) -> None:
    """Cells at both ends of the array included, also where a block is most of the grid."""
    rng = np.random.default_rng(0)
    rates = np.mean([draw_mask(rng, grid, (0.3, 0.6), block_cells) for _ in range(2000)], axis=0)
    assert np.abs(rates - rates.mean()).max() < 0.045  # 0.011 by chance


@given(share=st.floats(0, 0.99), n_global=st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_of_each_volumes_views_the_configured_share_is_masked(share: float, n_global: int) -> None:
    counts = [int(masks_of(SampleKey(0, row), n_global=n_global, share_of_views=share).flatten(1).any(dim=1).sum()) for row in range(60)]
    assert set(counts) <= {int(share * n_global), int(share * n_global) + 1}
    assert abs(np.mean(counts) - share * n_global) < 0.35


def test_by_default_one_of_two_views_is_masked_whichever_it_is() -> None:
    masked = np.array([masks_of(SampleKey(0, row)).flatten(1).any(dim=1).tolist() for row in range(40)])
    assert (masked.sum(axis=1) == 1).all()
    assert 8 < masked[:, 0].sum() < 32


def test_a_mask_is_a_function_of_seed_epoch_row_and_view() -> None:
    one = masks_of(SampleKey(2, 3), share_of_views=0.99)
    assert torch.equal(one, masks_of(SampleKey(2, 3), share_of_views=0.99))
    for other in (masks_of(SampleKey(1, 3), share_of_views=0.99), masks_of(SampleKey(2, 4), share_of_views=0.99)):
        assert not torch.equal(one, other)
    assert not torch.equal(one, masks_of(SampleKey(2, 3), seed=1, share_of_views=0.99))
    assert not torch.equal(one[0], one[1])


class OneVolume:
    def __init__(self, seed: int) -> None:
        array = np.random.default_rng(seed).normal(100, 20, (10, 12, 12)).astype(np.float32)
        grid = Grid((10, 12, 12), np.eye(4))
        self.stored = StoredImage(array, grid, grid, measure(array, (0.5, 99.5)))

    def images(self) -> tuple[StoredImage]:
        return (self.stored,)


def batches(n_workers: int, epoch: int = 3) -> tuple[list[dict[str, Any]], PretrainingViews]:
    crops = CropSettings(n_local=1, global_size=(8, 8, 8), local_size=(8, 8, 8))
    multi_crop = MultiCrop(crops, ViewAugmentation(), Preprocessing("RAS", "zscore", None, None, resize_to=(8, 8, 8)))
    plain = PretrainingViews([OneVolume(seed) for seed in range(5)], multi_crop, seed=7)  # type: ignore[list-item]
    sampler = EpochSampler(5, 2, 7)
    sampler.set_epoch(epoch)
    masked = MaskedViews(plain, Masking(MaskingSettings(), 2, GRID))
    return list(build_loader(masked, sampler, n_workers=n_workers, collate=MaskedCollation(2))), plain


def test_batches_are_the_same_with_any_number_of_workers_and_views_as_without_masks() -> None:
    alone, plain = batches(0)
    assert [tuple(batch["masks"].shape) for batch in alone] == [(2, 2, *GRID), (2, 2, *GRID), (2, 1, *GRID)]
    for one, other in zip(alone, batches(2)[0], strict=True):
        assert torch.equal(one["masks"], other["masks"])
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(one["views"], other["views"], strict=True))
    assert not torch.equal(alone[0]["masks"], batches(0, epoch=4)[0][0]["masks"])
    first = EpochSampler(5, 2, 7)
    first.set_epoch(3)
    key = next(iter(first))[1]
    for number, view in enumerate(plain[key]):
        assert torch.equal(alone[0]["views"][number][1], view)
    assert torch.equal(alone[0]["masks"][:, 1], Masking(MaskingSettings(), 2, GRID)(7, key))
