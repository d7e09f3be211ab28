"""The statistics of a study of label efficiency, all from the scores of single test cases and the validation curves.

Seeds and patients are two samples that cross: every seed's network is tested on every patient. A resample draws seeds and patients with
replacement, each on its own, and takes the mean over the drawn seeds of the score on the drawn patients (the pigeonhole bootstrap of
Owen, Ann Appl Stat 2007, which errs on the side of wide intervals). Two initialisations are scored on the same draws: they share subsets
and seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fuse_examples.imaging.oai_example.evaluation.bootstrap import MAX_UNDEFINED, Difference, Estimate, Statistic, point_value
from fuse_examples.imaging.oai_example.evaluation.comparison import holm
from fuse_examples.imaging.oai_example.evaluation.resampling import (
    MIN_PATIENTS,
    Bootstrap,
    FloatArray,
    draw_counts,
    patients_per_class,
    resample_weights,
    strata_of,
)
from fuse_examples.imaging.oai_example.evaluation.study_cells import StudyResults

MIN_SEEDS = 3
"""Fewer say too little about the draws of patients and of random numbers that were not made."""
_SEEDS = 1  # of the generator of seeds, beside the bootstrap's own
_EQUAL = 1e-12  # resamples equal to the observed difference up to rounding are counted


@dataclass(frozen=True)
class ScoreEntry:
    """Mean score of an initialisation at a budget, over seeds."""

    initialisation: str
    budget: str
    n_train: int
    n_seeds: int
    estimate: Estimate


@dataclass(frozen=True)
class DifferenceEntry:
    """An initialisation minus the reference at a budget, over the seeds that both have; `holm` is the corrected p-value."""

    initialisation: str
    budget: str
    n_train: int
    n_seeds: int
    difference: Difference
    holm: float | None = None


@dataclass(frozen=True)
class SpeedEntry:
    """How soon an initialisation reaches the reference's best validation score of the same budget and seed.

    Attributes:
        pairs: by seed the steps of the reference to its own best score, and of the initialisation to that score; None where it is not
            reached.
    """

    initialisation: str
    budget: str
    n_train: int
    pairs: Mapping[int, tuple[int, int | None]]

    @property
    def n_reached(self) -> int:
        """Seeds with which it is reached."""
        return sum(steps is not None for _, steps in self.pairs.values())

    @property
    def ratios(self) -> list[float]:
        """Steps of the initialisation by those of the reference; infinite where the score is not reached."""
        return [float("inf") if steps is None else steps / reference for reference, steps in self.pairs.values() if reference]

    @property
    def reference_steps(self) -> float:
        """Median over seeds."""
        return float(np.median([reference for reference, _ in self.pairs.values()]))

    @property
    def share(self) -> float:
        """Median of the ratios. That of the steps alone would set one seed's steps against another's, and hide that each is slower."""
        return median(self.ratios)


@dataclass(frozen=True)
class SavedEntry:
    """How many labelled patients more the reference needs for the score of an initialisation.

    Attributes:
        n_train: patients of the initialisation's budget.
        needed, low, high: patients of the reference with the same score, by interpolation between its budgets on a logarithmic scale,
            with the interval of the crossed bootstrap; infinite where none of its budgets reaches the score.
        most: patients of the reference's largest budget, beyond which nothing is known.
    """

    initialisation: str
    budget: str
    n_train: int
    needed: float
    low: float
    high: float
    most: int


@dataclass(frozen=True)
class StudyAnswer:
    """Everything that is said of a study."""

    results: StudyResults
    settings: Bootstrap
    scores: tuple[ScoreEntry, ...]
    differences: tuple[DifferenceEntry, ...]
    speeds: tuple[SpeedEntry, ...]
    saved: tuple[SavedEntry, ...]

    @property
    def reference(self) -> str:
        """The initialisation that the others are compared with."""
        return self.results.initialisations[0]


def analyse(results: StudyResults, settings: Bootstrap | None = None) -> StudyAnswer:
    """Compute the answer of the cells that there are."""
    settings = settings or Bootstrap()
    reference, *others = results.initialisations
    scores, samples = [], {}
    for name in results.initialisations:
        for budget in results.budgets:
            seeds = results.seeds(name, budget=budget)
            if seeds:
                entry, samples[name, budget] = _score(results, name, budget, seeds, settings)
                scores.append(entry)
    differences = [
        _difference(results, name, budget, seeds, settings)
        for name in others
        for budget in results.budgets
        if (seeds := results.seeds(reference, name, budget=budget))
    ]
    corrected = holm([entry.difference.p_value for entry in differences])
    speeds = [
        SpeedEntry(name, budget, results.n_train(budget), {seed: _steps(results, name, budget, seed) for seed in seeds})
        for name in others
        for budget in results.budgets
        if (seeds := results.seeds(reference, name, budget=budget))
    ]
    return StudyAnswer(
        results,
        settings,
        tuple(scores),
        tuple(replace(entry, holm=p) for entry, p in zip(differences, corrected, strict=True)),
        tuple(speeds),
        tuple(_saved(results, scores, samples, others)),
    )


def crossed_values(
    statistics: Sequence[Statistic], patients: Sequence[str], classes: Sequence[str] | None, settings: Bootstrap
) -> FloatArray:
    """Return the mean over seeds in every resample of seeds and patients, (R,).

    Args:
        statistics: of each seed, over the same cases, weights (R, n) -> (R,).
        patients: the patient of each case, (n,).
        classes: the class of each case, which keeps rare classes at their number (`resampling.strata_of`).
        settings: resamples and seed. With the same settings and patients the draws are the same.
    """
    drawn = draw_counts(np.random.default_rng([settings.seed, _SEEDS]), settings.n_resamples, len(statistics))
    values, start = [], 0
    for weights in resample_weights(patients, strata_of(patients, classes), settings):
        counts = drawn[start : start + len(weights)]
        scores = np.stack([statistic(weights) for statistic in statistics], axis=1)
        values.append(np.where(counts > 0, counts * scores, 0.0).sum(axis=1) / len(statistics))
        start += len(weights)
    return np.concatenate(values)


def median(values: Sequence[float]) -> float:
    """Return the middle value, the upper one of two; infinities are values."""
    return sorted(values)[len(values) // 2] if values else float("nan")


def _score(results: StudyResults, name: str, budget: str, seeds: Sequence[int], settings: Bootstrap) -> tuple[ScoreEntry, FloatArray]:
    statistics = [results.statistic(cell) for seed in seeds if (cell := results.cell(name, budget, seed))]
    estimate, values = _crossed(statistics, results, settings)
    return ScoreEntry(name, budget, results.n_train(budget), len(seeds), estimate), values


def _difference(results: StudyResults, name: str, budget: str, seeds: Sequence[int], settings: Bootstrap) -> DifferenceEntry:
    reference = results.initialisations[0]
    pairs = [(results.cell(reference, budget, seed), results.cell(name, budget, seed)) for seed in seeds]
    statistics = [_minus(results.statistic(two), results.statistic(one)) for one, two in pairs if one and two]
    estimate, values = _crossed(statistics, results, settings)
    p_value = None
    if estimate.low is not None and estimate.value is not None:
        defined = values[~np.isnan(values)]
        # As in `bootstrap.paired_difference`: the distribution is shifted to a difference of 0.
        count = int(np.sum(np.abs(defined - estimate.value) >= abs(estimate.value) - _EQUAL))
        p_value = (1 + count) / (len(defined) + 1)
    return DifferenceEntry(name, budget, results.n_train(budget), len(seeds), Difference(estimate, p_value))


def _minus(one: Statistic, other: Statistic) -> Statistic:
    return lambda weights: one(weights) - other(weights)


def _crossed(statistics: Sequence[Statistic], results: StudyResults, settings: Bootstrap) -> tuple[Estimate, FloatArray]:
    patients, classes = results.patients, results.classes
    counts = len(set(patients)), len(patients)
    value = float(np.mean([point_value(statistic, len(patients)) for statistic in statistics]))
    if np.isnan(value):
        return Estimate(None, None, None, *counts, note="undefined for these cases"), np.full(settings.n_resamples, np.nan)
    values = crossed_values(statistics, patients, classes, settings)
    fewest = counts[0] if classes is None else min(patients_per_class(patients, classes).values())
    if fewest < MIN_PATIENTS:
        where = "" if classes is None else " in a class"
        return Estimate(value, None, None, *counts, note=f"no interval: {fewest} test patients{where}; {MIN_PATIENTS} are needed"), values
    undefined = int(np.isnan(values).sum())
    if undefined > MAX_UNDEFINED * len(values):
        return Estimate(value, None, None, *counts, undefined, note=f"no interval: undefined in {undefined} resamples"), values
    tail = 50 * (1 - settings.level)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    note = "one seed: the interval is over patients alone" if len(statistics) == 1 else ""
    return Estimate(value, float(low), float(high), *counts, undefined, strata_of(patients, classes) is not None, note), values


def _steps(results: StudyResults, name: str, budget: str, seed: int) -> tuple[int, int | None]:
    one, two = results.cell(results.initialisations[0], budget, seed), results.cell(name, budget, seed)
    assert one is not None  # both have this seed
    assert two is not None
    step, score = one.best
    return step, two.steps_to(score)


def _saved(
    results: StudyResults, scores: Sequence[ScoreEntry], samples: Mapping[tuple[str, str], FloatArray], others: Sequence[str]
) -> list[SavedEntry]:
    reference = [entry for entry in scores if entry.initialisation == results.initialisations[0] and entry.estimate.value is not None]
    if len(reference) < 2:
        return []
    sizes = np.array([entry.n_train for entry in reference], dtype=np.float64)
    curve = np.array([[entry.estimate.value for entry in reference]], dtype=np.float64)
    curves = np.stack([samples[entry.initialisation, entry.budget] for entry in reference], axis=1)
    found = []
    for entry in scores:
        if entry.initialisation in others and entry.estimate.value is not None:
            needed = float(labels_for(np.array([entry.estimate.value]), sizes, curve)[0])
            drawn = labels_for(samples[entry.initialisation, entry.budget], sizes, curves)
            low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
            found.append(SavedEntry(entry.initialisation, entry.budget, entry.n_train, needed, float(low), float(high), int(sizes[-1])))
    return found


def labels_for(scores: FloatArray, sizes: FloatArray, curves: FloatArray) -> FloatArray:
    """Return the number of labels with which a curve first reaches a score, (R,).

    Args:
        scores: (R,).
        sizes: numbers of labels, rising, (K,).
        curves: scores at them, (R, K); between two of them the score is linear in the logarithm of the number.

    The smallest number where its score is enough; infinite where no number's is.
    """
    needed = np.full(len(scores), np.inf)
    for place in range(len(sizes) - 1, -1, -1):
        reached = curves[:, place] >= scores
        if place == 0:
            needed[reached] = sizes[0]
            continue
        before = curves[:, place - 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.clip((scores - before) / (curves[:, place] - before), 0, 1)  # beyond these it is not used
        between = np.exp(np.log(sizes[place - 1]) + share * np.log(sizes[place] / sizes[place - 1]))
        needed = np.where(reached & (before < scores), between, needed)
    return needed
