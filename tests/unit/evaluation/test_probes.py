"""Probes against scikit-learn's k-NN and against what is known of features that do or do not hold the answer."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.class_index import ClassIndex
from fuse_examples.imaging.oai_example.evaluation.probes import (
    NEIGHBOURS,
    TEMPERATURE,
    Embedded,
    knn_probabilities,
    linear_probabilities,
    probe,
)

INDEX = ClassIndex("grade", ("a", "b"), (1, 1), "b")


def case(number: int, grade: str | None) -> Case:
    return Case(number + 2, f"case{number}", f"P{number:03d}", Path("x"), None, "0", {"grade": grade})


def embedded(seed: int, n: int, effect: float) -> tuple[Embedded, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    features = rng.normal(size=(n, 6)) + 5.0
    features[:, 2] += effect * labels
    return Embedded([case(i, INDEX.classes[label]) for i, label in enumerate(labels)], features), labels


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("m", [5, 60])
def test_knn_is_scikit_learns_with_the_same_weights(m: int, n_classes: int) -> None:
    rng = np.random.default_rng(m)
    known, asked, labels = rng.normal(size=(m, 5)), rng.normal(size=(9, 5)), np.resize(np.arange(n_classes), m)
    # The squared distance of unit vectors is 2 - 2 cosine.
    reference = KNeighborsClassifier(min(NEIGHBOURS, m), weights=lambda d: np.exp(-(d**2) / 2 / TEMPERATURE))

    def direction(rows: np.ndarray) -> np.ndarray:
        moved = rows - known.mean(axis=0)
        return moved / np.linalg.norm(moved, axis=1, keepdims=True)

    expected = reference.fit(direction(known), labels).predict_proba(direction(asked))
    np.testing.assert_allclose(knn_probabilities(known, labels, asked, n_classes)[:, : expected.shape[1]], expected, atol=1e-10)


def test_a_class_without_known_cases_has_no_probability() -> None:
    rng = np.random.default_rng(0)
    for probabilities_of in (knn_probabilities, linear_probabilities):
        found = probabilities_of(rng.normal(size=(30, 3)), np.resize([0, 2], 30), rng.normal(size=(4, 3)), 3)
        assert (found[:, 1] == 0).all()
        np.testing.assert_allclose(found.sum(axis=1), 1)


def test_features_that_hold_the_answer_are_read_and_others_are_not() -> None:
    (known, _), (asked, truth) = embedded(0, 120, 4.0), embedded(1, 120, 4.0)
    found = probe(known, asked, INDEX)
    assert found["linear_auc"].value is not None
    assert found["linear_auc"].low is not None
    assert found["linear_auc"].low > 0.95
    assert found["knn_auc"].value > 0.9  # type: ignore[operator]  # not None here
    scores = knn_probabilities(known.features, np.array([INDEX.label(one) for one in known.cases]), asked.features, 2)
    assert found["knn_auc"].value == pytest.approx(roc_auc_score(truth, scores[:, 1]))

    (known, _), (asked, _) = embedded(2, 120, 0.0), embedded(3, 120, 0.0)
    nothing = probe(known, asked, INDEX)
    for one in nothing.values():
        assert one.low is not None
        assert one.high is not None
        assert one.low < 0.5 < one.high + 0.05


def test_cases_without_a_label_are_left_out() -> None:
    (known, _), (asked, _) = embedded(0, 60, 4.0), embedded(1, 60, 4.0)
    more = Embedded([*asked.cases, case(99, None)], np.vstack([asked.features, np.full((1, 6), 1e6)]))
    assert probe(known, more, INDEX) == probe(known, asked, INDEX)


def test_a_single_class_among_the_asked_has_no_value_and_says_why() -> None:
    (known, _), (asked, _) = embedded(0, 60, 4.0), embedded(1, 60, 4.0)
    chosen = [i for i, one in enumerate(asked.cases) if one.targets["grade"] == "a"]
    alike = Embedded([asked.cases[i] for i in chosen], asked.features[chosen])
    assert probe(known, alike, INDEX)["knn_auc"].value is None
    assert "not every class has cases" in probe(known, alike, INDEX)["knn_auc"].note


def test_features_that_are_all_equal_do_not_break_it() -> None:
    (known, _), (asked, _) = embedded(0, 60, 0.0), embedded(1, 60, 0.0)
    flat = probe(Embedded(known.cases, np.ones((60, 4))), Embedded(asked.cases, np.ones((60, 4))), INDEX)
    assert flat["knn_auc"].value == pytest.approx(0.5)


def test_cases_whose_features_are_not_finite_count_for_nothing() -> None:
    (known, _), (asked, _) = embedded(0, 60, 2.0), embedded(1, 40, 2.0)
    spoilt = [Embedded(one.cases, one.features.copy()) for one in (known, asked)]
    for one, value in zip(spoilt, (np.nan, np.inf), strict=True):
        one.features[3, 1] = value
    without = [Embedded([*one.cases[:3], *one.cases[4:]], np.delete(one.features, 3, axis=0)) for one in (known, asked)]
    found, expected = probe(spoilt[0], spoilt[1], INDEX), probe(without[0], without[1], INDEX)
    assert found["knn_auc"] == expected["knn_auc"]
    assert found["linear_auc"].value == pytest.approx(expected["linear_auc"].value)
    assert found["knn_auc"].n_cases == 39


@pytest.mark.parametrize("which", ["known of one class", "asked without labels", "nothing finite"])
def test_what_cannot_be_probed_is_undefined(which: str) -> None:
    (known, _), (asked, _) = embedded(0, 60, 2.0), embedded(1, 40, 2.0)
    if which == "known of one class":
        known = Embedded([case(number, "a") for number in range(60)], known.features)
    elif which == "asked without labels":
        asked = Embedded([case(number, None) for number in range(40)], asked.features)
    else:
        known = Embedded(known.cases, known.features * np.nan)
    for one in probe(known, asked, INDEX).values():
        assert (one.value, one.low) == (None, None)
        assert one.note == "undefined: not every class has cases"
