import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from fuse_examples.imaging.oai_example.evaluation.classification_report import write_classification_report
from fuse_examples.imaging.oai_example.evaluation.classification_results import write_classification_results
from fuse_examples.imaging.oai_example.evaluation.classified_cases import ClassifiedCase, ContinuousTarget, Target, read_classified
from fuse_examples.imaging.oai_example.evaluation.learning_curves import Curve, CurvePlot
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.run_facts import RunFacts

COHORT = Target("V00COHORT", ("1: Progression", "<control>"), "1: Progression")
GRADE = Target("KL grade/side", ("none", "mild", "severe"))


def cases(n: int = 60) -> list[ClassifiedCase]:
    generator = np.random.default_rng(0)
    made = []
    for index in range(n):
        truth = {COHORT.name: COHORT.classes[index % 2], GRADE.name: GRADE.classes[index % 3] if index % 5 else None}
        probabilities = {
            COHORT.name: generator.dirichlet((3, 1.5) if index % 2 == 0 else (1.5, 3)),
            GRADE.name: generator.dirichlet(1 + 2 * (np.arange(3) == index % 3)),
        }
        made.append(ClassifiedCase(f"case{index}", f"p{index // 2}", "4", index + 2, truth, probabilities))
    return made


def written(folder: Path, made: list[ClassifiedCase]) -> tuple[dict, str, list[list[str]]]:
    metrics = write_classification_results(folder, made, [COHORT, GRADE], Bootstrap(100))
    run = RunFacts("cohort", curves=[CurvePlot("Loss", {"validation": Curve([1, 2], [1.0, 0.5])}), CurvePlot("Nothing", {})])
    html = write_classification_report(folder, run, made, [COHORT, GRADE], metrics).read_text()
    rows = [[unescape(cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in re.findall(r"<tr>(.*?)</tr>", html)]
    return metrics, html, rows


def test_every_figure_is_the_one_of_metrics_json(tmp_path: Path) -> None:
    metrics, html, rows = written(tmp_path, cases())
    names = {
        "AUC": "auc",
        "average precision": "average_precision",
        "balanced accuracy": "balanced_accuracy",
        "F1": "f1",
        "accuracy": "accuracy",
        "Brier score": "brier",
        "calibration error": "calibration_error",
    }
    for target in (COHORT, GRADE):
        for readable, name in names.items():
            entry = metrics[target.name][name]
            interval = f"{entry['low']:.3f} to {entry['high']:.3f}"
            assert [readable, f"{entry['value']:.3f}", interval, str(entry["n_cases"]), str(entry["n_patients"])] in rows
    for name, own in metrics[GRADE.name]["per_class"].items():
        row = next(row for row in rows if row[0] == name)
        assert row[1:3] == [str(metrics[GRADE.name][f"{what}_per_class"][name]) for what in ("cases", "patients")]
        expected = [
            f"{own[what]['value']:.3f} ({own[what]['low']:.3f} to {own[what]['high']:.3f})" for what in ("auc", "average_precision", "f1")
        ]
        assert row[3:] == expected
    entry = metrics[COHORT.name]["auc"]
    assert f"V00COHORT: AUC {entry['value']:.3f} (95 % confidence interval {entry['low']:.3f} to {entry['high']:.3f})" in html
    result = html[html.index(">Result</h2>") : html.index(">What was run</h2>")]
    assert result.count("AUC: chance that of two cases, one of the class and one not") == 1  # what it is stands beside it, once
    counts = metrics[COHORT.name]["confusion"]
    of_class, called = sum(counts[0]), counts[0][0] + counts[1][0]
    assert ["sensitivity", "of 1: Progression, called so", f"{counts[0][0]} of {of_class} ({counts[0][0] / of_class:.1%})"] in rows
    assert ["specificity", "of <control>, called so", f"{counts[1][1]} of 30 ({counts[1][1] / 30:.1%})"] in rows
    value = f"{counts[0][0]} of {called} ({counts[0][0] / called:.1%})"
    assert ["positive predictive value", "of called 1: Progression, in truth so", value] in rows
    assert [row[0] for row in rows].count("sensitivity") == 1  # of two classes only
    assert f"1: Progression (AUC {entry['value']:.3f})" in html  # the legend of the plot, in its description
    assert "12 cases have no value for this target" in html
    assert "Positive class: 1: Progression." in html
    assert "&lt;control&gt;" in html
    assert "<control>" not in html


def test_plots_are_files_of_their_own_under_safe_names(tmp_path: Path) -> None:
    _, html, _ = written(tmp_path, cases())
    kinds = ("roc", "precision_recall", "calibration", "confusion")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        ["metrics.json", "predictions.csv", "report.html"]
        + [f"{kind}_{name}.png" for kind in kinds for name in ("V00COHORT", "KL_grade_side")]
    )
    assert html.count("data:image/png") == 9
    assert "Loss over epochs; at the end validation 0.5 at epoch 2" in html


@pytest.mark.parametrize("kind", ["one class", "no truth"])
def test_degenerate_truth_gives_a_report_that_says_so(tmp_path: Path, kind: str) -> None:
    made = cases()
    if kind == "one class":
        made = [case for case in made if case.truth[COHORT.name] == "1: Progression"]
    else:
        made = [replace(case, truth={**case.truth, COHORT.name: None}) for case in made]
    _, html, rows = written(tmp_path, made)
    assert ["AUC", "–", "–"] in [row[:3] for row in rows]
    text = unescape(html)
    assert (
        "undefined: all cases are of class '1: Progression'." if kind == "one class" else "no case has a value for this target."
    ) in text
    assert not (tmp_path / "roc_V00COHORT.png").exists()
    assert (tmp_path / "confusion_V00COHORT.png").exists() == (kind == "one class")


def test_grades_and_numbers_have_their_own_metrics_and_pictures(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    grade, age = Target("KL", ("0", "1", "2"), ordinal=True), ContinuousTarget("age")
    made = []
    for index in range(60):
        truth = {"KL": str(index % 3), "age": str(40 + index)}
        probabilities = {"KL": generator.dirichlet(1 + 2 * (np.arange(3) == index % 3))}
        values = {"age": 40 + index + generator.normal()}
        made.append(ClassifiedCase(f"c{index}", f"p{index}", "4", index + 2, truth, probabilities, values, {"sex": "FM"[index % 2]}))
    metrics = write_classification_results(tmp_path, made, [grade, age], Bootstrap(100))
    html = write_classification_report(tmp_path, RunFacts("x"), made, [grade, age], metrics).read_text()
    for name, what, readable in (("KL", "quadratic_kappa", "quadratic kappa"), ("age", "mae", "mean absolute error")):
        entry = metrics[name][what]
        assert f"{name}: {readable} {entry['value']:.3f} (95 % confidence interval {entry['low']:.3f} to {entry['high']:.3f})" in html
    assert (tmp_path / "scatter_age.png").exists()
    assert (tmp_path / "confusion_KL.png").exists()
    assert "age in subgroups" in html
    assert "Grades: 0, 1, 2." in html
    assert "the highest grade that is reached with a probability above one half" in unescape(html)
    back, targets = read_classified(tmp_path)
    assert targets == [grade, age]
    assert [(case.values, case.groups) for case in back] == [(case.values, case.groups) for case in made]
    unknown = [replace(case, truth={"KL": None, "age": None}) for case in made]
    nothing = write_classification_results(tmp_path, unknown, [grade, age], Bootstrap(100))
    write_classification_report(tmp_path, RunFacts("x"), unknown, [grade, age], nothing)
    assert {nothing["age"][name]["note"] for name in ("mae", "r2", "spearman")} == {"undefined: no case has a value for this target"}
