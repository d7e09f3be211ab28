"""Metrics of classification as statistics of weighted cases, so that value and bootstrap are one computation.

Each function returns a `Statistic`: weights (R, n) -> values (R,), NaN where the metric is undefined. Values equal scikit-learn's where
that defines them; where it warns and returns 0 (no positive case, nothing predicted), here it is undefined, because 0 would say "bad".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fuse_examples.imaging.oai_example.evaluation.bootstrap import Statistic, ratio
from fuse_examples.imaging.oai_example.evaluation.resampling import FloatArray


def auc(truth: ArrayLike, score: ArrayLike) -> Statistic:
    """Return the area under the ROC curve: the share of (positive, negative) pairs in the right order, ties half.

    This is the Mann-Whitney statistic (Hanley & McNeil, Radiology 1982), from one sort for all resamples. Undefined without a positive
    or without a negative case.

    Args:
        truth: (n,) true where positive.
        score: (n,) higher means more positive.
    """
    order, starts, positive = _ranked(truth, score)

    def statistic(weights: FloatArray) -> FloatArray:
        positives, negatives = _grouped(weights[:, order], positive, starts)
        below = np.cumsum(negatives, axis=1) - negatives
        won = np.sum(positives * (below + negatives / 2), axis=1)
        return ratio(won, positives.sum(axis=1) * negatives.sum(axis=1))

    return statistic


def average_precision(truth: ArrayLike, score: ArrayLike) -> Statistic:
    """Return the sum over thresholds of precision times gain in recall, without interpolation.

    Undefined without a positive case, and without a negative one, when it would be 1 whatever the scores.

    Args:
        truth: (n,) true where positive.
        score: (n,) higher means more positive.
    """
    order, starts, positive = _ranked(truth, -np.asarray(score, dtype=np.float64))

    def statistic(weights: FloatArray) -> FloatArray:
        positives, negatives = _grouped(weights[:, order], positive, starts)
        found = np.cumsum(positives, axis=1)
        called = found + np.cumsum(negatives, axis=1)
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        total = np.where(negatives.sum(axis=1) > 0, positives.sum(axis=1), 0)
        return ratio(np.sum(positives * precision, axis=1), total)

    return statistic


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> Statistic:
    """Return the share of cases whose class (n,) was predicted."""
    right = (np.asarray(truth) == np.asarray(predicted)).astype(np.float64)

    def statistic(weights: FloatArray) -> FloatArray:
        return ratio(weights @ right, weights.sum(axis=1))

    return statistic


def balanced_accuracy(truth: ArrayLike, predicted: ArrayLike, n_classes: int) -> Statistic:
    """Return the mean recall of the classes that occur in `truth`; undefined with one class, whose recall alone would pass for it.

    Args:
        truth: (n,) class indices.
        predicted: (n,) class indices.
        n_classes: K.
    """
    present = np.unique(np.asarray(truth, dtype=np.int64))
    count = confusion(truth, predicted, n_classes)

    def statistic(weights: FloatArray) -> FloatArray:
        if len(present) < 2:
            return np.full(len(weights), np.nan)
        counts = count(weights)[:, present]
        recalls = ratio(counts[:, np.arange(len(present)), present], counts.sum(axis=2))
        return np.asarray(recalls.mean(axis=1), dtype=np.float64)  # NaN where a resample lost a class

    return statistic


def f1(truth: ArrayLike, predicted: ArrayLike, n_classes: int, positive: int | None = None) -> Statistic:
    """Return F1 = 2 TP / (2 TP + FP + FN) of one class, or its mean over the classes that occur in truth or prediction.

    Args:
        truth: (n,) class indices.
        predicted: (n,) class indices.
        n_classes: K.
        positive: the class; None for the mean (macro).
    """
    count = confusion(truth, predicted, n_classes)

    def statistic(weights: FloatArray) -> FloatArray:
        counts = count(weights)
        each = ratio(2 * np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=1) + counts.sum(axis=2))
        if positive is not None:
            return each[:, positive]
        occurs = ~np.isnan(each)
        return ratio(np.where(occurs, each, 0).sum(axis=1), occurs.sum(axis=1).astype(np.float64))

    return statistic


def macro(statistics: Sequence[Statistic]) -> Statistic:
    """Return the plain mean of several statistics; undefined where one is."""

    def statistic(weights: FloatArray) -> FloatArray:
        return np.asarray(np.mean([one(weights) for one in statistics], axis=0), dtype=np.float64)

    return statistic


def confusion(truth: ArrayLike, predicted: ArrayLike, n_classes: int) -> Any:
    """Return a function weights (R, n) -> confusion matrices (R, K, K), row: truth, column: prediction."""
    cells = np.asarray(truth, dtype=np.int64) * n_classes + np.asarray(predicted, dtype=np.int64)
    indicator = np.zeros((len(cells), n_classes**2))
    indicator[np.arange(len(cells)), cells] = 1

    def counts(weights: FloatArray) -> FloatArray:
        return (weights @ indicator).reshape(len(weights), n_classes, n_classes)

    return counts


def roc_curve(truth: ArrayLike, score: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return false- and true-positive rates for a threshold at each distinct score, from (0, 0) to (1, 1)."""
    positives, negatives = _descending_counts(truth, score)
    return _from_zero(negatives / negatives[-1]), _from_zero(positives / positives[-1])


def precision_recall_curve(truth: ArrayLike, score: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return recall and precision for a threshold at each distinct score, from recall 0 (precision of the highest score) to 1."""
    positives, negatives = _descending_counts(truth, score)
    precision = positives / (positives + negatives)
    return _from_zero(positives / positives[-1]), np.concatenate([precision[:1], precision])


def _ranked(truth: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return the order of ascending scores, where each group of equal scores starts in it, and the truth in that order."""
    scores = np.asarray(score, dtype=np.float64)
    if not np.isfinite(scores).all():
        raise ValueError("a score is not a finite number")
    order = np.argsort(scores)
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(ordered) else np.zeros(0, dtype=np.int64)
    return order, starts, np.asarray(truth, dtype=bool)[order]


def _grouped(weights: FloatArray, positive: NDArray[np.bool_], starts: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Sum the weights (R, n) of positives and of negatives over groups of equal scores, (R, G) each."""
    if not len(starts):
        return np.zeros((len(weights), 0)), np.zeros((len(weights), 0))
    positives = np.add.reduceat(weights * positive, starts, axis=1)
    return positives, np.add.reduceat(weights, starts, axis=1) - positives


def _descending_counts(truth: ArrayLike, score: ArrayLike) -> tuple[FloatArray, FloatArray]:
    _, starts, positive = _ranked(truth, -np.asarray(score, dtype=np.float64))
    positives, negatives = _grouped(np.ones((1, len(positive))), positive, starts)
    return np.cumsum(positives[0]), np.cumsum(negatives[0])


def _from_zero(values: FloatArray) -> FloatArray:
    return np.concatenate([[0.0], values])
