"""What a network must beat: the majority class, the table's covariates, and the size and brightness of the scan.

All are fitted to the training cases when a run begins and travel in its checkpoints as plain numbers, so that a test has no say in them.
Classes and grades: logistic regression (scikit-learn's, with its default penalty, on standardised features). Numbers: linear regression.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LinearRegression, LogisticRegression

from fuse_examples.imaging.oai_example.data.class_index import MISSING, ClassIndex
from fuse_examples.imaging.oai_example.data.covariates import Covariates
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.store import StoredImage
from fuse_examples.imaging.oai_example.data.targets import LearnedTarget
from fuse_examples.imaging.oai_example.objectives.threshold import best_threshold

MAJORITY, MEAN, VOLUME, INTENSITY, TABULAR = "majority class", "training mean", "foreground volume", "mean intensity", "covariates"
Features = Mapping[str, NDArray[np.float64]]
"""Feature's name -> its numbers for each case, (n, d)."""


@dataclass(frozen=True)
class Baseline:
    """A linear predictor of one target.

    Attributes:
        name: what it is called in the report.
        feature: what it looks at, a name of `simple_features`; empty where it looks at nothing.
        centre, scale: of the features over the training cases, (d,).
        coefficients: (K, d) for classes, (1, d) for numbers.
        intercepts: (K,) or (1,).
        threshold: of the positive class, chosen on validation cases, as the network's.
    """

    name: str
    feature: str
    centre: list[float]
    scale: list[float]
    coefficients: list[list[float]]
    intercepts: list[float]
    threshold: float | None = None

    def predict(self, features: Features, n_cases: int) -> NDArray[np.float64]:
        """Probabilities (n, K), or numbers (n, 1)."""
        outputs = np.tile(np.array(self.intercepts), (n_cases, 1))
        if self.feature:
            standardised = (features[self.feature] - np.array(self.centre)) / np.array(self.scale)
            outputs = outputs + standardised @ np.array(self.coefficients).T
        return np.asarray(softmax(outputs, axis=1), dtype=np.float64) if outputs.shape[1] > 1 else outputs

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)


def simple_features(volumes: Sequence[CaseVolumes], covariates: Covariates) -> dict[str, NDArray[np.float64]]:
    """Measure the scans: foreground volume in millilitres and mean intensity, (n, 1) each; and the covariates, (n, d), if there are any."""
    images = [(foreground_ml(image), image.statistics.mean) for one in volumes if (image := one.image())]
    measured = np.array(images, dtype=np.float64).reshape(-1, 2)
    features = {VOLUME: measured[:, :1], INTENSITY: measured[:, 1:]}
    if covariates.columns:
        features[TABULAR] = np.array([covariates.encode(one.case) for one in volumes], dtype=np.float64).reshape(-1, covariates.length)
    return features


def foreground_ml(image: StoredImage) -> float:
    """Volume in millilitres of what lies above the middle between the two percentiles, or the extremes where both coincide.

    Exact for binary shapes; for scans a crude measure of how much of the field of view is tissue.
    """
    found = image.statistics
    low, high = (found.low, found.high) if found.low < found.high else (found.minimum, found.maximum)
    voxels = sum(int(np.count_nonzero(part > (low + high) / 2)) for part in image.array)
    return voxels * abs(float(np.linalg.det(image.grid.affine[:3, :3]))) / 1000


def fit_baselines(
    learned: LearnedTarget, train: Sequence[CaseVolumes], validation: Sequence[CaseVolumes], covariates: Covariates
) -> list[Baseline]:
    """Fit every baseline of a target to the training cases; validation cases choose the thresholds."""
    known = [one for one in train if one.case.targets[learned.target] is not None]
    judged = [one for one in validation if one.case.targets[learned.target] is not None]
    features, of_judged = simple_features(known, covariates), simple_features(judged, covariates)
    labels = np.array([learned.label(one.case) for one in known])
    fitted = [_constant(learned, labels), *(_linear(learned, name, values, labels) for name, values in features.items())]
    if not isinstance(learned, ClassIndex) or learned.positive is None or learned.ordinal:
        return fitted
    positive = learned.classes.index(learned.positive)
    truth = np.array([learned.label(one.case) == positive for one in judged], dtype=bool)
    return [_with_threshold(one, truth, one.predict(of_judged, len(judged))[:, positive]) for one in fitted]


def baselines_from(entry: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[Baseline]]:
    """Target -> its baselines, from a checkpoint."""
    return {target: [Baseline(**values) for values in found] for target, found in entry.items()}


def _constant(learned: LearnedTarget, labels: NDArray[Any]) -> Baseline:
    if not isinstance(learned, ClassIndex):
        return Baseline(MEAN, "", [], [], [[]], [float(labels.mean())])
    shares = np.bincount(labels[labels != MISSING], minlength=len(learned.classes)) / len(labels)
    return Baseline(MAJORITY, "", [], [], [[]] * len(shares), np.log(np.maximum(shares, 1e-12)).tolist())


def _linear(learned: LearnedTarget, name: str, values: NDArray[np.float64], labels: NDArray[Any]) -> Baseline:
    centre, scale = values.mean(axis=0), values.std(axis=0)
    scale[scale == 0] = 1.0
    standardised = (values - centre) / scale
    if isinstance(learned, ClassIndex):
        model = LogisticRegression(max_iter=1000).fit(standardised, labels)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(intercepts) == 1:  # of the second class against the first
            coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
            intercepts = np.concatenate([[0.0], intercepts])
    else:
        line = LinearRegression().fit(standardised, labels)
        coefficients, intercepts = line.coef_[None], np.array([line.intercept_])
    return Baseline(name, name, centre.tolist(), scale.tolist(), coefficients.tolist(), intercepts.tolist())


def _with_threshold(baseline: Baseline, positive: NDArray[np.bool_], probability: NDArray[np.float64]) -> Baseline:
    constant = not baseline.feature  # the same probability for all: it calls the majority
    threshold = None if constant or not len(positive) else best_threshold(positive, probability)
    return Baseline(**{**asdict(baseline), "threshold": threshold})
