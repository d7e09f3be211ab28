"""Baselines: scikit-learn's own predictions after a journey through a checkpoint, and differences that are those of the scores."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.covariates import Covariates, learn_covariates
from fuse_examples.imaging.oai_example.data.intensity import measure
from fuse_examples.imaging.oai_example.data.store import StoredImage
from fuse_examples.imaging.oai_example.data.targets import learn_targets
from fuse_examples.imaging.oai_example.evaluation.baseline_results import Rival, baseline_metrics, baseline_section
from fuse_examples.imaging.oai_example.evaluation.baselines import Baseline, baselines_from, fit_baselines, foreground_ml, simple_features
from fuse_examples.imaging.oai_example.evaluation.classification_report import READABLE
from fuse_examples.imaging.oai_example.evaluation.classification_results import target_metrics
from fuse_examples.imaging.oai_example.evaluation.classified_cases import ClassifiedCase, Target
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.geometry.volume import Grid

TABLE = Path("t.csv")
SHAPE = (6, 6, 6)


@dataclass(frozen=True)
class Volumes:
    """A binary cube of some size in a volume of 2 x 1 x 1 mm voxels, and what the table says of it."""

    case: Case
    size: int

    def image(self) -> StoredImage:
        array = np.zeros(SHAPE, dtype=np.int16)
        array[: self.size, :2, :2] = 100
        grid = Grid(SHAPE, np.diag([2.0, 1.0, 1.0, 1.0]))
        return StoredImage(array, grid, grid, measure(array, (0.5, 99.5)))


def volumes(n: int = 40, seed: int = 0) -> list[Volumes]:
    generator = np.random.default_rng(seed)
    made = []
    for index in range(n):
        size = int(generator.integers(1, 6))
        targets = {
            "ill": None if index == 3 else ("yes" if size + generator.normal() > 4 else "no"),
            "grade": str(min(2, size // 2)),
            "age": f"{50 + 3 * size + generator.normal():.3f}",
        }
        extra = {"bmi": None if index == 5 else f"{20 + 2 * size + generator.normal():.2f}", "sex": "FM"[index % 2]}
        made.append(Volumes(Case(index + 2, f"c{index}", f"p{index}", Path("x"), None, "0", targets, extra), size))
    return made


def fitted(name: str, kind: str) -> tuple[list[Baseline], list[Volumes], Covariates, Any]:
    train = volumes()
    covariates = learn_covariates([one.case for one in train], {"bmi": "numeric", "sex": "categorical"}, TABLE)
    (learned,) = learn_targets([one.case for one in train], [name], {name: kind}, None, TABLE)
    found = fit_baselines(learned, train, volumes(20, 1), covariates)  # type: ignore[arg-type]
    return baselines_from({name: [one.as_dict() for one in found]})[name], train, covariates, learned


@pytest.mark.parametrize(("name", "kind"), [("ill", "categorical"), ("grade", "ordinal"), ("age", "continuous")])
def test_predictions_are_scikit_learns_fitted_to_the_training_cases(name: str, kind: str) -> None:
    found, train, covariates, learned = fitted(name, kind)
    assert [one.name for one in found][1:] == ["foreground volume", "mean intensity", "covariates"]
    known = [one for one in train if one.case.targets[name] is not None]
    labels = [learned.label(one.case) for one in known]
    test = volumes(15, 2)
    features, of_train = (simple_features(cases, covariates) for cases in (test, known))  # type: ignore[arg-type]
    for one in found[1:]:
        model = make_pipeline(StandardScaler(), LinearRegression() if kind == "continuous" else LogisticRegression(max_iter=1000))
        model.fit(of_train[one.feature], labels)
        expected = model.predict(features[one.feature])[:, None] if kind == "continuous" else model.predict_proba(features[one.feature])
        np.testing.assert_allclose(one.predict(features, 15), expected, rtol=1e-6)
    constant = found[0].predict(features, 15)
    if kind == "continuous":
        assert found[0].name == "training mean"
        np.testing.assert_allclose(constant, np.mean(labels))
    else:
        assert found[0].name == "majority class"
        np.testing.assert_allclose(constant[0], np.bincount(labels) / len(labels))


def test_thresholds_come_from_validation_cases_and_only_where_there_is_a_positive_class() -> None:
    assert [one.threshold is None for one in fitted("ill", "categorical")[0]] == [True, False, False, False]
    assert all(one.threshold is None for one in [*fitted("grade", "ordinal")[0], *fitted("age", "continuous")[0]])


def test_foreground_and_intensity_are_measured() -> None:
    one = volumes(1)[0]
    assert foreground_ml(one.image()) == pytest.approx(one.size * 4 * 2.0 / 1000)
    features = simple_features([one], Covariates())  # type: ignore[list-item]
    assert features["mean intensity"][0, 0] == pytest.approx(one.image().array.mean())
    assert set(features) == {"foreground volume", "mean intensity"}


def test_differences_are_network_minus_baseline_on_the_same_patients() -> None:
    generator = np.random.default_rng(0)
    target = Target("ill", ("no", "yes"), "yes", threshold=0.4)
    truth = generator.random(60) < 0.5
    good, bad = (np.clip(0.5 + scale * (truth - 0.5) + generator.normal(0, 0.2, 60), 0.01, 0.99) for scale in (0.6, 0.1))
    cases = [
        ClassifiedCase(f"c{i}", f"p{i}", "4", i + 2, {"ill": "yes" if truth[i] else "no"}, {"ill": [1 - good[i], good[i]]})
        for i in range(60)
    ]
    rivals = [Rival("volume", np.stack([1 - bad, bad], axis=1), 0.45), Rival("majority class", np.tile([0.6, 0.4], (60, 1)))]
    entry = target_metrics(cases, target, Bootstrap(200), rivals)
    assert entry["baselines"] == baseline_metrics(cases, target, rivals, Bootstrap(200))
    volume, majority = entry["baselines"].values()
    assert volume["metrics"]["auc"]["value"] == pytest.approx(roc_auc_score(truth, bad))
    difference = volume["difference"]["auc"]
    assert difference["value"] == pytest.approx(roc_auc_score(truth, good) - roc_auc_score(truth, bad))
    assert 0 < difference["low"] < difference["value"] < difference["high"]
    assert difference["p_value"] == pytest.approx(1 / 201)
    assert volume["metrics"]["accuracy"]["value"] == pytest.approx(np.mean((bad >= 0.45) == truth))
    assert majority["metrics"]["auc"]["value"] == 0.5
    assert majority["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(~truth))
    (section,) = baseline_section(target, entry, READABLE)
    assert f"{difference['value']:.3f} ({difference['low']:.3f} to {difference['high']:.3f})" in section.html()
    assert baseline_section(target, target_metrics(cases, target, Bootstrap(20)), READABLE) == []
    unknown = [replace(case, truth={"ill": None}) for case in cases]
    assert target_metrics(unknown, target, Bootstrap(20), rivals)["baselines"]["volume"]["difference"]["auc"]["p_value"] is None
