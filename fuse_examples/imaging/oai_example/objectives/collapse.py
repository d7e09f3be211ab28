"""Figures that tell whether self-distillation learns or collapses; a falling loss tells neither.

All take float32 or better internally, need no gradient and return tensors on the device of their input.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


@torch.no_grad()
def effective_rank(features: Tensor) -> Tensor:
    """How many directions the features use: exp of the entropy of the normalised singular values.

    RankMe (Garrido et al. 2023, arXiv 2210.02885). Between 1 (all features parallel) and min(N, F); N should exceed the rank one
    hopes to see. Features are not centred, as in the paper: features that are all equal have rank 1. Rows that are not finite are
    left out; without any other the rank is not a number.

    Args:
        features: (N, F), one row a scan or view.
    """
    finite = features[features.isfinite().all(dim=-1)]
    if not len(finite):
        return torch.tensor(math.nan, device=features.device)
    values = torch.linalg.svdvals(_at_least_float32(finite))
    shares = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    return _entropy(shares).exp()


@torch.no_grad()
def mean_entropy(probabilities: Tensor) -> Tensor:
    """Mean entropy in nats of distributions over the last axis, (..., K): 0 is one prototype each, ln K is uniform."""
    return _entropy(_at_least_float32(probabilities)).mean()


@torch.no_grad()
def divergence_of_rows(probabilities: Tensor) -> Tensor:
    """How far the N distributions of (..., N, K) differ, in nats: the entropy of their mean less their mean entropy.

    The Jensen-Shannon divergence of Lin (1991, doi 10.1109/18.61115) with equal weights, and a mean over what stands before: 0 where all
    rows are one distribution, whether uniform, on one prototype or anything between; at most ln N.
    """
    rows = _at_least_float32(probabilities)
    return (_entropy(rows.mean(dim=-2)) - _entropy(rows).mean(dim=-1)).mean()


@torch.no_grad()
def teacher_student_divergence(teacher_probabilities: Tensor, student_log_probabilities: Tensor) -> Tensor:
    """Mean KL(teacher || student) in nats over the pairs of different views and the samples: the loss less the teacher's entropy.

    Zero means that the student predicts the teacher perfectly, which with a constant teacher is collapse.

    Args:
        teacher_probabilities: (V_t, B, K).
        student_log_probabilities: (V_s, B, K), of which the first V_t are the teacher's views.
    """
    probabilities, logarithms = _at_least_float32(teacher_probabilities), _at_least_float32(student_log_probabilities)
    divergences = []
    for view, target in enumerate(probabilities):
        others = [other for other in range(len(logarithms)) if other != view]
        divergences.append(functional.kl_div(logarithms[others], target.expand(len(others), -1, -1), reduction="none").sum(dim=-1))
    return torch.cat(divergences).mean()


@torch.no_grad()
def prototypes_used(probabilities: Tensor) -> Tensor:
    """Which of the K prototypes are the likeliest of at least one row: booleans (K,); `.float().mean()` is the share used.

    Args:
        probabilities: (..., K), or logits: only the order within a row counts.
    """
    used = torch.zeros(probabilities.shape[-1], dtype=torch.bool, device=probabilities.device)
    used[probabilities.argmax(dim=-1).flatten()] = True
    return used


@torch.no_grad()
def dimension_std(features: Tensor) -> Tensor:
    """Standard deviation of each feature over the rows, after each row is brought to length 1; (F,).

    Chen and He 2021 (arXiv 2011.10566): 0 everywhere is collapse, 1 / sqrt(F) is what directions spread evenly give.

    Args:
        features: (N, F).
    """
    return functional.normalize(_at_least_float32(features), dim=-1).std(dim=0, correction=0)


def _entropy(probabilities: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(probabilities).sum(dim=-1)
    return entropy


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
