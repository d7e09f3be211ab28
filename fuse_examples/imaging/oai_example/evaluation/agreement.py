"""Agreement of predicted with true grades or numbers, as statistics of weighted cases."""

import numpy as np
from numpy.typing import ArrayLike

from fuse_examples.imaging.oai_example.evaluation.bootstrap import Statistic, mean_of, ratio
from fuse_examples.imaging.oai_example.evaluation.classification_metrics import confusion
from fuse_examples.imaging.oai_example.evaluation.resampling import FloatArray


def quadratic_kappa(truth: ArrayLike, predicted: ArrayLike, n_classes: int) -> Statistic:
    """Return Cohen's kappa with quadratic weights (Cohen, Psychological Bulletin 1968): 1 minus observed over expected squared distance.

    Undefined where truth and prediction are the same single class, when no distance is to be expected.

    Args:
        truth: (n,) class indices in their order.
        predicted: (n,) class indices.
        n_classes: K.
    """
    count = confusion(truth, predicted, n_classes)
    grades = np.arange(n_classes)
    distance = (grades[:, None] - grades[None, :]).astype(np.float64) ** 2

    def statistic(weights: FloatArray) -> FloatArray:
        counts = count(weights)
        rows, columns = counts.sum(axis=2), counts.sum(axis=1)
        expected = np.einsum("ri,rj,ij->r", rows, columns, distance)
        return 1 - ratio(np.einsum("rij,ij->r", counts, distance) * weights.sum(axis=1), expected)

    return statistic


def mean_absolute_error(truth: ArrayLike, predicted: ArrayLike) -> Statistic:
    """Return the mean distance of prediction and truth, (n,) each, in their own unit."""
    return mean_of(np.abs(np.asarray(truth, dtype=np.float64) - np.asarray(predicted, dtype=np.float64)))


def r_squared(truth: ArrayLike, predicted: ArrayLike) -> Statistic:
    """Return the coefficient of determination: 1 minus the squared error over the squared deviation from the mean of these cases.

    Below 0 for predictions that are worse than that mean. Undefined where all true values are equal.

    Args:
        truth: (n,).
        predicted: (n,).
    """
    values = np.asarray(truth, dtype=np.float64)
    errors = (values - np.asarray(predicted, dtype=np.float64)) ** 2
    centred = values - values.mean() if len(values) else values  # against cancellation
    constant = len(values) == 0 or bool(np.all(values == values[0]))

    def statistic(weights: FloatArray) -> FloatArray:
        if constant:
            return np.full(len(weights), np.nan)
        total = weights.sum(axis=1)
        spread = weights @ centred**2 - ratio((weights @ centred) ** 2, total)
        # A resample of one value has a spread of rounding errors.
        return 1 - ratio(weights @ errors, np.where(spread > 1e-12 * total * centred.var(), spread, 0))

    return statistic


def spearman(truth: ArrayLike, predicted: ArrayLike) -> Statistic:
    """Return Spearman's rank correlation, ties with their mean rank; undefined where one side is constant."""
    one, two = _ranks(truth), _ranks(predicted)

    def statistic(weights: FloatArray) -> FloatArray:
        first, second = one(weights), two(weights)
        covariance = (weights * first * second).sum(axis=1)
        variances = (weights * first**2).sum(axis=1) * (weights * second**2).sum(axis=1)
        return ratio(covariance, np.sqrt(variances))

    return statistic


def _ranks(values: ArrayLike) -> Statistic:
    """Return weights (R, n) -> rank of each case in each resample minus the mean rank, (R, n)."""
    groups, group_of_case = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True)
    member = np.eye(len(groups))[group_of_case]

    def ranks(weights: FloatArray) -> FloatArray:
        sizes = weights @ member
        middle = np.cumsum(sizes, axis=1) - sizes / 2  # the mean rank of a group, less one half
        of_case = middle[:, group_of_case]
        return np.asarray(of_case - weights.sum(axis=1, keepdims=True) / 2, dtype=np.float64)

    return ranks
