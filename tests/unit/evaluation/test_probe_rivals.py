"""Features beside their rivals: the difference of AUCs is that of scikit-learn's, over the same patients, and can go either way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.class_index import ClassIndex
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.evaluation.probe_rivals import Pair, beside_rivals, column_features
from fuse_examples.imaging.oai_example.evaluation.probes import Embedded, knn_probabilities

INDEX = ClassIndex("grade", ("a", "b"), (1, 1), "b")
N_KNOWN, N_ASKED = 120, 90


def cases(labels: np.ndarray, first: int) -> list[Case]:
    """A case per label, every third the second one of the patient before."""
    numbers = [first + place - (place % 3 == 2) for place in range(len(labels))]
    return [
        Case(place, f"c{place}", f"P{number}", Path("x"), None, "0", {"grade": INDEX.classes[label]}, {"age": str(50 + 10 * label)})
        for place, (number, label) in enumerate(zip(numbers, labels, strict=True))
    ]


def pair(seed: int, effect: float) -> Pair:
    """Features of the same cases for each seed, in which the class shows as much as `effect` says."""
    labels = np.random.default_rng(0).integers(0, 2, N_KNOWN + N_ASKED)
    features = np.random.default_rng(seed).normal(size=(len(labels), 4))
    features[:, 1] += effect * labels
    known, asked = cases(labels[:N_KNOWN], 0), cases(labels[N_KNOWN:], 1000)
    return Embedded(known, features[:N_KNOWN]), Embedded(asked, features[N_KNOWN:])


def expected_auc(one: Pair) -> float:
    known, truth = ([case.targets["grade"] == "b" for case in part.cases] for part in one)
    scores = knn_probabilities(one[0].features, np.array(known, dtype=np.int64), one[1].features, 2)[:, 1]
    return float(roc_auc_score(truth, scores))


def test_the_difference_is_that_of_the_auc_and_of_the_mean_over_members() -> None:
    own, members = pair(1, 3.0), [pair(2, 1.0), pair(3, 0.0)]
    auc, found = beside_rivals(own, {"weak": members, "none": members[1:]}, INDEX)
    assert auc.value == pytest.approx(expected_auc(own))
    assert auc.n_patients == 60
    weak = found["weak"]
    assert weak.members == pytest.approx([expected_auc(one) for one in members])
    assert weak.auc.value == pytest.approx(np.mean([expected_auc(one) for one in members]))
    assert weak.difference.estimate.value == pytest.approx(auc.value - weak.auc.value)
    assert weak.difference.estimate.low is not None
    assert weak.difference.estimate.low > 0
    assert weak.is_beaten
    assert found["none"].is_beaten


def test_what_is_no_better_or_hardly_so_does_not_win() -> None:
    own = pair(4, 3.0)
    _, found = beside_rivals(own, {"itself": [own], "stronger": [pair(5, 6.0)], "alike": [pair(10, 3.0)]}, INDEX)
    assert not any(one.is_beaten for one in found.values())
    assert found["itself"].difference.estimate.value == 0
    assert found["alike"].difference.estimate.value > 0


def test_a_lucky_one_of_several_is_not_better_than_they_are() -> None:
    members = [pair(20 + place, effect) for place, effect in enumerate((2.5, 0.0, 0.5, 2.0, 1.5, 2.5))]
    lucky = pair(30, 2.8)
    _, found = beside_rivals(lucky, {"several": members}, INDEX)
    several = found["several"]
    assert several.difference.estimate.value == pytest.approx(expected_auc(lucky) - np.mean([expected_auc(one) for one in members]))
    assert several.difference.estimate.value > 0.1
    assert not several.is_beaten
    _, again = beside_rivals(lucky, {"several": members}, INDEX)
    assert again["several"] == several
    own, found = beside_rivals(pair(31, 9.0), {"several": members}, INDEX)
    assert own.value == 1
    assert found["several"].is_beaten


def test_features_of_exchanged_cases_do_not_win() -> None:
    known, asked = pair(7, 6.0)
    mixed = replace(asked, features=np.random.default_rng(0).permutation(asked.features))
    _, found = beside_rivals((known, mixed), {"weak": [pair(2, 1.0)]}, INDEX)
    assert not found["weak"].is_beaten


def test_columns_are_features_standardised_by_the_known_cases() -> None:
    known, asked = (part.cases for part in pair(1, 0.0))
    first, second = column_features(known, asked, ["age"], Path("t.csv"))
    ages = np.array([float(case.extra["age"]) for case in known])
    np.testing.assert_allclose(first.features[:, 0], (ages - ages.mean()) / ages.std())
    np.testing.assert_allclose(second.features[:, 0], (np.array([float(case.extra["age"]) for case in asked]) - ages.mean()) / ages.std())
    _, found = beside_rivals(pair(1, 0.0), {"age": [(first, second)]}, INDEX)
    assert found["age"].auc.value == 1


def test_a_column_that_is_no_number_is_refused() -> None:
    known, asked = (part.cases for part in pair(1, 0.0))
    odd = [replace(known[0], extra={"age": "old"}), *known[1:]]
    with pytest.raises(DataError, match="old"):
        column_features(odd, asked, ["age"], Path("t.csv"))
