import warnings

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn import calibration as reference_calibration
from sklearn import metrics as reference

from fuse_examples.imaging.oai_example.evaluation.agreement import mean_absolute_error, quadratic_kappa, r_squared, spearman
from fuse_examples.imaging.oai_example.evaluation.bootstrap import point_value
from fuse_examples.imaging.oai_example.evaluation.calibration import brier, calibration_curve, calibration_error
from fuse_examples.imaging.oai_example.evaluation.classified_cases import Target


def weights(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, size=(8, n)).astype(float)


def repeated(row: np.ndarray, *columns: np.ndarray) -> list[np.ndarray]:
    return [np.repeat(column, row.astype(int), axis=0) for column in columns]


@pytest.mark.parametrize("seed", range(4))
def test_numbers_equal_scikit_learn_and_scipy_in_every_resample(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = np.round(1e3 + generator.normal(size=40), 1)  # ties, far from 0
    predicted = np.round(truth + generator.normal(size=40), 1)
    for row in (np.ones(40), *weights(seed, 40)):
        one, two = repeated(row, truth, predicted)
        assert mean_absolute_error(truth, predicted)(row[None])[0] == pytest.approx(reference.mean_absolute_error(one, two))
        assert r_squared(truth, predicted)(row[None])[0] == pytest.approx(reference.r2_score(one, two))
        assert spearman(truth, predicted)(row[None])[0] == pytest.approx(spearmanr(one, two).statistic)


def test_constant_numbers_leave_correlations_undefined() -> None:
    same, other = np.full(5, 0.1), np.arange(5.0)
    assert np.isnan(point_value(spearman(same, other), 5))
    assert np.isnan(point_value(spearman(other, same), 5))
    assert np.isnan(point_value(r_squared(same, other), 5))
    assert point_value(r_squared(other, same), 5) == pytest.approx(reference.r2_score(other, same))
    resampled = np.array([[0, 0, 5.0, 0, 0]])  # one case five times
    assert np.isnan(r_squared(other + 1e6, other)(resampled)[0])
    assert np.isnan(r_squared(other[:1], other[:1])(np.ones((1, 1)))[0])
    assert point_value(mean_absolute_error(same, same), 5) == 0


@pytest.mark.parametrize("seed", range(4))
def test_kappa_equals_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.integers(5, size=60)
    predicted = np.clip(truth + generator.integers(-1, 2, size=60), 0, 3)
    for row in (np.ones(60), *weights(seed, 60)):
        expected = reference.cohen_kappa_score(*repeated(row, truth, predicted), weights="quadratic", labels=range(5))
        assert quadratic_kappa(truth, predicted, 5)(row[None])[0] == pytest.approx(expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isnan(reference.cohen_kappa_score([2] * 4, [2] * 4, weights="quadratic", labels=range(5)))
    assert np.isnan(point_value(quadratic_kappa([2] * 4, [2] * 4, 5), 4))
    assert point_value(quadratic_kappa([2] * 4, [1] * 4, 5), 4) == pytest.approx(0)


@pytest.mark.parametrize("seed", range(4))
def test_brier_score_equals_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth, three = generator.integers(3, size=50), generator.dirichlet(np.ones(3), size=50)
    truth[:3] = 0, 1, 2
    assert point_value(brier(truth, three), 50) == pytest.approx(reference.brier_score_loss(truth, three, labels=[0, 1, 2]))
    binary, two = truth > 0, generator.dirichlet(np.ones(2), size=50)
    assert point_value(brier(binary, two, 1), 50) == pytest.approx(reference.brier_score_loss(binary, two[:, 1]))
    assert point_value(brier(binary, two, 0), 50) == pytest.approx(reference.brier_score_loss(~binary, two[:, 0]))
    assert point_value(brier(np.zeros(4, int), np.tile([1.0, 0.0], (4, 1)), 1), 4) == 0


@pytest.mark.parametrize("kind", ["random", "edges", "one bin", "one class"])
def test_calibration_curve_equals_scikit_learn_and_the_error_is_its_mean_distance(kind: str) -> None:
    generator = np.random.default_rng(0)
    probability = {"random": generator.random(80), "edges": generator.integers(0, 11, size=80) / 10, "one bin": np.full(80, 0.5)}.get(
        kind, generator.random(80)
    )
    happened = generator.random(80) < (2 if kind == "one class" else probability**2)
    curve = calibration_curve(happened, probability)
    shares, means = reference_calibration.calibration_curve(happened, probability, n_bins=10, pos_label=True)
    assert curve["observed_share"] == pytest.approx(shares.tolist())
    assert curve["mean_probability"] == pytest.approx(means.tolist())
    expected = np.average(np.abs(shares - means), weights=curve["n_cases"])
    assert point_value(calibration_error(happened, probability), 80) == pytest.approx(expected)
    row = weights(1, 80)[0]
    again, likely = repeated(row, happened, probability)
    assert calibration_error(happened, probability)(row[None])[0] == pytest.approx(
        point_value(calibration_error(again, likely), len(again))
    )


def test_nothing_to_measure_is_undefined() -> None:
    for statistic in (calibration_error([], []), mean_absolute_error([], []), r_squared([], []), spearman([], [])):
        assert np.isnan(statistic(np.ones((1, 0)))[0])
    assert calibration_curve([], []) == {"mean_probability": [], "observed_share": [], "n_cases": []}


def test_decisions() -> None:
    probabilities = np.array([[0.7, 0.3], [0.5, 0.5], [0.2, 0.8]])
    assert Target("a", ("x", "y")).decide(probabilities).tolist() == [0, 0, 1]
    assert Target("a", ("x", "y"), threshold=0.3).decide(probabilities).tolist() == [1, 1, 1]
    assert Target("a", ("x", "y"), "x", threshold=0.6).decide(probabilities).tolist() == [0, 1, 1]
    grades = np.array([[0.4, 0.2, 0.4], [0.6, 0.0, 0.4], [0.1, 0.3, 0.6]])
    assert Target("a", ("0", "1", "2"), ordinal=True).decide(grades).tolist() == [1, 0, 2]  # medians, where the mode of the first is an end
