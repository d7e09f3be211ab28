"""Studies with known effects, made of random numbers."""

import numpy as np

from fuse_examples.imaging.oai_example.evaluation.study_cells import CellResult, StudyResults, TestedCase

SIZES = {"n1": 1, "n4": 4, "n12": 12, "n40": 40, "all": 111}
STEPS = tuple(range(30, 361, 30))


def segmentation_study(
    gains: dict[str, float],
    n_seeds: int = 3,
    n_patients: int = 38,
    seed: int = 0,
    speed: float = 2.0,
    names: tuple[str, ...] = ("scratch", "dino"),
) -> StudyResults:
    """A study whose later initialisations score `gains[budget]` more, and learn `speed` times as fast."""
    rng = np.random.default_rng(seed)
    cases = tuple(TestedCase(f"case{number:02d}", f"patient{number:02d}") for number in range(n_patients))
    difficulty = rng.normal(0, 0.04, n_patients)
    cells = []
    for budget in gains:
        for run in range(n_seeds):
            of_seed = rng.normal(0, 0.02)
            for place, name in enumerate(names):
                mean = 0.88 - 0.4 / np.sqrt(SIZES[budget] + 0.5) + of_seed + gains[budget] * (place > 0)
                scores = np.clip(mean + difficulty + rng.normal(0, 0.01, n_patients), 0, 1)
                rate = 120 / (speed if place else 1.0)
                curve = tuple((step, round(float(mean * (1 - np.exp(-step / rate)) + rng.normal(0, 0.002)), 6)) for step in STEPS)
                patients = SIZES[budget], min(SIZES[budget], 42)
                cells.append(
                    CellResult(name, budget, run, 1e-3, *patients, *patients, curve, tuple(round(float(score), 6) for score in scores))
                )
    return StudyResults("hippocampus", "segmentation", 360, names, tuple(gains), None, cases, {"steps": 360}, (), tuple(cells))


def classification_study(n_patients: int = 120, n_seeds: int = 3, gain: float = 1.0, seed: int = 0) -> StudyResults:
    """A study of two classes at two budgets; the second initialisation separates them by `gain` more."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n_patients) < 0.3
    cases = tuple(TestedCase(f"case{n:03d}", f"patient{n // 2:03d}", "ill" if ill else "well") for n, ill in enumerate(truth))
    cells = []
    for budget, size in (("n12", 12), ("all", 111)):
        for run in range(n_seeds):
            for place, name in enumerate(("scratch", "dino")):
                logit = (0.5 + 0.2 * np.log(size) + gain * place) * truth + rng.normal(0, 1, n_patients)
                ill = 1 / (1 + np.exp(-logit))
                scores = tuple([float(value), float(1 - value)] for value in ill)
                cells.append(CellResult(name, budget, run, 1e-3, size, 9, size, 9, ((30, 0.5), (60, 0.7)), scores))
    target = {"name": "state", "kind": "categorical", "classes": ["ill", "well"], "positive": "ill"}
    return StudyResults("glands", "classification", 60, ("scratch", "dino"), ("n12", "all"), target, cases, {"steps": 60}, (), tuple(cells))
