"""Masked self-distillation on the cells of a feature map (iBOT: Zhou et al. 2022, arXiv 2111.07832, equation 2)."""

import torch
from torch import Tensor

from fuse_examples.imaging.oai_example.objectives.prototypes import PrototypeLoss


class PatchLoss(PrototypeLoss):
    """Cross-entropy between what the teacher says of a cell that it sees and the student of the same cell, hidden from it.

    Only masked cells count: the mean over the masked cells of a view, then the mean over views, so that a view counts alike whatever
    share of it is masked. The centre is this loss's own, since cells are distributed otherwise than whole views are.
    """

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, n_cells: Tensor, teacher_temperature: float) -> Tensor:
        """Mean cross-entropy over the masked cells of each view, and over views.

        Args:
            student_logits: (N, K), the masked cells of the first view, then those of the second, and so on.
            teacher_logits: (N, K), the same cells of the same views; no gradient flows into them.
            n_cells: (M,), how many of the rows belong to each view; all at least 1, N in sum. Without views the loss is 0: the processes
                of a run are balanced together, so one whose batch has no masked view takes part.
            teacher_temperature: the temperature the teacher's logits are divided by after centring.

        Returns:
            A scalar in float32 (float64 for float64 logits), also under autocast.

        Raises:
            ValueError: shapes that do not fit together, or a view without masked cells.
        """
        return self.of_targets(student_logits, self.teacher_probabilities(teacher_logits, teacher_temperature), n_cells)

    def of_targets(self, student_logits: Tensor, teacher_probabilities: Tensor, n_cells: Tensor) -> Tensor:
        """The loss against the teacher's probabilities (N, K) instead of its logits, for callers that also look at them."""
        if student_logits.shape != teacher_probabilities.shape or int(n_cells.sum()) != len(student_logits) or bool((n_cells < 1).any()):
            raise ValueError(
                f"the student's cells {tuple(student_logits.shape)} and the teacher's {tuple(teacher_probabilities.shape)} must be the "
                f"same, {n_cells.tolist()} of each view"
            )
        cross_entropy = -(teacher_probabilities * self.student_log_probabilities(student_logits)).sum(dim=-1)
        shares = torch.repeat_interleave(1 / (n_cells * len(n_cells)).to(cross_entropy.dtype), n_cells)
        return (cross_entropy * shares).sum()
