"""Area under the ROC curve of a validation epoch. Intervals are `evaluation`'s business."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def binary_auc(positive: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    """Share of (positive, negative) pairs in the right order, ties half (Hanley & McNeil, Radiology 1982).

    NaN without a positive or without a negative case.
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def macro_auc(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """AUC of two classes, or the mean over classes of each one against the rest.

    Args:
        labels: (n,) class indices.
        probabilities: (n, K).

    Returns:
        NaN where no class has both positive and negative cases.
    """
    n_classes = probabilities.shape[1]
    classes = [1] if n_classes == 2 else range(n_classes)
    scores = np.array([binary_auc(labels == k, probabilities[:, k]) for k in classes])
    return float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")
