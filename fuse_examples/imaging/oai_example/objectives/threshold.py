"""The threshold from which on the positive class is called, chosen on validation cases."""

import numpy as np
from numpy.typing import NDArray


def best_threshold(positive: NDArray[np.bool_], probability: NDArray[np.floating]) -> float | None:
    """Return the threshold with the highest balanced accuracy (Youden, Cancer 1950); of equal ones that nearest to one half.

    Thresholds lie midway between neighbouring probabilities, so that a small change of one case's probability does not move it past the
    threshold.

    Args:
        positive: (n,).
        probability: (n,) of the positive class; it is called from the threshold on.

    Returns:
        None without a positive or without a negative case.
    """
    if positive.all() or not positive.any():
        return None
    levels = np.unique(probability.astype(np.float64))
    if len(levels) == 1:
        return 0.5
    between = (levels[:-1] + levels[1:]) / 2
    found = np.searchsorted(np.sort(probability[positive]), between)
    spared = np.searchsorted(np.sort(probability[~positive]), between)
    balanced = (1 - found / positive.sum() + spared / (~positive).sum()) / 2
    best = np.flatnonzero(balanced >= balanced.max() - 1e-12)
    return float(between[best[np.argmin(np.abs(between[best] - 0.5))]])
