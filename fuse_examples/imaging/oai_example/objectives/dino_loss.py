"""The self-distillation loss of DINO with its centre (Caron et al. 2021, arXiv 2104.14294, equations 1 to 4)."""

from torch import Tensor

from fuse_examples.imaging.oai_example.objectives.prototypes import PrototypeLoss, Views, stacked


class DINOLoss(PrototypeLoss):
    """Cross-entropy between what the teacher and the student say about different views of one scan.

    The teacher's logits are centred and sharpened, the student's only sharpened, and each becomes a distribution over the K
    prototypes. `forward` is a pure function of its arguments and the centre; training calls `update_center` by name once its
    optimiser step is done, and validation does not call it. With centring by "sinkhorn" all views of a batch are balanced together.
    """

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
        return cross_view_cross_entropy(*self.distributions(student_logits, teacher_logits, teacher_temperature))

    def distributions(self, student_logits: Views, teacher_logits: Views, teacher_temperature: float) -> tuple[Tensor, Tensor]:
        """What the loss compares, from the arguments of `forward`, for callers that also look at it: balancing a batch takes time.

        Returns:
            The teacher's probabilities (V_t, B, K), without gradient, and the logarithm of the student's (V_s, B, K).

        Raises:
            ValueError: as `forward`.
        """
        student, teacher = stacked(student_logits), stacked(teacher_logits)
        self._check_shapes(student, teacher)
        return self.teacher_probabilities(teacher, teacher_temperature), self.student_log_probabilities(student)

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
