import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.evaluation.classification_report import write_classification_report
from fuse_examples.imaging.oai_example.evaluation.classification_results import write_classification_results
from fuse_examples.imaging.oai_example.evaluation.classified_cases import ClassifiedCase, Target
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.run_facts import RunFacts
from fuse_examples.imaging.oai_example.evaluation.segmentation_report import write_segmentation_report
from fuse_examples.imaging.oai_example.evaluation.segmentation_results import CasePrediction, write_segmentation_results
from fuse_examples.imaging.oai_example.evaluation.subgroups import group_members

TARGET = Target("diagnosis", ("ill", "well"), "ill")
SETTINGS = Bootstrap(100)


def classified(n: int = 90) -> list[ClassifiedCase]:
    generator = np.random.default_rng(0)
    made = []
    for index in range(n):
        score = 1 / (1 + np.exp(-(generator.normal() + (1 if index % 2 == 0 else -1))))
        groups = {"sex": ("F", "M", None)[index % 3], "fold": "4"}
        truth, probabilities = {"diagnosis": TARGET.classes[index % 2]}, {"diagnosis": [score, 1 - score]}
        made.append(ClassifiedCase(f"c{index}", f"p{index}", "4", index + 2, truth, probabilities, groups=groups))
    return made


def test_each_group_has_the_metrics_of_its_own_cases(tmp_path: Path) -> None:
    cases = classified()
    entry = write_classification_results(tmp_path, cases, [TARGET], SETTINGS)["diagnosis"]
    assert json.loads((tmp_path / "metrics.json").read_text())["diagnosis"]["subgroups"] == entry["subgroups"]
    assert list(entry["subgroups"]) == ["sex", "fold"]
    assert list(entry["subgroups"]["sex"]) == ["(empty)", "F", "M"]
    for value, wanted in (("F", "F"), ("(empty)", None)):
        members = [case for case in cases if case.groups["sex"] == wanted]
        group = entry["subgroups"]["sex"][value]
        truth = [case.truth["diagnosis"] == "ill" for case in members]
        scores = [case.probabilities["diagnosis"][0] for case in members]
        assert (group["n_cases"], group["n_patients"]) == (30, 30)
        assert group["metrics"]["auc"]["value"] == pytest.approx(roc_auc_score(truth, scores))
        assert group["metrics"]["auc"]["low"] < group["metrics"]["auc"]["value"] < group["metrics"]["auc"]["high"]
    assert entry["subgroups"]["fold"]["4"]["metrics"]["auc"] == entry["auc"]
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:6] == ["case", "PatientID", "fold", "row", "sex", "diagnosis_truth"]
    assert [row["sex"] for row in rows[:3]] == ["F", "M", ""]
    html = write_classification_report(tmp_path, RunFacts("x"), cases, [TARGET], {"diagnosis": entry}).read_text()
    found = entry["subgroups"]["sex"]["M"]["metrics"]["auc"]
    assert "diagnosis in subgroups" in html
    assert f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})" in html


def test_structures_in_subgroups(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    cases = [
        CasePrediction(
            f"c{index}", f"p{index}", "4", index + 2, {"dice": {"bone": generator.random()}}, {"bone": (1.0, 2.0)},
            groups={"site": "AB"[index % 2]},
        )
        for index in range(30)
    ]  # fmt: skip
    metrics = write_segmentation_results(tmp_path, cases, ["bone"], SETTINGS)
    expected = np.mean([case.scores["dice"]["bone"] for case in cases[::2]])
    assert metrics["subgroups"]["site"]["A"]["metrics"]["dice"]["bone"]["value"] == pytest.approx(expected)
    assert metrics["subgroups"]["site"]["A"]["n_patients"] == 15
    with open(tmp_path / "predictions.csv", newline="") as file:
        assert [row["site"] for row in csv.DictReader(file)][:3] == ["A", "B", "A"]
    html = write_segmentation_report(tmp_path, RunFacts("x"), cases, metrics, {}).read_text()
    assert "Mean Dice in subgroups" in html
    alone = write_segmentation_results(tmp_path, [replace(case, groups={}) for case in cases], ["bone"], SETTINGS)
    assert "subgroups" not in alone


def test_a_column_of_many_values_is_no_grouping() -> None:
    cases = [replace(case, groups={"age": str(40 + index)}) for index, case in enumerate(classified(30))]
    with pytest.raises(DataError, match=r"report_by: age has 30 different values in the test cases \(40, 41, 42, 43, 44, ...\)"):
        group_members(cases, "age")
