"""Intensity normalisation: statistics measured once on the whole volume, applied to every view of it.

Training, testing and prediction share this code, so that a network sees a scan in one scale only.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Method = Literal["percentile", "window", "zscore"]
_HISTOGRAM_BINS = 2**16


@dataclass(frozen=True)
class IntensityStatistics:
    """Grey values of one volume: two percentiles, the extremes, mean and standard deviation over all voxels."""

    low: float
    high: float
    minimum: float
    maximum: float
    mean: float
    std: float

    def as_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Normalisation:
    """value -> (value - offset) * scale, clipped to [0, 1] where `clip` is set.

    `background` is the raw value that stands for "nothing there": what a view shows outside the scan.
    """

    offset: float
    scale: float
    clip: bool
    background: float

    def __call__(self, view: Tensor) -> Tensor:
        """Normalise a float view in place and return it."""
        view.sub_(self.offset).mul_(self.scale)
        return view.clamp_(0, 1) if self.clip else view


def measure(array: NDArray[Any], percentiles: Sequence[float]) -> IntensityStatistics:
    """Statistics of all voxels of a volume; `percentiles` are the lower and the upper one, 0 to 100, linearly interpolated.

    Integers of a small range go through a histogram, which is several times faster than sorting; nothing of the volume's size is made.
    """
    minimum, maximum = float(array.min()), float(array.max())
    if np.issubdtype(array.dtype, np.integer) and maximum - minimum < _HISTOGRAM_BINS:
        counts = _histogram(array, int(minimum), int(maximum))
        values = np.arange(counts.size) + minimum
        cumulative = np.cumsum(counts)
        low, high = (_from_histogram(cumulative, percentile) + minimum for percentile in percentiles)
        mean = float(counts @ values) / array.size
        variance = float(counts @ (values - mean) ** 2) / array.size
    else:
        low, high = (float(value) for value in np.percentile(array, percentiles))
        mean = sum(float(part.sum(dtype=np.float64)) for part in array) / array.size
        variance = sum(float(np.square(part.astype(np.float64) - mean).sum()) for part in array) / array.size
    return IntensityStatistics(low, high, minimum, maximum, mean, math.sqrt(variance))


def normalisation(statistics: IntensityStatistics, method: Method, window: Sequence[float] | None = None) -> Normalisation:
    """How a volume with these statistics is normalised.

    `percentile` maps the two percentiles to 0 and 1, or the extremes where both percentiles coincide (a binary shape of a few voxels
    has both at 0); `window` maps fixed values, as for Hounsfield units; `zscore` subtracts the mean and divides by the deviation.
    """
    if method == "zscore":
        return Normalisation(statistics.mean, 1 / (statistics.std or 1.0), clip=False, background=statistics.minimum)
    if method == "window":
        if window is None:
            raise ValueError("the window method needs a window")
        low, high = window
    else:
        low, high = statistics.low, statistics.high
        if not low < high:
            low, high = statistics.minimum, statistics.maximum
    return Normalisation(low, 1 / ((high - low) or 1.0), clip=True, background=low)


def statistics_from(values: Mapping[str, float]) -> IntensityStatistics:
    """The inverse of `IntensityStatistics.as_dict`."""
    return IntensityStatistics(**values)


def _histogram(array: NDArray[Any], minimum: int, maximum: int) -> NDArray[np.int64]:
    counts = np.zeros(maximum - minimum + 1, dtype=np.int64)
    for part in array:
        counts += np.bincount((part.astype(np.int64) - minimum).ravel(), minlength=counts.size)
    return counts


def _from_histogram(cumulative: NDArray[np.int64], percentile: float) -> float:
    position = percentile / 100 * (cumulative[-1] - 1)
    below = int(np.searchsorted(cumulative, np.floor(position), side="right"))
    above = int(np.searchsorted(cumulative, np.ceil(position), side="right"))
    return float(below + (position - np.floor(position)) * (above - below))
