"""A view made of the voxels that were cut out for it is the view that is made of the whole volume."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.data.augmentation import IntensityDraw, apply_intensity
from fuse_examples.imaging.oai_example.data.intensity import Normalisation, measure
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.store import StoredImage
from fuse_examples.imaging.oai_example.data.view import View, change_channels, collate_with_views, image_view, make_views
from fuse_examples.imaging.oai_example.geometry import resampling
from fuse_examples.imaging.oai_example.geometry.maps import rotation_matrix, view_map
from fuse_examples.imaging.oai_example.geometry.volume import Grid

SHAPE, SIZE = (30, 34, 28), (7, 8, 9)
CPU = torch.device("cpu")
CHANGE = partial(change_channels, apply=apply_intensity, draw=IntensityDraw(1.4, 0.1, 5, 0.6))


@pytest.fixture(scope="module", autouse=True, params=["kernels", "torch"])
def way(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":  # as on a GPU
            patch.setattr(resampling, "compiled_kernels", lambda: None)
        yield


def channels(n: int = 2, dtype: str = "int16") -> tuple[np.ndarray, ...]:
    return tuple(np.random.default_rng(seed).integers(0, 200, SHAPE).astype(dtype) for seed in range(n))


def view(angles=(0.2, -0.1, 0.3), scale=1.0, centre=(12, 20, 15), displaced=0.0, n=2, labels=False) -> View:
    matrix = view_map(centre, (9, 10, 9), SIZE, (1, 1, 1), rotation_matrix(angles), scale)
    field = torch.randn((3, *SIZE), generator=torch.Generator().manual_seed(1)) * displaced if displaced else None
    if labels:
        return View(channels(1, "uint8"), matrix, SIZE, displacement=field)
    return View(channels(n), matrix, SIZE, tuple(Normalisation(5.0 * k, 0.005, True, 0.0) for k in range(1, n + 1)), field, CHANGE)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.floats(-0.6, 0.6)] * 3),
    st.floats(0.5, 3.5),
    st.tuples(*[st.floats(-5, 35)] * 3),
    st.sampled_from([0.0, 2.0]),
    st.booleans(),
)
def test_a_view_of_the_part_is_the_view_of_the_whole(angles, scale, centre, displaced, labels) -> None:
    whole = view(angles, scale, centre, displaced, labels=labels)
    part = pickle.loads(pickle.dumps(whole.cut_out())).to(CPU)
    assert all(isinstance(one, torch.Tensor) and one.dtype == (torch.uint8 if labels else torch.int16) for one in part.channels)
    index = np.moveaxis(np.indices(SIZE), 0, -1) @ whole.matrix[:3, :3].T + whole.matrix[:3, 3]
    index = index if whole.displacement is None else index + np.moveaxis(whole.displacement.numpy(), 0, -1)
    # Where a voxel lies on a border, rounding decides what is outside, or which label is nearest; such views are left out.
    on_border = np.abs(index - np.floor(index) - 0.5) < 1e-4
    if not on_border.any():
        assert torch.allclose(part.made(), whole.made(), atol=1e-4)


def test_only_what_a_view_needs_is_sent() -> None:
    part = view((0, 0, 0)).cut_out()
    assert part.channels[0].numel() < np.prod(SHAPE) / 4
    assert view(scale=3.3).cut_out().channels[0].dtype == torch.int16


def test_channels_are_normalised_by_themselves_and_have_noise_of_their_own() -> None:
    one, two = view(n=1).made(), view(n=2).made()
    assert one.shape == (1, *SIZE)
    assert two.shape == (2, *SIZE)
    assert torch.equal(one[0], two[0])
    flat = torch.zeros((2, *SIZE))
    noise = change_channels(flat, apply_intensity, IntensityDraw(1.0, 0.1, 5))
    assert not torch.equal(noise[0], noise[1])
    gamma = change_channels(torch.rand(SIZE).expand(2, *SIZE).clone(), apply_intensity, IntensityDraw(2.0, 0.0, 5))
    assert torch.equal(gamma[0], gamma[1])


def test_a_case_normalises_each_channel_by_its_own_statistics() -> None:
    array = np.random.default_rng(1).integers(0, 900, SHAPE).astype(np.int16)
    grid = Grid(SHAPE, np.eye(4))
    images = [StoredImage(values, grid, grid, measure(values, (0.5, 99.5))) for values in (array, 3 * array + 50)]
    preprocessing = Preprocessing("RAS", "percentile", (0.5, 99.5), None, SIZE)
    first, second = image_view(images, *preprocessing.whole_view(grid), preprocessing).made()
    assert first.std() > 0.01
    assert torch.allclose(first, second, atol=1e-3)


def test_a_batch_of_views_becomes_tensors_and_the_rest_stays() -> None:
    items = [{"image": view().cut_out(), "labels": {"side": k}, "row": k} for k in range(2)]
    batch = make_views(collate_with_views(items))
    assert batch["image"].shape == (2, 2, *SIZE)
    assert batch["labels"]["side"].tolist() == batch["row"].tolist() == [0, 1]
    nested = make_views({"views": [[view()], [view(), view()]], "n_global": 1})
    assert [len(views) for views in nested["views"]] == [1, 2]
    assert nested["n_global"] == 1
    assert make_views([]) == []
