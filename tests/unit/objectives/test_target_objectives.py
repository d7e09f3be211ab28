"""Losses, predictions and thresholds of targets, each against a formula written out or a library."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, r2_score

from fuse_examples.imaging.oai_example.objectives.target_objectives import ClassObjective, GradeObjective, NumberObjective
from fuse_examples.imaging.oai_example.objectives.threshold import best_threshold

OUTPUTS = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 1, 1, 2, 0, 3])
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_without_focus_the_class_loss_is_torchs_cross_entropy(smoothing: float) -> None:
    expected = F.cross_entropy(OUTPUTS, LABELS, weight=WEIGHTS, label_smoothing=smoothing, reduction="none").mean()
    torch.testing.assert_close(ClassObjective(WEIGHTS, label_smoothing=smoothing).loss(OUTPUTS, LABELS), expected)


def test_the_focal_loss_written_out() -> None:
    terms = []
    for outputs, label in zip(OUTPUTS.tolist(), LABELS.tolist(), strict=True):
        p = math.exp(outputs[label]) / sum(map(math.exp, outputs))
        terms.append(-WEIGHTS[label].item() * (1 - p) ** 2 * math.log(p))
    found = ClassObjective(WEIGHTS, focal_gamma=2.0).loss(OUTPUTS, LABELS)
    assert float(found) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_the_focal_loss_of_a_certain_case_has_a_finite_gradient() -> None:
    outputs = torch.tensor([[200.0, 0.0]], requires_grad=True)
    ClassObjective([1.0, 1.0], focal_gamma=0.5, label_smoothing=0.1).loss(outputs, torch.tensor([0])).backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


def test_the_grade_loss_written_out() -> None:
    outputs = OUTPUTS[:, :3]
    total, count = 0.0, 0.0
    for logits, grade in zip(outputs.tolist(), LABELS.tolist(), strict=True):
        for k, logit in enumerate(logits):
            if grade >= k:
                p = 1 / (1 + math.exp(-logit))
                total -= WEIGHTS[grade].item() * math.log(p if grade > k else 1 - p)
                count += 1
    assert float(GradeObjective(WEIGHTS).loss(outputs, LABELS)) == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize(("objective", "outputs"), [(ClassObjective(WEIGHTS), OUTPUTS), (GradeObjective(WEIGHTS), OUTPUTS[:, :3])])
def test_a_weight_counts_in_a_batch_of_one(objective: ClassObjective | GradeObjective, outputs: torch.Tensor) -> None:
    plain = type(objective)(torch.ones(4))
    for case, label in zip(outputs.split(1), LABELS.split(1), strict=True):
        torch.testing.assert_close(objective.loss(case, label), WEIGHTS[label[0]] * plain.loss(case, label))


def test_probabilities_of_grades_are_products_of_conditional_ones() -> None:
    objective = GradeObjective(torch.ones(4))
    found = objective.predict(OUTPUTS[:, :3])
    above = OUTPUTS[:, :3].sigmoid()
    expected = torch.stack(
        [
            1 - above[:, 0],
            above[:, 0] * (1 - above[:, 1]),
            above[:, 0] * above[:, 1] * (1 - above[:, 2]),
            above[:, 0] * above[:, 1] * above[:, 2],
        ],
        dim=1,
    )
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(7))
    perfect = torch.tensor([[-9.0, 0, 0], [9.0, -9, 0], [9.0, 9, -9], [9.0, 9, 9]])
    assert objective.predict(perfect).argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_a_free_grade_head_learns_the_shares_of_the_grades() -> None:
    outputs = torch.zeros(3, requires_grad=True)
    objective, optimiser = GradeObjective(torch.ones(4)), torch.optim.Adam([outputs], lr=0.1)
    for _ in range(400):
        optimiser.zero_grad()
        objective.loss(outputs.expand(7, 3), LABELS).backward()
        optimiser.step()
    shares = torch.bincount(LABELS, minlength=4) / len(LABELS)
    torch.testing.assert_close(objective.predict(outputs.detach()[None])[0], shares, atol=2e-3, rtol=0)


def test_grades_are_scored_by_their_median() -> None:
    predictions = torch.tensor([[0.4, 0.2, 0.4], [0.1, 0.1, 0.8], [0.9, 0.1, 0.0], [0.0, 0.45, 0.55]])
    labels = torch.tensor([1, 2, 0, 0])
    scores = GradeObjective(torch.ones(3)).scores(labels, predictions)
    assert scores["kappa"] == pytest.approx(cohen_kappa_score(labels, [1, 2, 0, 2], weights="quadratic"))
    assert scores["mae"] == pytest.approx(0.5)
    assert math.isnan(GradeObjective(torch.ones(3)).scores(labels[:0], predictions[:0])["kappa"])


def test_numbers_are_learned_in_units_of_their_deviation() -> None:
    objective = NumberObjective(60.0, 8.0)
    outputs, labels = torch.tensor([[0.5], [-1.0]]), torch.tensor([60.0, 68.0], dtype=torch.float64)
    assert float(objective.loss(outputs, labels)) == pytest.approx((0.5**2 + 2.0**2) / 2)
    assert objective.predict(outputs)[:, 0].tolist() == [64.0, 52.0]
    scores = objective.scores(labels, objective.predict(outputs))
    assert scores == {"r2": pytest.approx(r2_score(labels, [64.0, 52.0])), "mae": pytest.approx(10.0)}
    assert math.isnan(objective.scores(labels[:1], outputs[:1])["r2"])


@pytest.mark.parametrize("seed", range(6))
def test_the_threshold_has_the_highest_balanced_accuracy_of_all(seed: int) -> None:
    generator = np.random.default_rng(seed)
    positive = generator.random(40) < 0.3
    positive[:2] = True, False
    probability = np.round(np.clip(generator.normal(0.3, 0.2, 40) + 0.2 * positive, 0, 1), 2)
    found = best_threshold(positive, probability)
    assert found is not None
    everywhere = [balanced_accuracy_score(positive, probability >= threshold) for threshold in np.linspace(0, 1.01, 405)]
    assert balanced_accuracy_score(positive, probability >= found) == pytest.approx(max(everywhere))
    assert found not in probability


def test_a_threshold_needs_both_classes_and_lies_near_one_half_where_several_are_as_good() -> None:
    assert best_threshold(np.array([True, True]), np.array([0.1, 0.9])) is None
    assert best_threshold(np.array([False, False]), np.array([0.1, 0.9])) is None
    assert best_threshold(np.array([False, True]), np.array([0.3, 0.3])) == 0.5
    positive = np.array([False, False, True, False, True, True])
    # Between 0.2 and 0.4 and between 0.6 and 0.8 one case in three is wrong.
    assert best_threshold(positive, np.array([0.0, 0.2, 0.4, 0.65, 0.8, 1.0])) == pytest.approx(0.3)
    assert best_threshold(positive, np.array([0.0, 0.1, 0.2, 0.5, 0.6, 1.0])) == pytest.approx(0.55)
    objective = ClassObjective([1.0, 1.0], positive=0)
    predictions = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    assert objective.threshold(torch.tensor([0, 1]), predictions) == pytest.approx(0.55)
    assert ClassObjective([1.0, 1.0, 1.0]).threshold(torch.tensor([0]), torch.ones(1, 3) / 3) is None
