"""Attention pooling: a weighted mean whose weights follow the formula, and that leaves padding out."""

import torch

from fuse_examples.imaging.oai_example.models.attention_pooling import AttentionPooling
from fuse_examples.imaging.oai_example.models.padding import average_over_image, pad

CELLS = torch.randn(2, 5, 2, 3, 2, generator=torch.Generator().manual_seed(0))


def pooling() -> AttentionPooling:
    torch.manual_seed(1)
    return AttentionPooling(5, 4)


def test_the_formula_written_out() -> None:
    module = pooling()
    rows = CELLS[0].flatten(1).T
    scores = torch.stack([module.score(torch.tanh(module.content(row)) * torch.sigmoid(module.gate(row)))[0] for row in rows])
    weights = scores.exp() / scores.exp().sum()
    torch.testing.assert_close(module(CELLS, (16, 24, 16), 8)[0], (weights[:, None] * rows).sum(dim=0))


def test_without_a_preference_it_is_the_average_over_the_image() -> None:
    module = pooling()
    torch.nn.init.zeros_(module.score.weight)
    for size in ((16, 24, 16), (11, 24, 13)):
        torch.testing.assert_close(module(CELLS, size, 8), average_over_image(CELLS, size, 8))


def test_cells_of_padding_alone_have_no_weight() -> None:
    cells = torch.randn(1, 5, 8, 2, 2)  # a map of single voxels along the first axis, as before any reduction
    size = (4, 2, 2)
    assert pad(torch.zeros(1, 1, *size), 8).shape[2] == 8
    changed = cells.clone()
    changed[:, :, :2] = 99.0
    assert torch.equal(pooling()(cells, size, 8), pooling()(changed, size, 8))
    assert pooling()(changed, size, 8).isfinite().all()
