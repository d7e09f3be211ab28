import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as reference

from fuse_examples.imaging.oai_example.evaluation.classification_results import target_metrics, write_classification_results
from fuse_examples.imaging.oai_example.evaluation.classified_cases import ClassifiedCase, Target
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap

COHORT = Target("V00COHORT", ("1: Progression", "3: Non-exposed control group"), "1: Progression")
GRADE = Target("grade", ("none", "mild", "severe"))
SETTINGS = Bootstrap(100)


def cases(n: int = 60, seed: int = 0) -> list[ClassifiedCase]:
    generator = np.random.default_rng(seed)
    made = []
    for index in range(n):
        cohort, grade = COHORT.classes[index % 2], GRADE.classes[index % 3]
        one = generator.dirichlet((3, 1.5) if index % 2 == 0 else (1.5, 3))
        three = generator.dirichlet(1 + 2 * (np.arange(3) == index % 3))
        truth = {"V00COHORT": cohort, "grade": grade}
        made.append(ClassifiedCase(f"case{index}", f"p{index // 2}", "test", index + 2, truth, {"V00COHORT": one, "grade": three}))
    return made


def without(case: ClassifiedCase, target: str) -> ClassifiedCase:
    return replace(case, truth={**case.truth, target: None})


def test_metrics_of_two_classes_speak_of_the_positive_one() -> None:
    made = cases()
    truth = np.array([case.truth["V00COHORT"] == "1: Progression" for case in made])
    score = np.array([case.probabilities["V00COHORT"][0] for case in made])
    entry = target_metrics(made, COHORT, SETTINGS)
    expected = {
        "auc": reference.roc_auc_score(truth, score),
        "average_precision": reference.average_precision_score(truth, score),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, score > 0.5),
        "f1": reference.f1_score(truth, score > 0.5),
        "accuracy": reference.accuracy_score(truth, score > 0.5),
    }
    assert {name: entry[name]["value"] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert all(entry[name]["low"] < entry[name]["value"] < entry[name]["high"] for name in expected)
    assert entry["positive_class"] == "1: Progression"
    assert "per_class" not in entry
    assert entry["confusion"] == reference.confusion_matrix(~truth, score <= 0.5).tolist()
    other = target_metrics(made, replace(COHORT, positive_class=None), SETTINGS)
    assert other["positive_class"] == "3: Non-exposed control group"
    assert other["auc"]["value"] == pytest.approx(entry["auc"]["value"])  # the same pairs
    assert other["f1"]["value"] == pytest.approx(reference.f1_score(~truth, score <= 0.5))
    assert other["average_precision"]["value"] == pytest.approx(reference.average_precision_score(~truth, 1 - score))


def test_metrics_of_three_classes_are_means_and_each_class_has_its_own() -> None:
    made = cases()
    truth = np.array([GRADE.classes.index(case.truth["grade"]) for case in made])
    probabilities = np.array([case.probabilities["grade"] for case in made])
    predicted = probabilities.argmax(axis=1)
    entry = target_metrics(made, GRADE, SETTINGS)
    assert entry["auc"]["value"] == pytest.approx(reference.roc_auc_score(truth, probabilities, multi_class="ovr"))
    assert entry["average_precision"]["value"] == pytest.approx(reference.average_precision_score(truth, probabilities))
    assert entry["balanced_accuracy"]["value"] == pytest.approx(reference.balanced_accuracy_score(truth, predicted))
    assert entry["f1"]["value"] == pytest.approx(reference.f1_score(truth, predicted, average="macro"))
    assert entry["positive_class"] is None
    for index, name in enumerate(GRADE.classes):
        assert entry["per_class"][name]["auc"]["value"] == pytest.approx(reference.roc_auc_score(truth == index, probabilities[:, index]))
        expected = reference.f1_score(truth, predicted, labels=[index], average="macro")
        assert entry["per_class"][name]["f1"]["value"] == pytest.approx(expected)
    assert entry["cases_per_class"] == {"none": 20, "mild": 20, "severe": 20}


def test_missing_targets_are_masked_out_of_that_target_alone() -> None:
    made = cases()
    masked = [without(case, "grade") if index % 4 == 0 else case for index, case in enumerate(made)]
    entry = target_metrics(masked, GRADE, SETTINGS)
    assert (entry["n_cases"], entry["n_missing"]) == (45, 15)
    assert entry["auc"] == target_metrics([case for case in masked if case.truth["grade"]], GRADE, SETTINGS)["auc"]
    assert target_metrics(masked, COHORT, SETTINGS) == target_metrics(made, COHORT, SETTINGS)
    nothing = target_metrics([without(case, "grade") for case in made], GRADE, SETTINGS)
    assert nothing["auc"]["value"] is None
    assert nothing["auc"]["note"] == "undefined: no case has a value for this target"
    assert nothing["confusion"] == [[0, 0, 0]] * 3
    json.dumps(nothing, allow_nan=False)


def test_one_class_alone_is_undefined_and_says_so() -> None:
    alone = [case for case in cases() if case.truth["V00COHORT"] == "1: Progression"]
    entry = target_metrics(alone, COHORT, SETTINGS)
    for name in ("auc", "average_precision", "balanced_accuracy"):
        assert entry[name]["value"] is None
        assert entry[name]["note"] == "undefined: all cases are of class '1: Progression'"
    assert entry["accuracy"]["value"] is not None
    assert entry["absent_classes"] == ["3: Non-exposed control group"]


def test_a_class_without_a_case_is_left_out_of_the_mean_and_listed() -> None:
    made = [case for case in cases() if case.truth["grade"] != "severe"]
    truth = np.array([GRADE.classes.index(case.truth["grade"]) for case in made])
    probabilities = np.array([case.probabilities["grade"] for case in made])
    entry = target_metrics(made, GRADE, SETTINGS)
    expected = np.mean([reference.roc_auc_score(truth == index, probabilities[:, index]) for index in (0, 1)])
    assert entry["auc"]["value"] == pytest.approx(expected)
    assert entry["absent_classes"] == ["severe"]
    assert entry["per_class"]["severe"]["auc"]["note"] == "undefined: all cases are of class 'not severe'"
    assert entry["patients_per_class"]["severe"] == 0


def test_few_patients_of_a_class_get_no_interval_and_a_rare_class_is_stratified() -> None:
    few = cases(18)  # nine patients, each with a case of both classes
    entry = target_metrics(few, COHORT, SETTINGS)
    assert entry["auc"]["low"] is None
    assert entry["auc"]["note"] == (
        "no interval: 9 patients in class '1: Progression', 9 patients in class '3: Non-exposed control group'; 10 are needed"
    )
    assert entry["accuracy"]["note"] == "no interval: 9 patients with a score; 10 are needed"
    assert target_metrics(cases(58), COHORT, SETTINGS)["auc"]["stratified"] is True
    assert "stratified" not in target_metrics(cases(60), COHORT, SETTINGS)["auc"]


def test_files_hold_probabilities_under_class_names(tmp_path: Path) -> None:
    made = cases()
    made[1] = without(made[1], "grade")
    returned = write_classification_results(tmp_path, made, [COHORT, GRADE], SETTINGS)
    assert json.loads((tmp_path / "metrics.json").read_text()) == returned
    assert list(returned) == ["V00COHORT", "grade"]
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "case", "PatientID", "fold", "row",
        "V00COHORT_truth", "V00COHORT_predicted",
        "V00COHORT_probability_1: Progression", "V00COHORT_probability_3: Non-exposed control group",
        "grade_truth", "grade_predicted", "grade_probability_none", "grade_probability_mild", "grade_probability_severe",
    ]  # fmt: skip
    assert len(rows) == 60
    assert rows[0]["V00COHORT_truth"] == "1: Progression"
    assert float(rows[0]["V00COHORT_probability_1: Progression"]) == made[0].probabilities["V00COHORT"][0]
    assert rows[5]["grade_predicted"] == GRADE.classes[int(np.argmax(made[5].probabilities["grade"]))]
    assert rows[1]["grade_truth"] == ""


def test_what_does_not_fit_is_refused_by_name() -> None:
    made = cases(4)
    with pytest.raises(ValueError, match=r"case0: grade is 'worse'; the classes are \['none', 'mild', 'severe'\]"):
        target_metrics([replace(made[0], truth={"grade": "worse"}), *made[1:]], GRADE)
    with pytest.raises(ValueError, match=r"case0: probabilities of grade are \[0.5, 0.5\]; expected 3 numbers"):
        target_metrics([replace(made[0], probabilities={"grade": [0.5, 0.5]}), *made[1:]], GRADE)
    with pytest.raises(ValueError, match=r"case2: probabilities of grade are \[nan, 0, 1\]"):
        target_metrics([*made[:2], replace(made[2], probabilities={"grade": [np.nan, 0, 1]})], GRADE)
    with pytest.raises(ValueError, match=r"target 'a' has no class 'z', but \['x', 'y'\]"):
        Target("a", ("x", "y"), "z")
    with pytest.raises(ValueError, match="at least two that differ"):
        Target("a", ("x", "x"))
    with pytest.raises(ValueError, match="no cases"):
        write_classification_results(Path("nowhere"), [], [COHORT])
