"""Allocate patients to cohorts and folds so that nothing but the cartilage tells the cohorts apart, in the whole set and in each fold.

Within a cohort, patients are dealt to the folds by minimisation (Pocock and Simon, Biometrics 31:103, 1975): each goes where the
fold's totals of all traits stay nearest the average. The allocation is drawn again until the cohorts are comparable
(rerandomisation: Morgan and Rubin, Annals of Statistics 40:1263, 2012). Exact matching of the cohorts would be worse: where a trait
is balanced over the whole set, what a cross-validation learns from its training part is the opposite of what its test part shows,
and its AUC falls well below one half.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_FOLDS = 5
_FOLD_LIMIT = 0.075  # how far one trait's AUC in one fold may lie from 0.5, with 200 patients
_OVERALL_LIMIT = 0.04  # the same for all traits together, cross-validated over patients
_ATTEMPTS = 300


@dataclass(frozen=True)
class Allocation:
    """Per patient: True for the first cohort, and the fold."""

    cohort: NDArray[np.bool_]
    fold: NDArray[np.int64]


def allocate(
    rng: np.random.Generator, traits: NDArray[np.float64], watched: int, groups: NDArray[np.int64], series: NDArray[np.int64]
) -> Allocation:
    """Draw cohorts and folds.

    Args:
        rng: source of the draws.
        traits: (n, k) numbers that must not differ between cohorts, nor between folds.
        watched: the first so many traits are held to the limit in each fold one by one.
        groups: (n,) strata that are dealt to cohorts and folds separately, so that each is even in itself.
        series: (n,) how many series each patient has; the AUCs of single folds count series.
    """
    scaled = (traits - traits.mean(0)) / np.maximum(traits.std(0), 1e-9)
    best, best_excess = None, np.inf
    slack = max(1.0, float(np.sqrt(200 / len(traits))))  # chance differences grow as patients get fewer
    for _ in range(_ATTEMPTS):
        allocation = _draw(rng, scaled, groups)
        excess = _imbalance(rng, scaled, watched, allocation, series) / slack
        if excess < best_excess:
            best, best_excess = allocation, excess
        if excess <= 1:
            break
    assert best is not None
    return best


def _draw(rng: np.random.Generator, traits: NDArray[np.float64], groups: NDArray[np.int64]) -> Allocation:
    cohort, fold = np.zeros(len(traits), dtype=bool), np.zeros(len(traits), dtype=np.int64)
    spare = 0
    for group in np.unique(groups):
        members = rng.permutation(np.flatnonzero(groups == group))
        cohort[members[spare % 2 :: 2]] = True
        spare += len(members)
        for value in (False, True):
            dealt = members[cohort[members] == value]
            if len(dealt):
                fold[dealt] = _minimise(traits[dealt])
    return Allocation(cohort, fold)


def _minimise(traits: NDArray[np.float64]) -> NDArray[np.int64]:
    """Deal patients, the most unusual first, to folds of equal size; the last folds are filled first where the number is uneven."""
    centred = traits - traits.mean(0)
    fold = np.zeros(len(traits), dtype=np.int64)
    totals = np.zeros((N_FOLDS, traits.shape[1]))
    room = np.array([(len(traits) + k) // N_FOLDS for k in range(N_FOLDS)])
    for patient in np.argsort(-np.abs(centred).sum(1), kind="stable"):
        growth = ((totals + centred[patient]) ** 2 - totals**2).sum(1)
        chosen = int(np.argmin(np.where(room > 0, growth, np.inf)))
        fold[patient] = chosen
        totals[chosen] += centred[patient]
        room[chosen] -= 1
    return fold


def _imbalance(
    rng: np.random.Generator, traits: NDArray[np.float64], watched: int, allocation: Allocation, series: NDArray[np.int64]
) -> float:
    """The worst of all deviations from an AUC of 0.5, in units of its limit."""
    worst = 0.0
    for fold in range(N_FOLDS):
        here = np.repeat(np.arange(len(traits)), series * (allocation.fold == fold))
        for column in range(watched):
            worst = max(worst, abs(area_under_curve(traits[here, column], allocation.cohort[here]) - 0.5) / _FOLD_LIMIT)
    testable = worst <= 1 and len(traits) > 2 * N_FOLDS
    overall = np.mean([_cross_validated(rng, traits, allocation.cohort) for _ in range(4)]) if testable else 0.5
    return max(worst, abs(float(overall) - 0.5) / _OVERALL_LIMIT)


def _cross_validated(rng: np.random.Generator, traits: NDArray[np.float64], cohort: NDArray[np.bool_]) -> float:
    """AUC of a linear discriminant on all traits, over five random parts of the patients."""
    part = rng.permutation(len(traits)) % 5
    score = np.zeros(len(traits))
    for k in range(5):
        test = part == k
        mean, target = traits[~test].mean(0), cohort[~test] - cohort[~test].mean()
        weights = np.linalg.lstsq(traits[~test] - mean, target, rcond=None)[0]
        score[test] = (traits[test] - mean) @ weights
    return area_under_curve(score, cohort)


def area_under_curve(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Chance that a positive scores higher than a negative, ties counted half; 0.5 where one kind is missing."""
    if positive.all() or not positive.any():
        return 0.5
    difference = score[positive][:, None] - score[~positive][None, :]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))
