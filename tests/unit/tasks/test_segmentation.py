"""The segmentation task: what learns, what is scored, and that no case's prediction depends on others."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.segmentation_views import EvaluationCase
from fuse_examples.imaging.oai_example.geometry.maps import resize_map
from fuse_examples.imaging.oai_example.geometry.volume import Grid
from fuse_examples.imaging.oai_example.inference.windows import predict_volume
from fuse_examples.imaging.oai_example.models.backbone import build_backbone
from fuse_examples.imaging.oai_example.models.heads import SegmentationHead
from fuse_examples.imaging.oai_example.objectives.segmentation_loss import DiceBCELoss, DiceCELoss
from fuse_examples.imaging.oai_example.tasks.segmentation import SegmentationEnsemble, SegmentationRecipe, SegmentationTask

RECIPE = SegmentationRecipe(learning_rate=1e-2, weight_decay=0.1, warmup_epochs=1, window=None, overlap=0.5)
SIZE = (8, 16, 16)


def task_of(statistics: str = "running", recipe: SegmentationRecipe = RECIPE, classes: int = 3) -> SegmentationTask:
    """A task with random weights whose running statistics have seen some data."""
    torch.manual_seed(0)
    backbone = build_backbone("unet3d", width=4, norm_statistics=statistics)
    names = [f"structure_{label}" for label in range(1, classes)]
    task = SegmentationTask(backbone, SegmentationHead(backbone.decoder_dim, classes), DiceCELoss(classes), names, recipe)
    task.backbone.train()
    with torch.no_grad():
        task(torch.randn(4, 1, 16, 16, 16) * 3 + 1)
    return task


def case_of(mask: np.ndarray | None, name: str = "case", shape: tuple[int, int, int] = (9, 10, 11)) -> EvaluationCase:
    grid = Grid(shape, np.eye(4))
    row = Case(7, name, "P", Path("i"), Path("m"), "2", {})
    image = torch.randn(1, *SIZE, generator=torch.Generator().manual_seed(1))
    return EvaluationCase(row, image, resize_map(shape, SIZE), grid, grid, mask)


@pytest.mark.parametrize(("statistics", "alone"), [("running", True), ("instance", True), ("batch", False)])
def test_a_prediction_depends_on_batch_mates_only_with_batch_statistics(statistics: str, alone: bool) -> None:
    task = task_of(statistics).eval()
    first, second = torch.randn(2, 1, 1, 16, 16, 16), torch.randn(1, 1, 16, 16, 16) * 5 + 2
    one = first[0]
    with torch.no_grad():
        by_itself, with_another = task(one), task(torch.cat([one, second]))[:1]
    assert torch.allclose(by_itself, with_another, atol=1e-4) == alone


@pytest.mark.parametrize(("statistics", "alone"), [("running", True), ("instance", True), ("batch", False)])
def test_the_same_holds_for_windows(statistics: str, alone: bool) -> None:
    task = task_of(statistics).eval()
    image = torch.randn(1, 16, 16, 24) * torch.linspace(0.1, 5, 24)
    with torch.no_grad():
        one, four = (predict_volume(task, image, (16, 16, 16), 0.5, windows_at_once=count) for count in (1, 4))
    assert torch.allclose(one, four, atol=1e-4) == alone


@pytest.mark.parametrize("statistics", ["running", "instance", "batch"])
def test_predicting_changes_nothing(statistics: str) -> None:
    task = task_of(statistics).eval()
    before = {name: tensor.clone() for name, tensor in task.state_dict().items()}
    with torch.no_grad():
        one = task.predict_step(case_of(None), 0)
        task.predict_step(replace(case_of(None), image=torch.linspace(-9, 9, 2048).reshape(1, *SIZE)), 1)
        two = task.predict_step(case_of(None), 2)
    assert np.array_equal(one.labels, two.labels)
    assert all(torch.equal(before[name], tensor) for name, tensor in task.state_dict().items())


def test_a_prediction_carries_its_case() -> None:
    mask = np.zeros((9, 10, 11), np.uint8)
    case = case_of(mask, "knee")
    found = task_of().eval().predict_step(case, 0)
    assert (found.name, found.patient, found.fold, found.row) == ("knee", "P", "2", 7)
    assert found.labels.shape == (9, 10, 11)
    assert found.mask is mask
    assert found.grid is case.grid


# ---- scores


class Fixed(SegmentationTask):
    """Predicts given label maps, whatever it sees; everything around the network is the task's own."""

    def predict(self, *maps: np.ndarray) -> "Fixed":
        self.maps = iter(maps)
        return self

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        labels = torch.from_numpy(next(self.maps)).long()
        return torch.nn.functional.one_hot(labels, 3).movedim(-1, 0)[None].float() * 10


def validated(pairs: list[tuple[np.ndarray, np.ndarray]], monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What a validation over (truth, prediction) pairs on the network's own voxels logs."""
    plain = task_of()
    task = Fixed(plain.backbone, plain.head, plain.loss, ["ball", "core"], RECIPE).predict(*(prediction for _, prediction in pairs))
    logged: dict[str, float] = {}
    monkeypatch.setattr(task, "log", lambda name, value, **_: logged.__setitem__(name, float(value)))
    for index, (truth, _) in enumerate(pairs):
        task.validation_step(case_of(truth, shape=SIZE), index)
    task.on_validation_epoch_end()
    return logged


def boxes(**label_slices: slice) -> np.ndarray:
    """A label map with label 1 and 2 in these slices of the first axis."""
    labels = np.zeros(SIZE, np.uint8)
    for name, where in label_slices.items():
        labels[where] = int(name[-1])
    return labels


def test_dice_is_per_structure_and_leaves_absent_structures_out(monkeypatch: pytest.MonkeyPatch) -> None:
    both = boxes(label1=slice(0, 2), label2=slice(4, 8))
    half = boxes(label1=slice(1, 3), label2=slice(4, 8))  # label 1: Dice 2 * 1 / (2 + 2)
    no_core = boxes(label1=slice(0, 2))
    logged = validated([(both, half), (no_core, no_core)], monkeypatch)
    assert logged["val/dice/ball"] == pytest.approx((0.5 + 1) / 2)
    assert logged["val/dice/core"] == pytest.approx(1)  # of the one case that has it
    assert logged["val/dice"] == pytest.approx((0.75 + 1) / 2)  # mean over cases of each case's mean


def test_a_structure_that_is_invented_scores_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logged = validated([(boxes(label1=slice(0, 2)), boxes(label1=slice(0, 2), label2=slice(5, 6)))], monkeypatch)
    assert logged["val/dice/core"] == 0
    assert logged["val/dice"] == pytest.approx(0.5)


def test_scores_of_an_epoch_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, wrong = boxes(label1=slice(0, 2)), boxes(label1=slice(4, 6))
    plain = task_of()
    task = Fixed(plain.backbone, plain.head, plain.loss, ["ball", "core"], RECIPE).predict(wrong, truth)
    logged: list[float] = []
    monkeypatch.setattr(task, "log", lambda name, value, **_: logged.append(float(value)) if name == "val/dice" else None)
    for epoch in range(2):
        task.validation_step(case_of(truth, shape=SIZE), epoch)
        task.on_validation_epoch_end()
    assert logged == [0, 1]


def scattered() -> tuple[np.ndarray, np.ndarray]:
    """Truth, and a prediction that is right but for a speck of label 1 far away and label 2 in two true pieces."""
    truth = boxes(label1=slice(0, 2))
    truth[3, :4], truth[6, :4] = 2, 2
    predicted = truth.copy()
    predicted[5, 12:, 12:] = 1
    return truth, predicted


def test_a_structure_keeps_its_largest_part_where_validation_gains_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predicted = scattered()
    plain, recipe = task_of(), replace(RECIPE, largest_component=True)
    task = Fixed(plain.backbone, plain.head, plain.loss, ["ball", "core"], recipe).predict(predicted, predicted, truth, predicted)
    logged: dict[str, float] = {}
    monkeypatch.setattr(task, "log", lambda name, value, **_: logged.__setitem__(name, float(value)))
    assert not task.largest_only.any()
    task.validation_step(case_of(truth, shape=SIZE), 0)
    task.on_validation_epoch_end()
    n_true, n_speck = 2 * 256, 16
    assert logged["val/dice/ball"] == pytest.approx(2 * n_true / (2 * n_true + n_speck))
    assert logged["val/largest_component_gain/ball"] == pytest.approx(1 - 2 * n_true / (2 * n_true + n_speck))
    assert logged["val/largest_component_gain/core"] == pytest.approx(2 * 64 / (64 + 128) - 1)  # two equal halves of 64 voxels
    assert task.largest_only.tolist() == [True, False]
    assert "largest_only" in task.state_dict()
    assert np.array_equal(task.predict_step(case_of(truth, shape=SIZE), 0).labels, truth)
    task.validation_step(case_of(truth, shape=SIZE), 0)  # nothing to gain any more
    task.on_validation_epoch_end()
    assert task.largest_only.tolist() == [False, False]
    assert np.array_equal(task.predict_step(case_of(truth, shape=SIZE), 0).labels, predicted)


def test_without_clean_up_a_decision_of_before_does_nothing() -> None:
    truth, predicted = scattered()
    plain = task_of()
    task = Fixed(plain.backbone, plain.head, plain.loss, ["ball", "core"], RECIPE).predict(predicted)
    task.largest_only.fill_(True)
    assert np.array_equal(task.predict_step(case_of(truth, shape=SIZE), 0).labels, predicted)


def test_the_loss_of_windows_is_their_slabs_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPE, window=(4, 16, 16))
    plain = task_of()
    task = SegmentationTask(plain.backbone, plain.head, plain.loss, ["ball", "core"], recipe).eval()
    truth, logged = scattered()[0], {}
    monkeypatch.setattr(task, "log", lambda name, value, **_: logged.__setitem__(name, float(value)))
    case = case_of(truth, shape=SIZE)
    with torch.no_grad():
        task.validation_step(case, 0)
        logits = predict_volume(task, case.image, recipe.window, recipe.overlap)[None]
        labels = torch.from_numpy(truth).long()[None]
        losses = [task.loss(logits[:, :, start : start + n], labels[:, start : start + n]) * n for start, n in ((0, 2), (2, 2), (4, 4))]
    assert logged["val/loss"] == pytest.approx(float(sum(losses)) / 8, rel=1e-4)


def test_mirroring_averages_predictions_and_sides_change_places() -> None:
    task = task_of(recipe=replace(RECIPE, mirror_axes=(0, 2), side_axis=0, label_pairs=((1, 2),))).eval()
    case = case_of(None, shape=SIZE)
    with torch.no_grad():
        found = task.predict_step(case, 0).labels
        image, exchange = case.image[None], [0, 2, 1]
        parts = [
            task(image),
            task(image.flip(2)).flip(2)[:, exchange],
            task(image.flip(4)).flip(4),
            task(image.flip((2, 4))).flip((2, 4))[:, exchange],
        ]
    assert np.array_equal(found, torch.stack(parts).mean(0)[0].argmax(0).numpy())
    assert not np.array_equal(found, parts[0][0].argmax(0).numpy())


# ---- learning


def optimiser(task: SegmentationTask) -> Any:
    task._trainer = SimpleNamespace(estimated_stepping_batches=20, max_epochs=4, current_epoch=0)  # type: ignore[assignment]
    return task.configure_optimizers()


def test_the_schedule_counts_optimiser_steps() -> None:
    made = optimiser(task_of())
    assert made["lr_scheduler"]["interval"] == "step"
    rates = []
    for _ in range(20):
        rates.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    assert rates[:5] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01])  # one epoch of four is five steps
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_a_frozen_backbone_learns_nothing_and_keeps_its_statistics() -> None:
    task = task_of(recipe=replace(RECIPE, freeze_backbone=True)).train()
    assert not any(module.training for module in task.backbone.modules())
    assert task.head.training
    before = {name: tensor.clone() for name, tensor in task.backbone.state_dict().items()}
    made = optimiser(task)["optimizer"]
    assert sum(p.numel() for group in made.param_groups for p in group["params"]) == sum(p.numel() for p in task.head.parameters())
    task.log = lambda *_, **__: None  # type: ignore[method-assign]
    task.training_step({"image": torch.randn(2, 1, *SIZE), "mask": torch.randint(0, 3, (2, *SIZE))}, 0).backward()
    made.step()
    assert all(torch.equal(before[name], tensor) for name, tensor in task.backbone.state_dict().items())
    assert task_of().train().backbone.training  # one that is not frozen


def test_training_lowers_the_loss() -> None:
    task = task_of().train()
    task.log = lambda *_, **__: None  # type: ignore[method-assign]
    image = torch.randn(2, 1, *SIZE)
    batch = {"image": image, "mask": (image[:, 0] > 0).long()}
    made = torch.optim.AdamW(task.parameters(), 1e-2)
    losses = []
    for _ in range(12):
        made.zero_grad()
        loss = task.training_step(batch, 0)
        loss.backward()
        made.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_deep_supervision_halves_the_weight_of_each_coarser_level() -> None:
    plain = task_of()
    heads = [SegmentationHead(dim, 3) for dim in plain.backbone.level_dims]
    task = SegmentationTask(plain.backbone, plain.head, plain.loss, ["ball", "core"], RECIPE, heads).eval()
    task.log = lambda *_, **__: None  # type: ignore[method-assign]
    batch = {"image": torch.randn(2, 1, *SIZE), "mask": torch.randint(0, 3, (2, *SIZE))}
    with torch.no_grad():
        found = task.training_step(batch, 0)
        maps = task.backbone.decode_levels(task.backbone.encode(batch["image"]))
        # A cell of two voxels takes the second's label, one of four the third's: the voxel nearest behind its middle.
        labels = [batch["mask"], batch["mask"][:, 1::2, 1::2, 1::2], batch["mask"][:, 2::4, 2::4, 2::4]]
        losses = [task.loss(head(x), y) for head, x, y in zip([task.head, *task.level_heads], maps, labels, strict=True)]
    assert float(found) == pytest.approx(float(losses[0] + losses[1] / 2 + losses[2] / 4) / 1.75, rel=1e-5)


def test_structures_on_their_own_need_a_probability_above_one_half() -> None:
    head = SegmentationHead(2, 3, independent=True)
    head.conv.weight.data = torch.eye(2).reshape(2, 2, 1, 1, 1)
    head.conv.bias.data.zero_()
    decoded = torch.tensor([[-1.0, 0.5, 2.0, 3.0], [-2.0, -1.0, 1.0, 4.0]]).reshape(1, 2, 1, 1, 4)
    assert head(decoded).argmax(1).flatten().tolist() == [0, 1, 1, 2]


def test_regions_are_validated_as_unions_of_the_labels_they_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network sees region "all" (labels 1 and 2) right and "inner" (label 2) half."""
    recipe = replace(RECIPE, largest_component=False, num_classes=4, regions=((1, 2), (2,)), written=(1, 2))
    truth = np.zeros(SIZE, np.uint8)
    truth[:6], truth[2:6], truth[7] = 1, 2, 3  # label 3 is in no region

    class Fixed(SegmentationTask):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            logits = torch.full((1, 3, *SIZE), -5.0)
            logits[:, 0], logits[0, 1, :6], logits[0, 2, 2:4] = 0.0, 5.0, 5.0
            return logits

    plain = task_of()
    task = Fixed(plain.backbone, plain.head, DiceBCELoss(3, regions=recipe.regions), ["all", "inner"], recipe)
    logged: dict[str, float] = {}
    monkeypatch.setattr(task, "log", lambda name, value, **_: logged.__setitem__(name, float(value)))
    found = task.validation_step(case_of(truth, shape=SIZE), 0)
    task.on_validation_epoch_end()
    expected = np.zeros(SIZE, np.uint8)
    expected[:6], expected[2:4] = 1, 2
    assert np.array_equal(found.labels, expected)
    assert np.array_equal(task.predict_step(case_of(truth, shape=SIZE), 0).labels, expected)
    assert np.array_equal(SegmentationEnsemble([task, task]).predict_step(case_of(truth, shape=SIZE), 0).labels, expected)
    assert logged["val/dice/all"] == pytest.approx(1)
    assert logged["val/dice/inner"] == pytest.approx(2 * 2 / (4 + 2))


def test_an_ensemble_labels_by_the_mean_of_probabilities_not_of_logits() -> None:
    """One member is very sure of class 1, two are fairly sure of class 2: the mean of logits would follow the first."""

    class Fixed(SegmentationTask):
        logits = torch.zeros(3)

        def case_slabs(self, case: EvaluationCase) -> Iterator[tuple[int, torch.Tensor]]:
            for start in range(0, SIZE[0], 4):
                yield start, self.logits[:, None, None, None].expand(3, 4, *SIZE[1:])

    members = []
    for logits in ([0.0, 30.0, 0.0], [0.0, 0.0, 3.0], [0.0, 0.0, 3.0]):
        torch.manual_seed(0)
        backbone = build_backbone("unet3d", width=2)
        members.append(Fixed(backbone, SegmentationHead(backbone.decoder_dim, 3), DiceCELoss(3), ["a", "b"], RECIPE))
        members[-1].logits = torch.tensor(logits)
    found = SegmentationEnsemble(members).predict_step(case_of(None), 0)
    assert set(np.unique(found.labels)) == {2}
    assert set(np.unique(SegmentationEnsemble(members[:2]).predict_step(case_of(None), 0).labels)) == {1}
    assert (found.name, found.patient, found.row) == ("case", "P", 7)
