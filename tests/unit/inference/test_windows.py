import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.inference.windows import gaussian_weight, predict_volume, window_starts


@given(st.integers(1, 200), st.integers(1, 64), st.floats(0, 0.9))
def test_windows_cover_every_voxel_and_overlap_enough(size: int, edge: int, overlap: float) -> None:
    starts = window_starts(size, edge, overlap)
    covered = np.zeros(max(size, edge), dtype=bool)
    for start in starts:
        covered[start : start + edge] = True
    assert covered.all()
    assert starts[0] == 0
    assert starts[-1] == max(0, size - edge)
    steps = np.diff(starts)
    assert (steps <= max(1, int(edge * (1 - overlap))) + 0.5).all()


@pytest.mark.parametrize("shape", [(9, 17, 12), (5, 30, 8)])
@pytest.mark.parametrize("windows_at_once", [1, 3])
def test_a_pointwise_network_gives_what_it_gives_whole(shape, windows_at_once) -> None:
    image = torch.randn(2, *shape)

    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, 0] * 2, x[:, 1] - 1, x.sum(1)], dim=1)

    windowed = predict_volume(network, image, (8, 8, 8), 0.5, windows_at_once)
    assert windowed.shape == (3, *shape)
    assert torch.allclose(windowed, network(image[None])[0], atol=1e-5)


def test_overlaps_are_averaged_with_the_gaussian_weight() -> None:
    calls = iter([1.0, 3.0])

    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.full_like(part, next(calls)) for part in x])

    found = predict_volume(network, torch.zeros(1, 12, 8, 8), (8, 8, 8), 0.5, 2)[0, :, 0, 0]
    weight = gaussian_weight((8, 8, 8))[:, 0, 0]
    expected = (weight[4:] * 1 + weight[:4] * 3) / (weight[4:] + weight[:4])
    assert torch.allclose(found[4:8], expected, atol=1e-5)
    assert torch.allclose(found[:4], torch.ones(4), atol=1e-5)
    assert torch.allclose(found[8:], torch.full((4,), 3.0), atol=1e-5)


def test_the_weight_is_a_gaussian_of_an_eighth_of_the_edge() -> None:
    weight = gaussian_weight((9, 9, 9))
    expected = np.exp(-0.5 * ((np.arange(9) - 4) / (9 / 8)) ** 2)
    assert np.allclose(weight[:, 4, 4], np.maximum(expected, 1e-3), atol=1e-6)
    assert weight.min() >= 1e-3
