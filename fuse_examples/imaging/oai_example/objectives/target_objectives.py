"""What a classifier's head learns for one target, and how its outputs become predictions: classes, grades or a number.

Labels of cases without a value are the caller's business: every function here takes known cases only.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import cohen_kappa_score, mean_absolute_error, r2_score
from torch import Tensor

from fuse_examples.imaging.oai_example.objectives.ranking import macro_auc
from fuse_examples.imaging.oai_example.objectives.threshold import best_threshold


class TargetObjective(Protocol):
    """One target's loss, prediction and validation scores.

    Attributes:
        n_outputs: outputs of the target's head.
        main_score: the score of `scores` that helps to choose the best epoch; larger is better.
    """

    @property
    def n_outputs(self) -> int:
        """Outputs of the target's head."""

    @property
    def main_score(self) -> str:
        """Name of the score that chooses the best epoch."""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of (B, n_outputs) outputs and (B,) labels."""

    def predict(self, outputs: Tensor) -> Tensor:
        """(B, n_outputs) outputs to probabilities (B, K), or to one number each, (B, 1), in the column's own unit."""

    def evidence(self, outputs: Tensor, called: int | None) -> Tensor:
        """(B, n_outputs) outputs to a number each, (B,), that grows with what speaks for the class `called`."""

    def scores(self, labels: Tensor, predictions: Tensor) -> dict[str, float]:
        """Validation scores by name; NaN where one is undefined."""

    def threshold(self, labels: Tensor, predictions: Tensor) -> float | None:
        """The probability of the positive class from which on it should be called, by these cases; None where there is no such class."""


class ClassObjective:
    """Classes: cross-entropy, focal and smoothed where that is asked for.

    Args:
        class_weights: weight of each class in the loss, (K,).
        focal_gamma: exponent of the focal loss (Lin et al. 2017, arXiv:1708.02002): a case counts (1 - p)^gamma for the probability p of
            the class in question; 0 is cross-entropy.
        label_smoothing: share of the label that is spread evenly over all classes (Szegedy et al. 2016, arXiv:1512.00567).
        positive: with two classes, index of the positive one.
    """

    main_score = "auc"

    def __init__(
        self, class_weights: Sequence[float] | Tensor, focal_gamma: float = 0.0, label_smoothing: float = 0.0, positive: int | None = None
    ) -> None:
        self.class_weights = torch.as_tensor(class_weights, dtype=torch.float32)
        self.focal_gamma, self.label_smoothing, self.positive = focal_gamma, label_smoothing, positive
        self.n_outputs = len(self.class_weights)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean over cases of -sum_k q_k w_k (1 - p_k)^gamma log p_k, with q the smoothed label.

        Divided by the number of cases and not by the sum of their weights: that would cancel the weights of a batch of one, and of any
        batch whose cases are of one class.
        """
        weights = self.class_weights.to(outputs.device)
        log_p = outputs.log_softmax(dim=1)
        aimed = F.one_hot(labels, self.n_outputs).to(log_p) * (1 - self.label_smoothing) + self.label_smoothing / self.n_outputs
        terms = -aimed * weights * log_p
        if self.focal_gamma:
            terms = terms * (1 - log_p.exp()).clamp_min(1e-12) ** self.focal_gamma
        return terms.sum() / len(labels)

    def predict(self, outputs: Tensor) -> Tensor:
        """Probabilities (B, K)."""
        return outputs.softmax(dim=1)

    def evidence(self, outputs: Tensor, called: int | None) -> Tensor:
        """The log odds of the class against all others."""
        assert called is not None
        others = [index for index in range(self.n_outputs) if index != called]
        return outputs[:, called] - outputs[:, others].logsumexp(dim=1)

    def scores(self, labels: Tensor, predictions: Tensor) -> dict[str, float]:
        """AUC of two classes, or the mean over classes of each against the rest."""
        return {"auc": macro_auc(labels.numpy(), predictions.numpy())}

    def threshold(self, labels: Tensor, predictions: Tensor) -> float | None:
        """The threshold of the highest balanced accuracy."""
        if self.positive is None:
            return None
        return best_threshold(labels.numpy() == self.positive, predictions[:, self.positive].numpy())


class GradeObjective:
    """Grades in an order, by conditional probabilities (CORN; Shi, Cao and Raschka 2021, arXiv:2111.08851).

    Output k is the logit of "above grade k, given at least grade k"; it learns from the cases of at least grade k. The products of these
    probabilities fall with the grade, so no grade is more probable to be exceeded than a lower one.

    Args:
        class_weights: weight of each grade in the loss, (K,).
    """

    main_score = "kappa"

    def __init__(self, class_weights: Sequence[float] | Tensor) -> None:
        self.class_weights = torch.as_tensor(class_weights, dtype=torch.float32)
        self.n_outputs = len(self.class_weights) - 1

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean over all pairs of a case and an output that learns from it of the binary cross-entropy times the case's weight."""
        grades = torch.arange(self.n_outputs, device=outputs.device)
        above, asked = labels[:, None] > grades, labels[:, None] >= grades
        weights = self.class_weights.to(outputs.device)[labels][:, None] * asked
        terms = F.binary_cross_entropy_with_logits(outputs, above.to(outputs), reduction="none")
        return (terms * weights).sum() / asked.sum()

    def predict(self, outputs: Tensor) -> Tensor:
        """Probabilities (B, K) of each grade."""
        above = outputs.float().sigmoid().cumprod(dim=1)
        ends = F.pad(F.pad(above, (1, 0), value=1.0), (0, 1), value=0.0)
        return ends[:, :-1] - ends[:, 1:]

    def evidence(self, outputs: Tensor, called: int | None) -> Tensor:
        """What speaks for a high grade: the sum of the logits."""
        return outputs.sum(dim=1)

    def scores(self, labels: Tensor, predictions: Tensor) -> dict[str, float]:
        """Quadratic kappa of the median grade, and its mean distance in grades."""
        if not len(labels):
            return {"kappa": float("nan"), "mae": float("nan")}
        above = predictions.flip(1).cumsum(dim=1).flip(1)[:, 1:]
        grades = (above > 0.5).sum(dim=1)
        kappa = cohen_kappa_score(labels.numpy(), grades.numpy(), labels=np.arange(self.n_outputs + 1), weights="quadratic")
        return {"kappa": float(kappa), "mae": float((grades - labels).abs().float().mean())}

    def threshold(self, labels: Tensor, predictions: Tensor) -> float | None:
        """None: grades are called by their median."""
        return None


class NumberObjective:
    """A number, learned in units of its standard deviation over the training cases, by squared error.

    Args:
        mean, std: of the training cases.
    """

    main_score = "r2"
    n_outputs = 1

    def __init__(self, mean: float, std: float) -> None:
        self.mean, self.std = mean, std

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean squared error of (B, 1) outputs against (B,) labels in the column's own unit, both standardised."""
        return F.mse_loss(outputs[:, 0], ((labels - self.mean) / self.std).to(outputs))

    def predict(self, outputs: Tensor) -> Tensor:
        """Numbers (B, 1) in the column's own unit."""
        return outputs.double() * self.std + self.mean

    def evidence(self, outputs: Tensor, called: int | None) -> Tensor:
        """What speaks for a large number: the number itself."""
        return outputs[:, 0]

    def scores(self, labels: Tensor, predictions: Tensor) -> dict[str, float]:
        """R squared and mean absolute error."""
        if len(labels) < 2:
            return {"r2": float("nan"), "mae": float("nan")}
        truth, found = labels.numpy(), predictions[:, 0].numpy()
        return {"r2": float(r2_score(truth, found)), "mae": float(mean_absolute_error(truth, found))}

    def threshold(self, labels: Tensor, predictions: Tensor) -> float | None:
        """None: there is nothing to call."""
        return None
