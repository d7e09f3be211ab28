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
_FOLD_LIMIT = 0.08  # how far one trait's AUC in one fold may lie from 0.5, with 200 patients
_OVERALL_LIMIT = 0.035  # the same for all traits together, cross-validated over patients
_ATTEMPTS = 200


@dataclass(frozen=True)
class Allocation:
    """Per patient: True for the first cohort, and the fold."""

    cohort: NDArray[np.bool_]
    fold: NDArray[np.int64]


@dataclass(frozen=True)
class SeriesTraits:
    """What must not tell the cohorts apart, per series: numbers (m, k) and the index of the patient each series belongs to (m,).

    The first `watched` numbers are held to a limit in each fold one by one, all together over the whole set.
    """

    numbers: NDArray[np.float64]
    owner: NDArray[np.int64]
    watched: int


def allocate(rng: np.random.Generator, traits: NDArray[np.float64], groups: NDArray[np.int64], series: SeriesTraits) -> Allocation:
    """Draw cohorts and folds.

    Args:
        rng: source of the draws.
        traits: (n, k) numbers of the patients that the folds are to share evenly.
        groups: (n,) strata that are dealt to cohorts and folds separately, so that each is even in itself.
        series: what must not differ between the cohorts.
    """
    traits, numbers = _scaled(traits), _scaled(series.numbers)
    best, best_excess = _draw(rng, traits, groups), np.inf
    for _ in range(_ATTEMPTS):
        allocation = _draw(rng, traits, groups)
        excess = _imbalance(rng, SeriesTraits(numbers, series.owner, series.watched), allocation)
        if excess < best_excess:
            best, best_excess = allocation, excess
        if excess <= 1:
            break
    return best


def _scaled(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = (numbers - numbers.mean(0)) / np.maximum(numbers.std(0), 1e-9)
    return scaled


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
        # Of the squared totals' growth, |total + x|² - |total|², only 2 total·x differs between the folds.
        chosen = int(np.argmin(np.where(room > 0, totals @ centred[patient], np.inf)))
        fold[patient] = chosen
        totals[chosen] += centred[patient]
        room[chosen] -= 1
    return fold


def _imbalance(rng: np.random.Generator, series: SeriesTraits, allocation: Allocation) -> float:
    """The worst of all deviations from an AUC of 0.5, in units of its limit."""
    cohort, fold = allocation.cohort[series.owner], allocation.fold[series.owner]
    slack = max(1.0, 200 / len(allocation.fold))  # the fewer the patients, the larger chance differences are
    worst = 0.0
    for value in range(N_FOLDS):
        here = fold == value
        for column in range(series.watched):
            worst = max(worst, abs(area_under_curve(series.numbers[here, column], cohort[here]) - 0.5) / (slack * _FOLD_LIMIT))
    if worst > 1.3 or len(allocation.fold) <= 2 * N_FOLDS:
        return 10 * worst  # hopeless, or too few patients to cross-validate
    overall = np.mean([_cross_validated(rng, series, cohort, len(allocation.fold)) for _ in range(6)])
    return max(worst, abs(float(overall) - 0.5) / (float(np.sqrt(slack)) * _OVERALL_LIMIT))


def _cross_validated(rng: np.random.Generator, series: SeriesTraits, cohort: NDArray[np.bool_], patients: int) -> float:
    """AUC of a linear discriminant on all traits, over five random parts of the patients."""
    part = (rng.permutation(patients) % 5)[series.owner]
    score = np.zeros(len(part))
    for k in range(5):
        test = part == k
        mean, target = series.numbers[~test].mean(0), cohort[~test] - cohort[~test].mean()
        centred = series.numbers[~test] - mean
        weights = np.linalg.solve(centred.T @ centred + 1e-6 * np.eye(len(mean)), centred.T @ target)
        score[test] = (series.numbers[test] - mean) @ weights
    return area_under_curve(score, cohort)


def area_under_curve(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Chance that a positive scores higher than a negative, ties counted half; 0.5 where one kind is missing."""
    if positive.all() or not positive.any():
        return 0.5
    difference = score[positive][:, None] - score[~positive][None, :]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))
