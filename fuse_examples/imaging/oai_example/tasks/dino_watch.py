"""What is watched in a DINO run, batch by batch and over an epoch, to tell learning from collapse."""

import torch
from torch import Tensor

from fuse_examples.imaging.oai_example.objectives import collapse
from fuse_examples.imaging.oai_example.objectives.dino_loss import DINOLoss

FEATURE_ROWS = 1024
"""How many of the teacher's latest features the effective rank is of."""


class DINOWatch:
    """Keeps what an epoch's figures need; nothing of it is saved, so after a resume in mid-epoch they cover what is left of it."""

    def __init__(self) -> None:
        self._recent_features: list[Tensor] = []
        self._used_prototypes: Tensor | None = None

    def begin_epoch(self) -> None:
        """Forget the epoch before."""
        self._recent_features = []
        self._used_prototypes = None

    @torch.no_grad()
    def batch_figures(
        self, criterion: DINOLoss, features: Tensor, teacher_logits: Tensor, student_logits: Tensor, teacher_temperature: float
    ) -> dict[str, Tensor]:
        """Take note of one batch and return its figures by logged name.

        Args:
            criterion: the loss, for its temperatures and centre.
            features: the teacher's, (V_t * B, F).
            teacher_logits: (V_t, B, K).
            student_logits: (V_s, B, K).
            teacher_temperature: the step's.
        """
        probabilities = criterion.teacher_probabilities(teacher_logits, teacher_temperature)
        log_probabilities = criterion.student_log_probabilities(student_logits)
        used = collapse.prototypes_used(probabilities)
        self._used_prototypes = used if self._used_prototypes is None else self._used_prototypes | used
        self._recent_features = _latest([*self._recent_features, features.float()])
        return {
            "dino/teacher_entropy": collapse.mean_entropy(probabilities),
            "dino/student_entropy": collapse.mean_entropy(log_probabilities.exp()),
            "dino/kl": collapse.teacher_student_divergence(probabilities, log_probabilities),
            "dino/center_norm": criterion.center.norm(),
        }

    def epoch_figures(self) -> dict[str, Tensor]:
        """Figures that take many volumes, by logged name: the rank of the teacher's features and the share of prototypes it used."""
        if self._used_prototypes is None:
            return {}
        return {
            "dino/effective_rank": collapse.effective_rank(torch.cat(self._recent_features)),
            "dino/prototypes_used": self._used_prototypes.float().mean(),
        }


def _latest(features: list[Tensor]) -> list[Tensor]:
    """The last of `features` that hold `FEATURE_ROWS` rows together."""
    while sum(len(rows) for rows in features[1:]) >= FEATURE_ROWS:
        features = features[1:]
    return features
