"""Whole volumes with labels: what augmentation does to them, and that evaluation leaves them alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from fuse_examples.imaging.oai_example.configuration.blocks import VolumeAugmentation
from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.class_index import ClassIndex
from fuse_examples.imaging.oai_example.data.classification_views import LabelledVolumes, balanced_sampling, balanced_weights
from fuse_examples.imaging.oai_example.data.intensity import measure
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.sampler import SampleKey
from fuse_examples.imaging.oai_example.data.store import StoredImage
from fuse_examples.imaging.oai_example.geometry.volume import Grid

SHAPE = (8, 12, 10)
PREPROCESSING = Preprocessing("RAS", "window", None, (0.0, 10.0), resize_to=SHAPE)
STILL = {"rotation_degrees": 0, "gamma_range": (1, 1), "noise_std": 0, "scale_range": (1, 1), "probability": 1}
FIRST = SampleKey(0, 0)
INDEX = ClassIndex("grade", ("a", "b"), (1, 1), "a")


class Volumes:
    """A case whose image is a ramp along one axis."""

    def __init__(self, grade: str | None = "b", axis: int = 0) -> None:
        self.case = Case(2, "c", "p", Path("x"), None, "0", {"grade": grade})
        self.array = np.moveaxis(
            np.broadcast_to(np.arange(SHAPE[axis], dtype=np.float32), [*np.delete(SHAPE, axis), SHAPE[axis]]), -1, axis
        )

    def images(self) -> tuple[StoredImage]:
        grid = Grid(SHAPE, np.diag([2.0, 1.0, 1.0, 1.0]))
        return (StoredImage(np.ascontiguousarray(self.array), grid, grid, measure(self.array, (0, 100))),)


def item(augmentation: dict[str, Any] | None, key: SampleKey = FIRST, axis: int = 0, seed: int = 0) -> torch.Tensor:
    settings = None if augmentation is None else VolumeAugmentation(**augmentation)
    data = LabelledVolumes([Volumes(axis=axis)] * 3, PREPROCESSING, [INDEX], settings, seed)  # type: ignore[list-item]
    image: torch.Tensor = data[key]["image"]
    return image


def test_evaluation_is_the_whole_volume_normalised() -> None:
    expected = torch.from_numpy(np.clip(Volumes().array / 10, 0, 1))[None]
    torch.testing.assert_close(item(None), expected)
    assert torch.equal(item(None, SampleKey(0, 0)), item(None, SampleKey(5, 2)))
    torch.testing.assert_close(item(STILL), expected)


def test_labels_and_row() -> None:
    data = LabelledVolumes([Volumes("b"), Volumes(None), Volumes("a")], PREPROCESSING, [INDEX])  # type: ignore[list-item]
    items = [data[SampleKey(0, row)] for row in range(3)]
    assert [(one["row"], one["labels"]) for one in items] == [(0, {"grade": 1}), (1, {"grade": -1}), (2, {"grade": 0})]


@pytest.mark.parametrize(
    ("name", "axis"), [("left_right", 0), ("posterior_anterior", 1), ("inferior_superior", 2)], ids=lambda value: str(value)
)
def test_only_allowed_flips_happen_and_they_mirror_the_volume(name: str, axis: int) -> None:
    for ramp in range(3):
        whole = item(None, axis=ramp)
        views = [item({**STILL, "flip_axes": (name,)}, SampleKey(epoch, row), ramp) for epoch in range(10) for row in range(3)]
        mirrored = [not torch.allclose(view, whole, atol=1e-5) for view in views]
        if ramp == axis:
            assert 8 < sum(mirrored) < 22
            flipped = views[mirrored.index(True)]
            torch.testing.assert_close(flipped, whole.flip(axis + 1), atol=1e-5, rtol=0)
        else:
            assert not any(mirrored)


@pytest.mark.parametrize(
    "changes",
    [{"rotation_degrees": 15}, {"gamma_range": (0.5, 2)}, {"noise_std": 0.1}, {"scale_range": (0.7, 1.4)}],
    ids=lambda one: next(iter(one)),
)
def test_each_change_happens_and_its_probability_counts(changes: dict[str, Any]) -> None:
    whole = item(None)
    keys = [SampleKey(epoch, 0) for epoch in range(20)]
    changed = {
        p: sum(not torch.allclose(item({**STILL, **changes, "probability": p}, key), whole, atol=1e-4) for key in keys) for p in (0, 0.5, 1)
    }
    assert changed[0] == 0
    assert 4 < changed[0.5] < 16
    assert changed[1] == 20


def test_a_view_is_a_function_of_seed_epoch_and_row() -> None:
    lively = {"probability": 1}
    reference = item(lively, SampleKey(1, 1))
    torch.manual_seed(5)
    assert torch.equal(item(lively, SampleKey(1, 1)), reference)
    for key, seed in ((SampleKey(2, 1), 0), (SampleKey(1, 2), 0), (SampleKey(1, 1), 1)):
        assert not torch.equal(item(lively, key, seed=seed), reference)


def test_balanced_weights_are_scikit_learns() -> None:
    index = ClassIndex("grade", ("a", "b", "c"), (5, 1, 2), None)
    labels = np.repeat([0, 1, 2], index.counts)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(balanced_weights(index).numpy(), expected, rtol=1e-6)


def test_balanced_sampling_draws_each_class_as_often() -> None:
    volumes = [Volumes(grade) for grade in ["a"] * 6 + ["b"] * 2 + [None] * 2]
    chances = balanced_sampling(volumes, INDEX)  # type: ignore[arg-type]
    assert chances.sum() == pytest.approx(1)
    assert [chances[:6].sum(), chances[6:8].sum(), chances[8:].sum()] == pytest.approx([0.4, 0.4, 0.2])


def test_a_repeated_case_is_augmented_anew() -> None:
    settings = {"rotation_degrees": 30, "probability": 1}
    assert not torch.equal(item(settings, SampleKey(1, 0)), item(settings, SampleKey(1, 0, 1)))
    assert torch.equal(item(settings, SampleKey(1, 0, 1)), item(settings, SampleKey(1, 0, 1)))
