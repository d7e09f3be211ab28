"""The teacher: a copy of the student that follows it by a moving average, statistics of normalisation layers included."""

from collections.abc import Iterable
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

Network = TypeVar("Network", bound=nn.Module)


def start_teacher(student: Network) -> Network:
    """Copy the student, weights and all, as a network in evaluation mode that takes no gradient."""
    return deepcopy(student).requires_grad_(False).eval()


@torch.no_grad()
def update_teacher(student: nn.Module, teacher: nn.Module, momentum: float) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, in place (Caron et al. 2021, arXiv 2104.14294, section 3.1).

    Floating-point buffers, such as running means and variances, follow by the same average, so that the statistics stay those of
    the weights beside them (Cai et al. 2021, arXiv 2101.08482). Other buffers, such as counters, are copied.

    Raises:
        ValueError: the two networks differ in the names or shapes of their parameters and buffers, or momentum is outside 0 to 1.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum must lie between 0 and 1, not {momentum}")
    of_student, of_teacher = _tensors(student), _tensors(teacher)
    _check_same(of_student, of_teacher)
    averaged = [name for name, tensor in of_teacher.items() if tensor.is_floating_point()]
    if averaged:
        average = get_ema_multi_avg_fn(momentum)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        average([of_teacher[name] for name in averaged], [of_student[name] for name in averaged], None)
    for name in of_teacher.keys() - set(averaged):
        of_teacher[name].copy_(of_student[name])


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _check_same(of_student: dict[str, Tensor], of_teacher: dict[str, Tensor]) -> None:
    problems = []
    if missing := of_student.keys() - of_teacher.keys():
        problems.append(f"only the student has {_listed(missing)}")
    if missing := of_teacher.keys() - of_student.keys():
        problems.append(f"only the teacher has {_listed(missing)}")
    for name in of_student.keys() & of_teacher.keys():
        if of_student[name].shape != of_teacher[name].shape:
            problems.append(f"{name} is {tuple(of_student[name].shape)} in the student, {tuple(of_teacher[name].shape)} in the teacher")
    if problems:
        raise ValueError("the teacher must be built like the student: " + "; ".join(problems))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
