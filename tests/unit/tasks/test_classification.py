"""The classifier's loss and validation: which cases and targets count, and by how much."""

import math
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fuse_examples.imaging.oai_example.models.heads import ClassificationHeads
from fuse_examples.imaging.oai_example.objectives.target_objectives import ClassObjective, GradeObjective, NumberObjective
from fuse_examples.imaging.oai_example.objectives.threshold import best_threshold
from fuse_examples.imaging.oai_example.tasks.classification import ClassificationRecipe, ClassificationTask

WEIGHTS = {"size": torch.tensor([1.0, 3.0]), "grade": torch.tensor([0.5, 1.0, 2.0])}


class TinyBackbone(nn.Module):
    feature_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU())

    def embed(self, image: Tensor) -> Tensor:
        features: Tensor = self.layers(image).mean(dim=(2, 3, 4))
        return features


def make_task(*, freeze: bool = False) -> ClassificationTask:
    torch.manual_seed(0)
    heads = ClassificationHeads(4, {"size": 2, "grade": 3})
    objectives = {target: ClassObjective(weights) for target, weights in WEIGHTS.items()}
    return ClassificationTask(TinyBackbone(), heads, objectives, ClassificationRecipe(1e-3, 1e-2, 0.1, 0, freeze))  # type: ignore[arg-type]


def images(n: int) -> Tensor:
    return torch.rand(n, 1, 6, 6, 6, generator=torch.Generator().manual_seed(1))


def test_the_loss_is_the_weighted_cross_entropy_of_known_cases_averaged_over_targets() -> None:
    logits = {"size": torch.tensor([[1.0, 0.0], [0.5, 2.0], [3.0, 1.0]]), "grade": torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [0, 0, -1.0]])}
    labels = {"size": torch.tensor([0, -1, 1]), "grade": torch.tensor([-1, 1, 2])}
    terms = {}
    for target, rows in (("size", [0, 2]), ("grade", [1, 2])):
        weights = [float(WEIGHTS[target][labels[target][row]]) for row in rows]
        losses = []
        for row in rows:
            values = logits[target][row].tolist()
            losses.append(math.log(sum(map(math.exp, values))) - values[int(labels[target][row])])
        terms[target] = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / len(rows)
    assert float(make_task().loss(logits, labels)) == pytest.approx((terms["size"] + terms["grade"]) / 2, rel=1e-6)


def test_an_empty_cell_teaches_nothing_about_that_target_and_all_about_the_other() -> None:
    task = make_task()
    logits = {target: scores.detach().requires_grad_() for target, scores in task(images(3)).items()}
    task.loss(logits, {"size": torch.tensor([0, -1, 1]), "grade": torch.tensor([0, 2, 1])}).backward()
    of_size, of_grade = (logits[target].grad for target in ("size", "grade"))
    assert of_size is not None
    assert of_grade is not None
    assert of_size.abs().sum(dim=1).gt(0).tolist() == [True, False, True]
    assert of_grade.abs().sum(dim=1).gt(0).tolist() == [True, True, True]


def test_a_batch_without_any_known_case_has_a_loss_of_zero_that_can_be_differentiated() -> None:
    task = make_task()
    loss = task.loss(task(images(2)), {"size": torch.tensor([-1, -1]), "grade": torch.tensor([-1, -1])})
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in task.parameters())


def test_each_target_has_a_head_of_its_own() -> None:
    task = make_task()
    found = task(images(2))
    assert {target: tuple(scores.shape) for target, scores in found.items()} == {"size": (2, 2), "grade": (2, 3)}
    prediction = task.predict_step({"image": images(2), "row": torch.tensor([4, 5])}, 0)
    for target, probabilities in prediction["predictions"].items():
        torch.testing.assert_close(probabilities, found[target].softmax(dim=1))


def test_a_frozen_backbone_neither_learns_nor_moves_its_statistics() -> None:
    task = make_task(freeze=True)
    before = {name: value.clone() for name, value in task.backbone.state_dict().items()}
    assert not task.backbone.training  # as it is made: Lightning does not call train() before the first epoch
    task.train()
    assert not task.backbone.training
    assert task.heads.training
    task.loss(task(images(3)), {"size": torch.tensor([0, 1, 0]), "grade": torch.tensor([0, 1, 2])}).backward()
    assert all(parameter.grad is None for parameter in task.backbone.parameters())
    assert all(parameter.grad is not None for parameter in task.heads.parameters())
    assert all(torch.equal(before[name], value) for name, value in task.backbone.state_dict().items())


class TestValidation:
    def validated(self, labels: dict[str, list[int]]) -> tuple[dict[str, float], dict[str, Tensor]]:
        task, volumes = make_task().eval(), images(len(labels["size"]))
        trainer = pl.Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
        )
        given = {target: torch.tensor(values) for target, values in labels.items()}
        batches = [
            {"image": volumes[start : start + 3], "labels": {target: values[start : start + 3] for target, values in given.items()}}
            for start in range(0, len(volumes), 3)
        ]
        (metrics,) = trainer.validate(task, DataLoader(batches, batch_size=None), verbose=False)
        with torch.no_grad():
            return dict(metrics), {target: scores.softmax(dim=1) for target, scores in task.eval()(volumes).items()}

    def test_auc_is_scikit_learns_over_the_known_cases(self) -> None:
        labels = {"size": [0, 1, -1, 1, 0, 1, 0], "grade": [0, 1, 2, -1, 0, 1, 2]}
        metrics, probabilities = self.validated(labels)
        known = [row for row in range(7) if row != 2]
        size = roc_auc_score([labels["size"][row] for row in known], probabilities["size"][known, 1].numpy())
        known = [row for row in range(7) if row != 3]
        grade = roc_auc_score(
            [labels["grade"][row] for row in known], probabilities["grade"][known].numpy(), multi_class="ovr", average="macro"
        )
        assert metrics["val/auc/size"] == pytest.approx(size)
        assert metrics["val/auc/grade"] == pytest.approx(grade, abs=1e-6)
        assert metrics["val/auc"] == pytest.approx((size + grade) / 2, abs=1e-6)

    def test_a_target_without_both_classes_does_not_spoil_the_mean(self) -> None:
        metrics, _ = self.validated({"size": [0, 0, 0, 0], "grade": [0, 1, 2, 0]})
        assert math.isnan(metrics["val/auc/size"])
        assert metrics["val/auc"] == pytest.approx(metrics["val/auc/grade"])


def test_grades_and_numbers_are_scored_beside_classes_and_the_threshold_travels() -> None:
    torch.manual_seed(0)
    objectives = {
        "size": ClassObjective(WEIGHTS["size"], positive=1),
        "KL": GradeObjective(torch.ones(3)),
        "age": NumberObjective(60.0, 5.0),
    }
    heads = ClassificationHeads(4, {target: objective.n_outputs for target, objective in objectives.items()})
    recipe = ClassificationRecipe(1e-3, 1e-2, 0.1, 0)
    task = ClassificationTask(TinyBackbone(), heads, objectives, recipe).eval()  # type: ignore[arg-type]
    assert task.monitor == "val/score"
    labels = {
        "size": torch.tensor([0, 1, -1, 1]),
        "KL": torch.tensor([0, 2, 1, -1]),
        "age": torch.tensor([60.0, math.nan, 70.0, 55.0], dtype=torch.float64),
    }
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    batch = {"image": images(4), "labels": labels}
    (metrics,) = trainer.validate(task, DataLoader([batch], batch_size=None), verbose=False)
    with torch.no_grad():
        predictions = task.predict_step({**batch, "row": torch.arange(4)}, 0)["predictions"]
    known = [0, 1, 3]
    assert metrics["val/auc"] == pytest.approx(roc_auc_score(labels["size"][known], predictions["size"][known, 1]))
    assert metrics["val/r2/age"] == pytest.approx(objectives["age"].scores(labels["age"][[0, 2, 3]], predictions["age"][[0, 2, 3]])["r2"])
    expected = (metrics["val/auc"] + metrics["val/kappa/KL"] + metrics["val/r2/age"]) / 3
    assert metrics["val/score"] == pytest.approx(expected)
    saved: dict[str, Any] = {}
    task.on_save_checkpoint(saved)
    assert saved == {"thresholds": {"size": best_threshold(labels["size"][known].numpy() == 1, predictions["size"][known, 1].numpy())}}
    other = make_task()
    other.on_load_checkpoint(saved)
    assert other.thresholds == task.thresholds
    other.on_load_checkpoint({})  # of a run before there were thresholds
    assert other.thresholds == {}
