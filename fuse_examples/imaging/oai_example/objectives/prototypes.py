"""Distributions over prototypes, with what keeps one prototype from taking everything: what DINO's losses share."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fuse_examples.imaging.oai_example.objectives.processes import over_processes
from fuse_examples.imaging.oai_example.objectives.sinkhorn import sinkhorn_knopp

Views = Tensor | Sequence[Tensor]
Centering = Literal["moving_average", "sinkhorn"]


class PrototypeLoss(nn.Module):
    """A teacher's centred and sharpened distributions over K prototypes, and a student's that are only sharpened.

    Centring keeps one prototype from taking everything: "moving_average" subtracts an average of the teacher's past logits (Caron et
    al. 2021); "sinkhorn" balances the prototypes within each batch (`sinkhorn_knopp`), and remembers nothing.

    Attributes:
        center: (1, 1, K), moving average of the teacher's logits; kept and watched with "sinkhorn" too, where the loss does not use
            it. The shape is the one existing checkpoints hold under `criterion.center`.
    """

    center: Tensor

    def __init__(
        self, n_prototypes: int, student_temperature: float = 0.1, center_momentum: float = 0.9, centering: Centering = "moving_average"
    ) -> None:
        """Start with a centre of zeros.

        Raises:
            ValueError: a temperature that is not positive, a momentum outside 0 to 1, or an unknown way of centring.
        """
        super().__init__()
        if student_temperature <= 0:
            raise ValueError(f"student_temperature must be positive, not {student_temperature}")
        if not 0 <= center_momentum <= 1:
            raise ValueError(f"center_momentum must lie between 0 and 1, not {center_momentum}")
        if centering not in get_args(Centering):
            raise ValueError(f"centering must be one of {', '.join(get_args(Centering))}, not {centering!r}")
        self.student_temperature = student_temperature
        self.center_momentum = center_momentum
        self.centering = centering
        self.register_buffer("center", torch.zeros(1, 1, n_prototypes))

    def teacher_probabilities(self, teacher_logits: Tensor, teacher_temperature: float) -> Tensor:
        """Centred and sharpened distribution of the teacher over the prototypes, (..., K) as the logits, without gradient."""
        logits = at_least_float32(teacher_logits.detach())
        if self.centering == "sinkhorn":
            return sinkhorn_knopp(logits.flatten(0, -2), teacher_temperature).view_as(logits)
        return torch.softmax((logits - self.center[0, 0]) / teacher_temperature, dim=-1)

    def student_log_probabilities(self, student_logits: Tensor) -> Tensor:
        """Logarithm of the student's sharpened distribution over the prototypes, (..., K) as the logits."""
        return torch.log_softmax(at_least_float32(student_logits) / self.student_temperature, dim=-1)

    @torch.no_grad()
    def update_center(self, teacher_logits: Views) -> None:
        """Move the centre towards the mean of the teacher's logits over views, samples and processes.

        Args:
            teacher_logits: (..., K), or V tensors (B, K). Processes may hold different numbers of rows; where none holds any, the centre
                stays.
        """
        logits = at_least_float32(stacked(teacher_logits)).flatten(0, -2)
        total = over_processes(torch.cat([logits.sum(dim=0), logits.new_tensor([len(logits)])]), "sum")
        if total[-1] > 0:
            mean = total[:-1] / total[-1]
            self.center.lerp_(mean.to(self.center.dtype), 1 - self.center_momentum)


def stacked(views: Views) -> Tensor:
    """V tensors (B, K) as one (V, B, K); a tensor as it is. Raises ValueError where shapes differ."""
    if isinstance(views, Tensor):
        return views
    if len({view.shape for view in views}) != 1:
        raise ValueError(f"all views must have the same shape (B, K), not {[tuple(view.shape) for view in views]}")
    return torch.stack(list(views))


def at_least_float32(logits: Tensor) -> Tensor:
    """Half precision as float32; a softmax at a small temperature magnifies rounding."""
    return logits if logits.dtype == torch.float64 else logits.float()
