"""Hiding voxels and telling them again, against loops in float64; what is hidden has no say."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fuse_examples.imaging.oai_example.objectives.reconstruction import hide, reconstruction_loss

SHAPE = (2, 3, 2, 3, 4)


def example(seed: int, dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, Tensor, Tensor]:
    """Two images and a mask with both kinds of voxel in each view."""
    rng = np.random.default_rng(seed)
    hidden = rng.random((shape[0], 1, *shape[2:])) < rng.uniform(0.1, 0.9)
    hidden[:, 0, 0, 0, 0], hidden[:, 0, 0, 0, 1] = True, False
    one, other = (torch.from_numpy(rng.normal(size=shape)).to(dtype) for _ in range(2))
    return one, other, torch.from_numpy(hidden)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 1, 1, 2), (3, 1, 4, 4, 4), (2, 2, 8, 16, 16)])
@pytest.mark.parametrize("seed", range(4))
def test_loss_equals_its_definition(seed: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    prediction, target, hidden = example(seed, dtype, shape)
    of_views = []
    for view in range(shape[0]):
        places = [place for place in np.ndindex(shape[2:]) if hidden[view, 0][place]]
        pairs = [(float(prediction[view, c][place]), float(target[view, c][place])) for c in range(shape[1]) for place in places]
        of_views.append(math.fsum(abs(p - t) for p, t in pairs) / len(pairs))
    found = reconstruction_loss(prediction, target, hidden)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    expected = math.fsum(of_views) / len(of_views)
    assert found.item() == pytest.approx(expected, rel=1e-12 if dtype == torch.float64 else 1e-6, abs=0)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_seen_voxels_do_not_count(seed: int) -> None:
    prediction, target, hidden = example(seed)
    prediction.requires_grad_()
    loss = reconstruction_loss(prediction, target, hidden)
    loss.backward()
    assert prediction.grad is not None
    assert torch.equal(prediction.grad != 0, hidden.expand(SHAPE))
    assert reconstruction_loss(torch.where(hidden, prediction, math.nan), torch.where(hidden, target, 7.0), hidden) == loss


@given(seed=st.integers(0, 10_000), value=st.sampled_from([1e6, math.inf, math.nan]))
@settings(max_examples=20, deadline=None)
def test_hidden_voxels_become_the_mean_of_the_seen_ones_and_have_no_say(seed: int, value: float) -> None:
    views, _, hidden = example(seed)
    result = hide(views, hidden)
    assert torch.equal(result, hide(torch.where(hidden, value, views), hidden))
    for view, channel in np.ndindex(2, 3):
        mask = hidden[view, 0]
        assert torch.equal(result[view, channel][~mask], views[view, channel][~mask])
        seen = [float(voxel) for voxel in views[view, channel][~mask]]
        assert result[view, channel][mask].tolist() == pytest.approx([math.fsum(seen) / len(seen)] * int(mask.sum()), rel=1e-12)
