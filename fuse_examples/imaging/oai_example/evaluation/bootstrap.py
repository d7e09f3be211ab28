"""Confidence intervals by bootstrap over patients.

A resample is a row of weights, the number of times each case is in it. A statistic is therefore written once, for weights
(R, n) -> (R,), and serves for the value (all weights 1) and for all resamples at once. The interval is the percentile one
(Efron & Tibshirani 1993, chapter 13).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fuse_examples.imaging.oai_example.evaluation.resampling import (
    MIN_PATIENTS,
    Bootstrap,
    FloatArray,
    patients_per_class,
    resample_weights,
    strata_of,
)

Statistic = Callable[[FloatArray], FloatArray]  # weights (R, n) -> values (R,); NaN where undefined

MAX_UNDEFINED = 0.05  # a larger share of undefined resamples: the others are a choice, not a sample


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; None where there is none, and then `note` says why."""

    value: float | None
    low: float | None
    high: float | None
    n_patients: int
    n_cases: int
    n_undefined: int = 0
    stratified: bool = False
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of metrics.json: `note`, `n_undefined` and `stratified` only where they say something."""
        entry: dict[str, Any] = {name: getattr(self, name) for name in ("value", "low", "high", "n_patients", "n_cases")}
        return entry | {name: getattr(self, name) for name in ("n_undefined", "stratified", "note") if getattr(self, name)}


@dataclass(frozen=True)
class Difference:
    """Second predictor minus first on the same patients, with its interval and two-sided p."""

    estimate: Estimate
    p_value: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the difference as a metrics.json entry with `p_value`."""
        return self.estimate.as_dict() | {"p_value": self.p_value}


def mean_of(scores: ArrayLike) -> Statistic:
    """Return the mean of the scores (n,) that are defined; undefined for a resample that has none."""
    values = np.asarray(scores, dtype=np.float64)
    defined = ~np.isnan(values)
    filled = np.where(defined, values, 0.0)

    def statistic(weights: FloatArray) -> FloatArray:
        return ratio(weights @ filled, weights @ defined.astype(np.float64))

    return statistic


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide; NaN where the denominator is 0."""
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out


def point_value(statistic: Statistic, n_cases: int) -> float:
    """Return the statistic of the cases as they are; NaN where it is undefined."""
    return float(statistic(np.ones((1, n_cases)))[0])


def estimate_mean(scores: ArrayLike, patients: Sequence[str], settings: Bootstrap | None = None) -> Estimate:
    """Return the mean of per-case scores (n,) with its interval; NaN scores are left out, of the counts too."""
    values = np.asarray(scores, dtype=np.float64)
    return estimate(mean_of(values), patients, counted=~np.isnan(values), why_undefined="no case has a score", settings=settings)


def estimate(
    statistic: Statistic,
    patients: Sequence[str],
    *,
    classes: Sequence[str] | None = None,
    counted: NDArray[np.bool_] | None = None,
    why_undefined: str = "not defined for these cases",
    settings: Bootstrap | None = None,
) -> Estimate:
    """Return a statistic with its interval.

    Args:
        statistic: weights (R, n) -> values (R,).
        patients: the patient of each case, (n,).
        classes: the class of each case, for class metrics: each class needs `MIN_PATIENTS` patients for an interval, and resamples are
            stratified where one has fewer than `RARE_PATIENTS`.
        counted: (n,), the cases that have a score; all by default. Patients without one do not count towards `MIN_PATIENTS`.
        why_undefined: the note where the value is undefined.
        settings: resamples, level, seed.
    """
    return _estimate(statistic, patients, classes, counted, why_undefined, settings or Bootstrap())[0]


def paired_difference(
    first: Statistic,
    second: Statistic,
    patients: Sequence[str],
    *,
    classes: Sequence[str] | None = None,
    settings: Bootstrap | None = None,
) -> Difference:
    """Compare two predictors on the same cases: second minus first, both from the same resamples.

    The p-value shifts the bootstrap distribution to a difference of 0 and counts the resamples at least as far from it as the
    observed difference: p = (1 + count) / (B + 1), B the defined resamples (Davison & Hinkley 1997, section 4.4; Hall & Wilson,
    Biometrics 1991). It is None where there is no interval.
    """

    def difference(weights: FloatArray) -> FloatArray:
        return second(weights) - first(weights)

    why = "not defined for both predictors on these cases"
    result, values = _estimate(difference, patients, classes, None, why, settings or Bootstrap())
    if result.low is None or result.value is None:
        return Difference(result, None)
    # A tolerance, so that resamples equal to the observed difference up to rounding are counted.
    count = int(np.sum(np.abs(values - result.value) >= abs(result.value) - 1e-12))
    return Difference(result, (1 + count) / (len(values) + 1))


def _estimate(
    statistic: Statistic,
    patients: Sequence[str],
    classes: Sequence[str] | None,
    counted: NDArray[np.bool_] | None,
    why_undefined: str,
    settings: Bootstrap,
) -> tuple[Estimate, FloatArray]:
    """Return the estimate and the defined values of the resamples (none where there is no interval)."""
    none: FloatArray = np.empty(0)
    n_cases = len(patients)
    if counted is None:
        counted = np.ones(n_cases, dtype=bool)
    counts = (len({patient for patient, is_counted in zip(patients, counted, strict=True) if is_counted}), int(counted.sum()))
    value = point_value(statistic, n_cases) if n_cases else np.nan
    if np.isnan(value):
        return Estimate(None, None, None, *counts, note=f"undefined: {why_undefined}"), none
    too_few = _too_few(counts[0], patients, classes)
    if too_few:
        return Estimate(value, None, None, *counts, note=f"no interval: {too_few}"), none
    strata = strata_of(patients, classes)
    values = np.concatenate([statistic(weights) for weights in resample_weights(patients, strata, settings)])
    low, high, n_undefined, note = _interval(values, settings)
    return Estimate(value, low, high, *counts, n_undefined, strata is not None, note), values[~np.isnan(values)]


def _too_few(n_patients: int, patients: Sequence[str], classes: Sequence[str] | None) -> str:
    if classes is None:
        sizes = {"with a score": n_patients}
    else:
        sizes = {f"in class {name!r}": size for name, size in patients_per_class(patients, classes).items()}
    short = [f"{_patients(size)} {where}" for where, size in sizes.items() if size < MIN_PATIENTS]
    return f"{', '.join(short)}; {MIN_PATIENTS} are needed" if short else ""


def _patients(number: int) -> str:
    return "1 patient" if number == 1 else f"{number} patients"


def _interval(values: FloatArray, settings: Bootstrap) -> tuple[float | None, float | None, int, str]:
    defined = values[~np.isnan(values)]
    n_undefined = len(values) - len(defined)
    if n_undefined > MAX_UNDEFINED * len(values):
        return None, None, n_undefined, f"no interval: undefined in {n_undefined} of {len(values)} resamples"
    tail = 50 * (1 - settings.level)
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high), n_undefined, ""
