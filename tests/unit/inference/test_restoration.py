import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.geometry.maps import resize_map
from fuse_examples.imaging.oai_example.geometry.resampling import resample
from fuse_examples.imaging.oai_example.inference import restoration
from fuse_examples.imaging.oai_example.inference.restoration import labels_from_slabs, labels_on_grid


def ball_labels(shape: tuple[int, ...]) -> np.ndarray:
    grid = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n - 0.5 for n in shape], indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    return (radius < 0.4).astype(np.uint8) + (radius < 0.2)


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(20, 48)] * 3), st.tuples(*[st.integers(24, 48)] * 3))
def test_labels_come_back_where_they_were(shape, network_shape) -> None:
    labels = ball_labels(shape)
    matrix = resize_map(shape, network_shape)
    one_hot = np.stack([labels == k for k in range(3)]).astype(np.float32)
    logits = resample(one_hot, matrix, network_shape)
    found = labels_on_grid(logits, matrix, shape)
    assert found.shape == shape
    for k in (1, 2):
        overlap = 2 * ((found == k) & (labels == k)).sum() / ((found == k).sum() + (labels == k).sum())
        assert overlap > 0.9
        assert np.abs(np.argwhere(found == k).mean(0) - np.argwhere(labels == k).mean(0)).max() < 0.15


def test_logits_are_interpolated_before_they_become_labels() -> None:
    logits = torch.zeros(2, 2, 1, 1)
    logits[1, :, 0, 0] = torch.tensor([-1.0, 3.0])  # crosses zero a quarter of the way between the two centres
    found = labels_on_grid(logits, resize_map((16, 1, 1), (2, 1, 1)), (16, 1, 1))[:, 0, 0]
    centres = (np.arange(16) + 0.5) / 8 - 0.5
    assert np.array_equal(found, (centres.clip(0, 1) > 0.25).astype(np.uint8))


@pytest.mark.parametrize("slab", [1, 100, 10**6])
def test_slabs_change_nothing(monkeypatch, slab) -> None:
    logits = torch.randn(4, 7, 9, 8, generator=torch.Generator().manual_seed(0))
    matrix = resize_map((21, 13, 17), (7, 9, 8))
    whole = labels_on_grid(logits, matrix, (21, 13, 17))
    monkeypatch.setattr(restoration, "_SLAB_VOXELS", slab)
    assert np.array_equal(labels_on_grid(logits, matrix, (21, 13, 17)), whole)


@pytest.mark.parametrize("shape", [(21, 13, 17), (7, 9, 8), (3, 4, 5), (40, 9, 8)])  # finer, equal, coarser beyond averaging, stretched
@pytest.mark.parametrize("thickness", [1, 2, 3, 7])
def test_logits_in_slabs_give_what_they_give_whole(shape, thickness) -> None:
    logits = torch.randn(4, 7, 9, 8, generator=torch.Generator().manual_seed(0))
    matrix = resize_map(shape, (7, 9, 8))
    buffer = torch.empty(4, thickness, 9, 8)

    def slabs():
        for start in range(0, 7, thickness):
            part = buffer[:, : min(thickness, 7 - start)]
            part.copy_(logits[:, start : start + thickness])
            yield start, part  # one buffer for all, as the windows give them

    assert np.array_equal(labels_from_slabs(slabs(), 7, matrix, shape), labels_on_grid(logits, matrix, shape))


def test_slabs_of_a_turned_map_are_put_together() -> None:
    logits = torch.randn(3, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    turned = resize_map((6, 6, 6), (6, 6, 6))[[1, 0, 2, 3]]
    slabs = [(start, logits[:, start : start + 2]) for start in range(0, 6, 2)]
    found = labels_from_slabs(slabs, 6, turned, (6, 6, 6))
    assert np.array_equal(found, logits.argmax(0).transpose(0, 1).numpy())


@pytest.mark.parametrize("zoom", [1.0, 1.7])
def test_overlapping_structures_write_one_over_another(zoom: float) -> None:
    """Against thresholds of the interpolated channels, one after the other."""
    logits = torch.cat([torch.zeros(1, 8, 9, 7), torch.from_numpy(np.random.default_rng(0).normal(0, 1, (3, 8, 9, 7))).float()])
    shape = tuple(round(size * zoom) for size in (8, 9, 7))
    matrix = np.diag([zoom, zoom, zoom, 1.0])
    matrix[:3, 3] = (zoom - 1) / 2
    found = labels_from_slabs([(0, logits[:, :5]), (5, logits[:, 5:])], 8, matrix, shape, (2, 1, 300))  # type: ignore[arg-type]
    whole = logits if zoom == 1 else resample(logits, np.linalg.inv(matrix), shape, outside=0.0)
    expected = np.zeros(shape, dtype=int)
    for channel, label in ((1, 2), (2, 1), (3, 300)):
        expected = np.where(whole[channel].numpy() > 0, label, expected)
    assert np.array_equal(found, expected)
    assert set(np.unique(found)) == {0, 1, 2, 300}
