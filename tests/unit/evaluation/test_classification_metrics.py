import time

import numpy as np
import pytest
from sklearn import metrics as reference

from fuse_examples.imaging.oai_example.evaluation import classification_metrics as metric
from fuse_examples.imaging.oai_example.evaluation.bootstrap import estimate, paired_difference, point_value
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap


def binary(seed: int, n: int = 60, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.random(n) < 0.3
    truth[:2] = True, False
    score = generator.normal(size=n) + truth
    return truth, np.round(score * levels) / levels if levels else score


def multi(seed: int, n: int = 80, n_classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(n_classes), generator.integers(n_classes, size=n - n_classes)])
    return truth, generator.dirichlet(np.ones(n_classes), size=n)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [None, 4, 1])
def test_auc_and_average_precision_equal_scikit_learn(seed: int, levels: int | None) -> None:
    truth, score = binary(seed, levels=levels)
    assert point_value(metric.auc(truth, score), 60) == pytest.approx(reference.roc_auc_score(truth, score), abs=1e-12)
    assert point_value(metric.average_precision(truth, score), 60) == pytest.approx(
        reference.average_precision_score(truth, score), abs=1e-12
    )


@pytest.mark.parametrize("kind", ["auc", "average_precision"])
@pytest.mark.parametrize("levels", [None, 3])
def test_weights_are_repeated_cases(kind: str, levels: int | None) -> None:
    truth, score = binary(7, levels=levels)
    weights = np.random.default_rng(0).integers(0, 4, size=(20, 60)).astype(float)
    ours = getattr(metric, kind)(truth, score)(weights)
    theirs = getattr(reference, {"auc": "roc_auc_score", "average_precision": "average_precision_score"}[kind])
    for row, value in zip(weights.astype(int), ours, strict=True):
        assert value == pytest.approx(theirs(np.repeat(truth, row), np.repeat(score, row)), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_decisions_equal_scikit_learn(seed: int) -> None:
    truth, probabilities = multi(seed)
    predicted = probabilities.argmax(axis=1)
    predicted[predicted == 2] = 1  # a class that is never predicted
    weights = np.random.default_rng(seed).integers(0, 3, size=(10, 80)).astype(float)
    weights[:, :4] = 1
    ours = {
        "accuracy": metric.accuracy(truth, predicted),
        "balanced": metric.balanced_accuracy(truth, predicted, 4),
        "macro": metric.f1(truth, predicted, 4),
        "third": metric.f1(truth, predicted, 4, 3),
    }
    for row in weights.astype(int):
        t, p = np.repeat(truth, row), np.repeat(predicted, row)
        expected = {
            "accuracy": reference.accuracy_score(t, p),
            "balanced": reference.balanced_accuracy_score(t, p),
            "macro": reference.f1_score(t, p, average="macro"),
            "third": reference.f1_score(t, p, labels=[3], average="macro"),
        }
        assert {name: statistic(row[None].astype(float))[0] for name, statistic in ours.items()} == pytest.approx(expected, abs=1e-12)


def test_macro_auc_equals_scikit_learns_one_against_rest() -> None:
    truth, probabilities = multi(3)
    ours = metric.macro([metric.auc(truth == index, probabilities[:, index]) for index in range(4)])
    expected = reference.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro")
    assert point_value(ours, 80) == pytest.approx(expected, abs=1e-12)
    precision = metric.macro([metric.average_precision(truth == index, probabilities[:, index]) for index in range(4)])
    assert point_value(precision, 80) == pytest.approx(reference.average_precision_score(truth, probabilities, average="macro"), abs=1e-12)


def test_f1_leaves_out_classes_that_do_not_occur_as_scikit_learn_does() -> None:
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    expected = reference.f1_score(truth, predicted, average="macro")
    assert point_value(metric.f1(truth, predicted, 5), 4) == pytest.approx(expected)
    assert np.isnan(point_value(metric.f1(truth, predicted, 5, 4), 4))


def test_one_class_alone_is_undefined() -> None:
    score = np.array([0.1, 0.4, 0.4])
    for truth in (np.zeros(3, bool), np.ones(3, bool)):
        assert np.isnan(point_value(metric.auc(truth, score), 3))
        assert np.isnan(point_value(metric.average_precision(truth, score), 3))
        assert np.isnan(point_value(metric.balanced_accuracy(truth, [0, 1, 1], 2), 3))
    assert np.isnan(point_value(metric.f1(np.zeros(3, int), np.zeros(3, int), 2, 1), 3))
    assert point_value(metric.f1(np.zeros(3, int), np.array([0, 0, 1]), 2, 1), 3) == 0
    assert np.isnan(metric.auc([], [])(np.ones((2, 0)))).all()
    assert np.isnan(metric.average_precision([], [])(np.ones((2, 0)))).all()


def test_a_resample_that_lost_a_class_is_undefined_for_balanced_accuracy() -> None:
    statistic = metric.balanced_accuracy([0, 1, 2], [0, 1, 1], 3)
    values = statistic(np.array([[1.0, 1, 1], [2, 1, 0], [0, 1, 2]]))
    assert values[0] == pytest.approx(2 / 3)
    assert np.isnan(values[1:]).all()


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="a score is not a finite number"):
        metric.auc([True, False], [np.nan, 0])


@pytest.mark.parametrize("levels", [None, 3])
def test_curves_equal_scikit_learn(levels: int | None) -> None:
    truth, score = binary(2, levels=levels)
    false_positive, true_positive = metric.roc_curve(truth, score)
    expected = reference.roc_curve(truth, score, drop_intermediate=False)
    assert np.allclose(false_positive, expected[0])
    assert np.allclose(true_positive, expected[1])
    recall, precision = metric.precision_recall_curve(truth, score)
    expected = reference.precision_recall_curve(truth, score)
    # Scikit-learn's run from the lowest threshold and end in a made-up point (0, 1); ours start with the precision of the highest score.
    assert np.allclose(recall[1:], expected[1][:-1][::-1][: len(recall) - 1])
    assert np.allclose(precision[1:], expected[0][:-1][::-1][: len(recall) - 1])
    assert np.sum(np.diff(recall) * precision[1:]) == pytest.approx(reference.average_precision_score(truth, score))
    recall, precision = metric.precision_recall_curve([False, True, True, False], [0.9, 0.8, 0.3, 0.1])
    assert recall.tolist() == [0, 0, 0.5, 1, 1]
    assert precision.tolist() == [0, 0, 1 / 2, 2 / 3, 2 / 4]


def test_auc_interval_equals_a_slow_loop_and_is_quick() -> None:
    truth, score = binary(11, n=300)
    patients = [f"p{index // 2:03d}" for index in range(300)]
    settings = Bootstrap(2000, seed=2)
    start = time.process_time()
    result = estimate(metric.auc(truth, score), patients, classes=[str(one) for one in truth], settings=settings)
    assert time.process_time() - start < 2
    assert not result.stratified
    draws = np.random.default_rng(2).integers(150, size=(2000, 150))[:300]
    values = []
    for draw in draws:
        cases = np.concatenate([[2 * patient, 2 * patient + 1] for patient in draw])
        values.append(reference.roc_auc_score(truth[cases], score[cases]))
    first = metric.auc(truth, score)
    counts = np.array([np.bincount(draw, minlength=150) for draw in draws]).repeat(2, axis=1).astype(float)
    assert np.allclose(first(counts), values)
    assert np.percentile(values, 2.5) == pytest.approx(result.low, abs=0.01)
    assert np.percentile(values, 97.5) == pytest.approx(result.high, abs=0.01)


def test_difference_of_two_aucs_on_the_same_patients() -> None:
    truth, weak = binary(4, n=200)
    strong = weak + 1.5 * truth
    patients = [str(index) for index in range(200)]
    classes = [str(one) for one in truth]
    result = paired_difference(metric.auc(truth, weak), metric.auc(truth, strong), patients, classes=classes, settings=Bootstrap(300))
    expected = reference.roc_auc_score(truth, strong) - reference.roc_auc_score(truth, weak)
    assert result.estimate.value == pytest.approx(expected)
    assert 0 < result.estimate.low < expected < result.estimate.high
    assert result.p_value == 1 / 301
