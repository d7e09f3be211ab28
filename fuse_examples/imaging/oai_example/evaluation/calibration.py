"""Whether predicted probabilities are the shares they claim to be: Brier score, calibration curve and calibration error."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fuse_examples.imaging.oai_example.evaluation.bootstrap import Statistic, mean_of, ratio
from fuse_examples.imaging.oai_example.evaluation.resampling import FloatArray

N_BINS = 10


def brier(truth: ArrayLike, probabilities: ArrayLike, positive: int | None = None) -> Statistic:
    """Return the mean squared error of the probabilities (Brier, Monthly Weather Review 1950).

    Args:
        truth: (n,) class indices.
        probabilities: (n, K).
        positive: with two classes the index whose probability alone is scored, from 0 to 1; None sums over all classes, from 0 to 2.
    """
    indices, values = np.asarray(truth, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)
    if positive is not None:
        return mean_of((values[:, positive] - (indices == positive)) ** 2)
    return mean_of(((values - np.eye(values.shape[1])[indices]) ** 2).sum(axis=1))


def calibration_error(happened: ArrayLike, probability: ArrayLike, n_bins: int = N_BINS) -> Statistic:
    """Return the expected calibration error (Naeini et al., AAAI 2015).

    The mean over cases of how far, in the case's bin, the mean probability lies from the share of cases that happened. Bins are equally
    wide and hold their upper edge, as in scikit-learn's `calibration_curve`. Like every plug-in estimate it is too large for few cases.

    Args:
        happened: (n,) whether what was predicted with `probability` is so.
        probability: (n,) from 0 to 1.
        n_bins: number of bins.
    """
    member, happens, probable = _binned(happened, probability, n_bins)

    def statistic(weights: FloatArray) -> FloatArray:
        distance = np.abs((weights * (probable - happens)) @ member).sum(axis=1)
        return ratio(distance, weights.sum(axis=1))

    return statistic


def calibration_curve(happened: ArrayLike, probability: ArrayLike, n_bins: int = N_BINS) -> dict[str, list[float]]:
    """Return mean probability, share that happened and number of cases of each bin that has cases."""
    member, happens, probable = _binned(happened, probability, n_bins)
    counts = member.sum(axis=0)
    filled = counts > 0
    means = {"mean_probability": probable @ member, "observed_share": happens @ member}
    found = {name: (sums[filled] / counts[filled]).tolist() for name, sums in means.items()}
    return found | {"n_cases": counts[filled].astype(int).tolist()}


def _binned(happened: ArrayLike, probability: ArrayLike, n_bins: int) -> tuple[FloatArray, FloatArray, NDArray[np.float64]]:
    """Return which bin holds each case, (n, n_bins), and both arguments as numbers."""
    probable = np.asarray(probability, dtype=np.float64)
    bins = np.searchsorted(np.linspace(0, 1, n_bins + 1)[1:-1], probable, side="left")
    return np.eye(n_bins)[bins], np.asarray(happened, dtype=np.float64), probable
