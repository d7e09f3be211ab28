from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference

from fuse_examples.imaging.oai_example.inference.windows import gaussian_weight, predict_slabs, predict_volume, window_starts


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


@pytest.mark.parametrize("shape", [(9, 17, 12), (8, 30, 8)])
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


@pytest.mark.parametrize(("shape", "window"), [((30, 20, 17), (8, 12, 17)), ((8, 9, 9), (8, 8, 8)), ((16, 16, 16), (16, 16, 16))])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.7])
def test_slabs_are_the_average_of_all_windows(shape, window, overlap) -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 2, 5, padding=2)
    image = torch.randn(1, *shape)
    with torch.no_grad():
        slabs = [(start, slab.clone()) for start, slab in predict_slabs(network, image, window, overlap, 3)]
        total, weights = torch.zeros(2, *shape), torch.zeros(shape)
        for start in product(*(window_starts(size, edge, overlap) for size, edge in zip(shape, window, strict=True))):
            box = tuple(slice(s, s + edge) for s, edge in zip(start, window, strict=True))
            total[(slice(None), *box)] += network(image[(slice(None), *box)][None])[0] * gaussian_weight(window)
            weights[box] += gaussian_weight(window)
    starts = [start for start, _ in slabs]
    assert starts == np.cumsum([0, *(slab.shape[1] for _, slab in slabs)])[:-1].tolist()
    assert max(slab.shape[1] for _, slab in slabs) <= window[0]
    assert torch.allclose(torch.cat([slab for _, slab in slabs], dim=1), total / weights, atol=1e-5)


def test_an_image_smaller_than_the_window_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"an image of \(5, 9, 9\) voxels is smaller than the window of \(8, 8, 8\)"):
        predict_volume(torch.nn.Identity(), torch.zeros(1, 5, 9, 9), (8, 8, 8))


def test_windows_and_weights_are_monais() -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 3, 3, padding=1)
    image = torch.randn(1, 20, 24, 12)  # multiples of the step: MONAI moves only the last window back, here all are evenly spaced
    with torch.no_grad():
        ours = predict_volume(network, image, (8, 12, 12), 0.5)
        monais = sliding_window_inference(image[None], (8, 12, 12), 4, network, overlap=0.5, mode="gaussian")[0]
    assert torch.allclose(ours, monais, atol=1e-5)


def test_without_a_number_bf16_on_a_cpu_takes_windows_one_by_one_and_fp32_four() -> None:
    seen = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return x

    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            predict_volume(network, torch.zeros(1, 8, 20, 8), (8, 8, 8), 0.5)
    assert seen == [1, 1, 1, 1, 4]
