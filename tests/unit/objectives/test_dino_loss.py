"""The DINO loss and its centre against the paper's equations, written once more in float64 numpy."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.objectives.dino_loss import DINOLoss, cross_view_cross_entropy

Array = NDArray[np.float64]


def paper_softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def paper_loss(student: Array, teacher: Array, center: Array, student_temperature: float, teacher_temperature: float) -> float:
    """Sum over teacher's views x, sum over other views x', of H(P_t(x), P_s(x')), one sample at a time; then the mean."""
    terms = []
    for t, s, sample in product(range(len(teacher)), range(len(student)), range(student.shape[1])):
        if t != s:
            target = paper_softmax((teacher[t, sample] - center) / teacher_temperature)
            prediction = paper_softmax(student[s, sample] / student_temperature)
            terms.append(-sum(p * math.log(q) for p, q in zip(target, prediction, strict=True) if p > 0))
    return math.fsum(terms) / len(terms)


@pytest.mark.parametrize(("n_teacher", "n_student"), [(2, 2), (2, 6), (1, 2), (1, 5), (3, 4), (2, 1), (3, 3)])
@pytest.mark.parametrize(("batch", "n_prototypes"), [(1, 2), (1, 33), (3, 17)])
@pytest.mark.parametrize(("student_temperature", "teacher_temperature"), [(0.1, 0.04), (0.1, 0.07), (1.0, 0.5)])
@pytest.mark.parametrize("center_scale", [0.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_loss_equals_the_papers_formula(
    n_teacher: int,
    n_student: int,
    batch: int,
    n_prototypes: int,
    student_temperature: float,
    teacher_temperature: float,
    center_scale: float,
    dtype: torch.dtype,
) -> None:
    rng = np.random.default_rng(n_teacher * 1000 + n_student * 100 + batch * 10 + n_prototypes)
    student, teacher = rng.uniform(-1, 1, (n_student, batch, n_prototypes)), rng.uniform(-1, 1, (n_teacher, batch, n_prototypes))
    student, teacher = student.astype(np.float32).astype(float), teacher.astype(np.float32).astype(float)
    center = (center_scale * rng.normal(size=n_prototypes)).astype(np.float32)
    loss = DINOLoss(n_prototypes, student_temperature)
    loss.center.copy_(torch.from_numpy(center))
    result = loss(torch.from_numpy(student).to(dtype), torch.from_numpy(teacher).to(dtype), teacher_temperature)
    assert result.dtype == dtype
    expected = paper_loss(student, teacher, center.astype(float), student_temperature, teacher_temperature)
    assert result.item() == pytest.approx(
        expected, rel=1e-6 if dtype == torch.float32 else 1e-12, abs=1e-6 if dtype == torch.float32 else 1e-12
    )


def test_loss_stays_exact_with_many_prototypes_and_extreme_logits() -> None:
    rng = np.random.default_rng(0)
    student, teacher = (rng.uniform(-3, 3, (views, 2, 4096)).astype(np.float32).astype(float) for views in (10, 2))
    expected = paper_loss(student, teacher, np.zeros(4096), 0.1, 0.04)
    result = DINOLoss(4096)(torch.from_numpy(student).float(), torch.from_numpy(teacher).float(), 0.04)
    assert result.item() == pytest.approx(expected, rel=1e-6)


def test_gradient_is_the_papers() -> None:
    """d H / d student's logit = (P_s - P_t) / temperature, summed over the pairs a student's view is in."""
    rng = np.random.default_rng(1)
    student, teacher = rng.normal(size=(4, 2, 5)), rng.normal(size=(2, 2, 5))
    logits = torch.tensor(student, requires_grad=True)
    DINOLoss(5, 0.1)(logits, torch.tensor(teacher, requires_grad=True), 0.05).backward()
    expected = np.zeros_like(student)
    for t, s, sample in product(range(2), range(4), range(2)):
        if t != s:
            difference = paper_softmax(student[s, sample] / 0.1) - paper_softmax(teacher[t, sample] / 0.05)
            expected[s, sample] += difference / 0.1 / (6 * 2)
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), expected, atol=1e-12)


def test_no_gradient_reaches_the_teacher() -> None:
    teacher = torch.randn(2, 1, 4, requires_grad=True)
    DINOLoss(4)(torch.randn(2, 1, 4, requires_grad=True), teacher, 0.04).backward()
    assert teacher.grad is None


def test_lists_of_views_and_stacked_views_are_the_same() -> None:
    student, teacher = torch.randn(5, 3, 7), torch.randn(2, 3, 7)
    loss = DINOLoss(7)
    assert loss(list(student), tuple(teacher), 0.04) == loss(student, teacher, 0.04)


def test_forward_is_pure() -> None:
    loss = DINOLoss(4)
    student, teacher = torch.randn(3, 2, 4), torch.randn(2, 2, 4)
    assert loss(student, teacher, 0.04) == loss(student, teacher, 0.04)
    assert torch.equal(loss.center, torch.zeros(1, 1, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_loss_is_float32_for_half_logits_and_under_autocast(dtype: torch.dtype) -> None:
    student, teacher = torch.randn(4, 2, 64).to(dtype), torch.randn(2, 2, 64).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = DINOLoss(64)(student, teacher, 0.04)
    assert result.dtype == torch.float32
    assert result.item() == pytest.approx(paper_loss(student.double().numpy(), teacher.double().numpy(), np.zeros(64), 0.1, 0.04), rel=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(2, 1, 3), (2, 4, 9), (1, 2, 5), (2, 64, 128)])
def test_center_is_the_moving_average_of_the_batch_mean(momentum: float, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(2)
    loss = DINOLoss(shape[2], center_momentum=momentum)
    expected = np.zeros(shape[2])
    for _ in range(20):
        logits = rng.normal(3, 1, shape).astype(np.float32).astype(float)
        rows = [logits[view, sample] for view in range(shape[0]) for sample in range(shape[1])]
        expected = expected * momentum + (1 - momentum) * sum(rows) / len(rows)
        loss.update_center(torch.from_numpy(logits).float())
    assert loss.center.shape == (1, 1, shape[2])
    np.testing.assert_allclose(loss.center.flatten().numpy(), expected, rtol=1e-6, atol=0)


def test_center_means_over_all_samples_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes with one and three samples count as one with four."""
    here, there = torch.randn(2, 1, 5), torch.randn(2, 3, 5)

    def add_the_other(total: torch.Tensor, op: object) -> None:
        assert op == torch.distributed.ReduceOp.SUM
        total += torch.cat([there.sum(dim=(0, 1)), torch.tensor([6.0])])

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", add_the_other)
    loss = DINOLoss(5, center_momentum=0.0)
    loss.update_center(here)
    torch.testing.assert_close(loss.center, torch.cat([here, there], dim=1).mean(dim=(0, 1), keepdim=True))


def test_center_is_saved_under_its_name_and_shape() -> None:
    assert {name: tuple(tensor.shape) for name, tensor in DINOLoss(6).state_dict().items()} == {"center": (1, 1, 6)}


def test_a_single_view_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no pair of different views is left to compare\. Give the student at least two views"):
        DINOLoss(4)(torch.randn(1, 2, 4), torch.randn(1, 2, 4), 0.04)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((4, 2, 5), (2, 2, 4)), ((4, 3, 4), (2, 2, 4)), ((4, 2, 5), (2, 2, 5)), ((8, 4), (4, 4)), ((4, 2, 4), (2, 1, 4))],
)
def test_shapes_that_do_not_fit_are_refused(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must both be \(views, batch, 4\) with the same batch"):
        DINOLoss(4)(torch.randn(student), torch.randn(teacher), 0.04)


def test_views_of_different_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="all views must have the same shape"):
        DINOLoss(4)([torch.randn(2, 4), torch.randn(3, 4)], torch.randn(2, 2, 4), 0.04)


@pytest.mark.parametrize(("name", "value"), [("student_temperature", 0.0), ("center_momentum", 1.1), ("center_momentum", -0.1)])
def test_values_outside_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must .* not {value}"):
        DINOLoss(4, **{name: value})


def test_uniform_collapse_costs_ln_k() -> None:
    uniform = torch.full((2, 3, 8), 1 / 8)
    assert cross_view_cross_entropy(uniform, uniform.log()).item() == pytest.approx(math.log(8))
