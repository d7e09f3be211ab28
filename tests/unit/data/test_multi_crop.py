"""The views of a volume: boxes in all three axes with the scales that were configured, and a function of (seed, epoch, row, view)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fuse_examples.imaging.oai_example.configuration.dino_config import CropSettings, ViewAugmentation
from fuse_examples.imaging.oai_example.data.intensity import measure
from fuse_examples.imaging.oai_example.data.loading import build_loader
from fuse_examples.imaging.oai_example.data.multi_crop import MultiCrop, PretrainingViews, ViewCollation
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.sampler import EpochSampler, SampleKey
from fuse_examples.imaging.oai_example.data.store import StoredImage
from fuse_examples.imaging.oai_example.data.view import make_views
from fuse_examples.imaging.oai_example.geometry.volume import Grid

SHAPE = (32, 40, 48)
SPACING = (3.0, 1.0, 1.5)
GLOBAL, LOCAL = (16, 20, 24), (8, 12, 16)
STILL = {"rotation_degrees": 0, "gamma_range": (1, 1), "noise_std": 0, "blur_std": 0}
LIVELY = {"rotation_degrees": 20, "flip_axes": ("left_right",), "probability": 1}


def crops(**changes: Any) -> CropSettings:
    return CropSettings(**{"n_global": 2, "n_local": 3, "global_size": GLOBAL, "local_size": LOCAL, **changes})


def ramp(axis: int, orientation: str = "RAS") -> StoredImage:
    """An image whose value is the index along one axis."""
    array = np.moveaxis(np.broadcast_to(np.arange(SHAPE[axis], dtype=np.float32), [*np.delete(SHAPE, axis), SHAPE[axis]]), -1, axis)
    grid = Grid(SHAPE, np.diag([*SPACING, 1.0]))
    return StoredImage(np.ascontiguousarray(array), grid, grid, measure(array, (0, 100)))


def noise(seed: int = 0) -> StoredImage:
    array = np.random.default_rng(seed).normal(100, 20, SHAPE).astype(np.float32)
    grid = Grid(SHAPE, np.diag([*SPACING, 1.0]))
    return StoredImage(array, grid, grid, measure(array, (0.5, 99.5)))


def views_of(
    image: StoredImage, key: SampleKey, orientation: str = "RAS", seed: int = 0, augmentation: Any = STILL, **changes: Any
) -> list[Tensor]:
    preprocessing = Preprocessing(orientation, "window", None, (0.0, 100.0), resize_to=GLOBAL)
    return [view.made() for view in MultiCrop(crops(**changes), ViewAugmentation(**augmentation), preprocessing)((image,), seed, key)]


def slopes(view: Tensor) -> list[float]:
    """Change of the value from the middle voxel to the next along each axis of a view, in the volume's indices."""
    middle = tuple(length // 2 for length in view.shape[1:])
    return [float(view[0][tuple(np.add(middle, np.eye(3, dtype=int)[axis]))] - view[0][middle]) * 100 for axis in range(3)]


def shares(keys: Sequence[SampleKey], **changes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Share of the volume along each axis of the global (n, 3) and of the local views (m, 3)."""
    found: dict[bool, list[list[float]]] = {True: [], False: []}
    for key in keys:
        along = [views_of(ramp(axis), key, **changes) for axis in range(3)]
        for view in range(5):
            size = LOCAL if view >= 2 else GLOBAL
            found[view < 2].append([slopes(along[axis][view])[axis] * size[axis] / SHAPE[axis] for axis in range(3)])
    return np.array(found[True]), np.array(found[False])


KEYS = [SampleKey(epoch, row) for epoch in range(4) for row in range(5)]


def test_number_sizes_and_order_of_the_views() -> None:
    views = views_of(noise(), SampleKey(0, 0))
    assert [tuple(view.shape) for view in views] == [(1, *GLOBAL)] * 2 + [(1, *LOCAL)] * 3
    assert {view.dtype for view in views} == {torch.float32}


def test_views_are_cropped_in_all_three_axes_with_the_configured_scales() -> None:
    """In-plane scales are shares of a slice's area, through-plane scales of the stack, here along the first axis (3 mm)."""
    ranges = {
        "global_scale_in_plane": (0.5, 0.7),
        "global_scale_through_plane": (0.8, 0.95),
        "local_scale_in_plane": (0.1, 0.2),
        "local_scale_through_plane": (0.3, 0.5),
    }
    for kind, found in zip(("global", "local"), shares(KEYS, **ranges), strict=True):
        for what, share in (("through_plane", found[:, 0]), ("in_plane", found[:, 1] * found[:, 2])):
            low, high = ranges[f"{kind}_scale_{what}"]
            assert low - 1e-3 <= share.min() < low + 0.15 * (high - low), (kind, what)
            assert high - 0.15 * (high - low) < share.max() <= high + 1e-3, (kind, what)
        np.testing.assert_allclose(found[:, 1], found[:, 2], rtol=2e-3)  # a slice keeps its proportions


@pytest.mark.parametrize(
    ("name", "orientation", "axis"),
    [
        (None, "RAS", 0),
        ("posterior_anterior", "RAS", 1),
        ("inferior_superior", "RAS", 2),
        ("left_right", "PIL", 2),
        ("left_right", "RAS", 0),
    ],
)
def test_the_through_plane_axis(name: str | None, orientation: str, axis: int) -> None:
    changes = {"global_scale_in_plane": (1, 1), "global_scale_through_plane": (0.5, 0.5), "through_plane_axis": name}
    found, _ = shares(KEYS[:2], orientation=orientation, **changes)
    expected = np.ones(3)
    expected[axis] = 0.5
    np.testing.assert_allclose(found, np.tile(expected, (len(found), 1)), rtol=1e-3)


def test_views_lie_anywhere_inside() -> None:
    changes = {"local_scale_in_plane": (0.16, 0.16), "local_scale_through_plane": (0.2, 0.2)}
    for axis in range(3):
        image, length = ramp(axis), SHAPE[axis]
        centres = [float(view.mean()) * 100 for key in KEYS for view in views_of(image, key, **changes)[2:]]
        reach = (0.2 if axis == 0 else 0.4) * length / 2
        assert reach - 1 < min(centres) < reach + 0.1 * length
        assert length - reach - 0.1 * length < max(centres) < length - reach + 1


@pytest.mark.parametrize(
    ("flips", "orientation", "mirrored"),
    [
        ((), "RAS", ()),
        (("left_right",), "RAS", (0,)),
        (("left_right",), "PIL", (2,)),
        (("posterior_anterior", "inferior_superior"), "RAS", (1, 2)),
    ],
)
def test_flips_are_those_that_were_allowed_and_happen_half_of_the_time(
    flips: tuple[str, ...], orientation: str, mirrored: tuple[int, ...]
) -> None:
    for axis in range(3):
        views = [view for key in KEYS for view in views_of(ramp(axis), key, orientation, augmentation={**STILL, "flip_axes": flips})]
        share = np.mean([slopes(view)[axis] < 0 for view in views])
        assert 0.35 < share < 0.65 if axis in mirrored else share == 0


def test_rotations_mix_the_axes() -> None:
    turned = [slopes(view)[1] for key in KEYS[:5] for view in views_of(ramp(0), key, augmentation={**STILL, "rotation_degrees": 20})]
    assert 0.3 < np.mean(np.abs(turned) > 1e-3) < 0.7  # with probability one half
    still = [slopes(view)[1] for key in KEYS[:5] for view in views_of(ramp(0), key)]
    assert np.abs(still).max() < 1e-3


def test_intensities_are_normalised_before_they_are_changed() -> None:
    image = noise()
    preprocessing = Preprocessing("RAS", "percentile", (0.5, 99.5), None, resize_to=GLOBAL)
    for view in MultiCrop(crops(), ViewAugmentation(**STILL), preprocessing)((image,), 0, SampleKey(0, 0)):
        made = view.made()
        assert 0 <= float(made.min()) < float(made.max()) <= 1


def test_a_view_is_a_function_of_seed_epoch_row_and_its_number_alone() -> None:
    image = noise()
    reference = views_of(image, SampleKey(1, 2), augmentation=LIVELY)
    torch.manual_seed(99)
    np.random.seed(99)
    again = views_of(image, SampleKey(1, 2), augmentation=LIVELY)
    assert all(torch.equal(one, other) for one, other in zip(reference, again, strict=True))
    for key, seed in ((SampleKey(0, 2), 0), (SampleKey(1, 3), 0), (SampleKey(1, 2), 1)):
        others = views_of(image, key, seed=seed, augmentation=LIVELY)
        assert not any(torch.equal(one, other) for one, other in zip(reference, others, strict=True))
    assert not torch.equal(reference[0], reference[1])
    assert not torch.equal(reference[2], reference[3])


def test_more_views_leave_the_first_ones_as_they_are() -> None:
    few, many = (views_of(noise(), SampleKey(0, 0), augmentation=LIVELY, n_local=n) for n in (1, 3))
    assert all(torch.equal(one, other) for one, other in zip(few, many, strict=False))


class OneVolume:
    """Stands for a case in a store."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def images(self) -> tuple[StoredImage]:
        return (noise(self.seed),)


def batches(n_workers: int, epoch: int = 3, on_device: bool = False) -> list[dict[str, Any]]:
    preprocessing = Preprocessing("RAS", "zscore", None, None, resize_to=GLOBAL)
    multi_crop = MultiCrop(crops(), ViewAugmentation(**LIVELY), preprocessing)
    data = PretrainingViews([OneVolume(seed) for seed in range(5)], multi_crop, seed=7, on_device=on_device)  # type: ignore[list-item]
    sampler = EpochSampler(5, 2, 7)
    sampler.set_epoch(epoch)
    return list(build_loader(data, sampler, n_workers=n_workers, collate=ViewCollation(2)))


def test_batches_are_the_same_with_any_number_of_workers() -> None:
    alone = batches(0)
    assert [tuple(view.shape) for view in alone[0]["views"]] == [(2, 1, *GLOBAL)] * 2 + [(2, 1, *LOCAL)] * 3
    assert [len(batch["views"][0]) for batch in alone] == [2, 2, 1]
    assert {batch["n_global"] for batch in alone} == {2}
    for n_workers in (1, 2):
        for one, other in zip(alone, batches(n_workers), strict=True):
            assert all(torch.equal(mine, theirs) for mine, theirs in zip(one["views"], other["views"], strict=True))
        on_device = [make_views(batch) for batch in batches(n_workers, on_device=True)]
        for one, other in zip(alone, on_device, strict=True):
            assert all(torch.allclose(mine, theirs, atol=1e-4) for mine, theirs in zip(one["views"], other["views"], strict=True))
    assert not torch.equal(alone[0]["views"][0], batches(0, epoch=4)[0]["views"][0])


def test_collation_puts_the_same_view_of_all_volumes_together() -> None:
    samples = [[torch.full((1, 2, 2, 2), float(10 * volume + view)) for view in range(3)] for volume in range(2)]
    batch = ViewCollation(1)(samples)
    assert [view[:, 0, 0, 0, 0].tolist() for view in batch["views"]] == [[0, 10], [1, 11], [2, 12]]
    assert batch["n_global"] == 1
