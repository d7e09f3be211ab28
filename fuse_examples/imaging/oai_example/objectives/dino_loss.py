"""The self-distillation loss of DINO with its centre (Caron et al. 2021, arXiv 2104.14294, equations 1 to 4)."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fuse_examples.imaging.oai_example.objectives.sinkhorn import sinkhorn_knopp

Views = Tensor | Sequence[Tensor]
Centering = Literal["moving_average", "sinkhorn"]


class DINOLoss(nn.Module):
    """Cross-entropy between what the teacher and the student say about different views of one scan.

    The teacher's logits are centred and sharpened, the student's only sharpened, and each becomes a distribution over the K
    prototypes. `forward` is a pure function of its arguments and the centre; training calls `update_center` by name once its
    optimiser step is done, and validation does not call it.

    Centring keeps one prototype from taking everything: "moving_average" subtracts an average of the teacher's past logits (Caron et
    al. 2021); "sinkhorn" balances the prototypes within each batch and all its views (`sinkhorn_knopp`), and remembers nothing.

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

    def forward(self, student_logits: Views, teacher_logits: Views, teacher_temperature: float) -> Tensor:
        """Mean cross-entropy over all pairs of a teacher's view and another view of the student's, and over the samples.

        Args:
            student_logits: (V_s, B, K), or V_s tensors (B, K); views in one order for both networks, the teacher's views first.
            teacher_logits: (V_t, B, K), or V_t tensors (B, K); no gradient flows into them.
            teacher_temperature: the temperature the teacher's logits are divided by after centring.

        Returns:
            A scalar in float32 (float64 for float64 logits), also under autocast.

        Raises:
            ValueError: shapes that do not fit together, or a single view, which leaves no pair.
        """
        student, teacher = _stack(student_logits), _stack(teacher_logits)
        self._check_shapes(student, teacher)
        log_probabilities = self.student_log_probabilities(student)
        return cross_view_cross_entropy(self.teacher_probabilities(teacher, teacher_temperature), log_probabilities)

    def teacher_probabilities(self, teacher_logits: Tensor, teacher_temperature: float) -> Tensor:
        """Centred and sharpened distribution of the teacher over the prototypes, (V, B, K), without gradient."""
        logits = _at_least_float32(teacher_logits.detach())
        if self.centering == "sinkhorn":
            return sinkhorn_knopp(logits.flatten(0, -2), teacher_temperature).view_as(logits)
        return torch.softmax((logits - self.center) / teacher_temperature, dim=-1)

    def student_log_probabilities(self, student_logits: Tensor) -> Tensor:
        """Logarithm of the student's sharpened distribution over the prototypes, (V, B, K)."""
        return torch.log_softmax(_at_least_float32(student_logits) / self.student_temperature, dim=-1)

    @torch.no_grad()
    def update_center(self, teacher_logits: Views) -> None:
        """Move the centre towards the mean of the teacher's logits over views, samples and processes.

        Args:
            teacher_logits: (V, B, K), or V tensors (B, K). Processes may hold different numbers of samples.
        """
        logits = _at_least_float32(_stack(teacher_logits)).flatten(0, 1)
        total = torch.cat([logits.sum(dim=0), logits.new_tensor([len(logits)])])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(total)
        mean = total[:-1] / total[-1]
        self.center.lerp_(mean.to(self.center.dtype), 1 - self.center_momentum)

    def _check_shapes(self, student: Tensor, teacher: Tensor) -> None:
        if student.ndim != 3 or teacher.ndim != 3 or student.shape[1:] != teacher.shape[1:] or student.shape[2] != self.center.shape[2]:
            raise ValueError(
                f"student logits {tuple(student.shape)} and teacher logits {tuple(teacher.shape)} must both be (views, batch, "
                f"{self.center.shape[2]}) with the same batch"
            )
        if len(student) == len(teacher) == 1:
            raise ValueError(
                "the teacher and the student see one view each, and it is the same one: no pair of different views is left to "
                "compare. Give the student at least two views."
            )


def cross_view_cross_entropy(teacher_probabilities: Tensor, student_log_probabilities: Tensor) -> Tensor:
    """Mean of H(teacher's view, student's view) over all pairs but those of one view with itself, and over the samples.

    A cross-entropy is linear in the teacher's distribution, so all teachers of one student view are added up first. That reads each
    tensor once, where a loop over the pairs reads V_t times V_s of them, and keeps the products elementwise: a matrix product
    would be as short, but is rounded under autocast and where TF32 is on.

    Args:
        teacher_probabilities: (V_t, B, K).
        student_log_probabilities: (V_s, B, K), of which the first V_t are the teacher's views.
    """
    n_teacher, n_student = len(teacher_probabilities), len(student_log_probabilities)
    n_shared = min(n_teacher, n_student)
    total = teacher_probabilities.new_zeros(())
    for view in range(n_shared):
        others = [other for other in range(n_teacher) if other != view]
        total = total - (teacher_probabilities[others].sum(dim=0) * student_log_probabilities[view]).sum()
    total = total - (teacher_probabilities.sum(dim=0) * student_log_probabilities[n_shared:].sum(dim=0)).sum()
    n_pairs = n_teacher * n_student - n_shared
    return total / (n_pairs * teacher_probabilities.shape[1])


def _stack(views: Views) -> Tensor:
    if isinstance(views, Tensor):
        return views
    if len({view.shape for view in views}) != 1:
        raise ValueError(f"all views must have the same shape (B, K), not {[tuple(view.shape) for view in views]}")
    return torch.stack(list(views))


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
