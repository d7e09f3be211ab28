"""The patch loss against its definition, written once more in float64 with loops; its centre; what it refuses."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.objectives.patch_loss import PatchLoss

Array = NDArray[np.float64]


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def definition(student: Array, teacher: Array, n_cells: list[int], center: Array, temperatures: tuple[float, float]) -> float:
    """Per view the mean over its cells of H(P_t(cell), P_s(cell)), then the mean over views."""
    of_views, first = [], 0
    for count in n_cells:
        cells = []
        for cell in range(first, first + count):
            target = softmax((teacher[cell] - center) / temperatures[1])
            prediction = softmax(student[cell] / temperatures[0])
            cells.append(-sum(p * math.log(q) for p, q in zip(target, prediction, strict=True)))
        of_views.append(math.fsum(cells) / count)
        first += count
    return math.fsum(of_views) / len(of_views)


@pytest.mark.parametrize("n_cells", [[1], [3], [1, 6], [4, 4, 2]])
@pytest.mark.parametrize("temperatures", [(0.1, 0.04), (0.1, 0.07), (1.0, 0.5)])
@pytest.mark.parametrize("center_scale", [0.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_its_definition(n_cells: list[int], temperatures: tuple[float, float], center_scale: float, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(sum(n_cells))
    student, teacher = (rng.uniform(-1, 1, (sum(n_cells), 9)).astype(np.float32).astype(float) for _ in range(2))
    center = (center_scale * rng.normal(size=9)).astype(np.float32)
    loss = PatchLoss(9, temperatures[0])
    loss.center.copy_(torch.from_numpy(center))
    found = loss(torch.from_numpy(student).to(dtype), torch.from_numpy(teacher).to(dtype), torch.tensor(n_cells), temperatures[1])
    assert found.dtype == dtype
    assert found.item() == pytest.approx(definition(student, teacher, n_cells, center.astype(float), temperatures), rel=1e-6)


def test_gradient_equals_finite_differences_and_flows_into_the_student_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, 4, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    loss = PatchLoss(4)
    n_cells = torch.tensor([2, 3])
    assert torch.autograd.gradcheck(lambda logits: loss(logits, teacher.detach(), n_cells, 0.5), (student,))
    loss(student, teacher, n_cells, 0.5).backward()
    assert teacher.grad is None


def test_the_centre_is_the_average_of_all_cells_and_stays_without_any() -> None:
    loss = PatchLoss(2, center_momentum=0.75)
    loss.update_center(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]]))
    torch.testing.assert_close(loss.center, torch.tensor([[[0.75, 0.5]]]))
    loss.update_center(torch.zeros(0, 2))
    torch.testing.assert_close(loss.center, torch.tensor([[[0.75, 0.5]]]))


@pytest.mark.parametrize(("n_student", "n_teacher", "n_cells"), [(3, 2, [3]), (3, 3, [1, 1]), (3, 3, [3, 0])])
def test_refuses_cells_that_are_not_those_of_the_views(n_student: int, n_teacher: int, n_cells: list[int]) -> None:
    with pytest.raises(ValueError, match="must be the same"):
        PatchLoss(4)(torch.zeros(n_student, 4), torch.zeros(n_teacher, 4), torch.tensor(n_cells), 0.1)
