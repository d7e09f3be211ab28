"""Resamples of patients: whole patients drawn with replacement, as weights of their cases.

A patient's cases (two knees, several visits) are alike, so they are drawn together: a resample draws as many patients as there are,
with replacement, and takes all their cases (cluster bootstrap; Field & Welsh, J R Stat Soc B 2007).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MIN_PATIENTS = 10  # in a class, for class metrics: fewer say too little about the patients that were not seen
RARE_PATIENTS = 30  # a class with fewer is kept at its number in every resample
RESAMPLES_AT_ONCE = 100  # bounds memory; a constant, because the draws must not depend on the machine


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: the number of resamples, the level, and the seed of a generator of their own."""

    n_resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_resamples < 1 or not 0 < self.level < 1:
            raise ValueError(f"a bootstrap of {self.n_resamples} resamples at level {self.level}; at least 1, and between 0 and 1")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as metrics.json has them."""
        return {
            "n_resamples": self.n_resamples,
            "level": self.level,
            "seed": self.seed,
            "unit": "patient",
            "interval": "percentile",
            "min_patients": MIN_PATIENTS,
        }


def strata_of(patients: Sequence[str], classes: Sequence[str] | None) -> dict[str, str] | None:
    """Return each patient's stratum where a class is rare, else None.

    A patient's stratum is the rarest class among the cases: a patient with one knee of each kind is drawn with the rare kind.
    """
    if classes is None:
        return None
    sizes = patients_per_class(patients, classes)
    if len(sizes) < 2 or min(sizes.values()) >= RARE_PATIENTS:
        return None
    strata: dict[str, str] = {}
    for patient, name in zip(patients, classes, strict=True):
        strata[patient] = min(strata.get(patient, name), name, key=lambda candidate: (sizes[candidate], candidate))
    return strata


def patients_per_class(patients: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
    """Count the patients with at least one case of each class."""
    members: dict[str, set[str]] = {}
    for patient, name in zip(patients, classes, strict=True):
        members.setdefault(name, set()).add(patient)
    return {name: len(who) for name, who in sorted(members.items())}


def resample_weights(patients: Sequence[str], strata: dict[str, str] | None, settings: Bootstrap) -> Iterator[FloatArray]:
    """Yield weights (R, n), R up to `RESAMPLES_AT_ONCE`: how often each case is in each resample.

    The draws depend on the seed and on the set of patients, never on the order of the cases.
    """
    names, patient_of_case = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names.tolist()):
        groups.setdefault(strata[name] if strata else "", []).append(index)
    generator = np.random.default_rng(settings.seed)
    for start in range(0, settings.n_resamples, RESAMPLES_AT_ONCE):
        size = min(RESAMPLES_AT_ONCE, settings.n_resamples - start)
        weights = np.zeros((size, len(names)))
        for _, members in sorted(groups.items()):
            weights[:, members] = draw_counts(generator, size, len(members))
        yield weights[:, patient_of_case]


def draw_counts(generator: np.random.Generator, n_resamples: int, n_members: int) -> FloatArray:
    """Draw `n_members` of `n_members` with replacement, `n_resamples` times; return how often each was drawn, (R, n_members)."""
    drawn = generator.integers(n_members, size=(n_resamples, n_members))
    flat = (drawn + n_members * np.arange(n_resamples)[:, None]).ravel()
    return np.bincount(flat, minlength=n_resamples * n_members).reshape(n_resamples, n_members).astype(np.float64)
