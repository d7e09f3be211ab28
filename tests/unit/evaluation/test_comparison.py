import json
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as reference

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.evaluation.classification_results import write_classification_results
from fuse_examples.imaging.oai_example.evaluation.classified_cases import ClassifiedCase, Target, read_classified
from fuse_examples.imaging.oai_example.evaluation.comparison import compare_runs, holm, read_tested_run
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.segmentation_results import CasePrediction, write_segmentation_results

TARGET = Target("diagnosis", ("ill", "well"), "ill")
GRADE = Target("grade", ("a", "b", "c"))
SETTINGS = Bootstrap(200)


def classified(skill: float, n: int = 80, seed: int = 0) -> list[ClassifiedCase]:
    generator = np.random.default_rng(seed)
    made = []
    for index in range(n):
        score = 1 / (1 + np.exp(-(generator.normal() + skill * (1 if index % 2 == 0 else -1))))
        grade = generator.dirichlet(1 + skill * (np.arange(3) == index % 3))
        truth = {"diagnosis": TARGET.classes[index % 2], "grade": GRADE.classes[index % 3] if index % 7 else None}
        made.append(ClassifiedCase(f"c{index}", f"p{index // 2}", "4", index + 2, truth, {"diagnosis": [score, 1 - score], "grade": grade}))
    return made


def write(folder: Path, cases: list[ClassifiedCase]) -> Path:
    write_classification_results(folder / "test", cases, [TARGET, GRADE], SETTINGS)
    return folder


def segmented(quality: float, n: int = 30) -> list[CasePrediction]:
    generator = np.random.default_rng(1)
    made = []
    for index in range(n):
        scores = {"dice": {"bone": quality + 0.1 * generator.random(), "disc": float("nan") if index == 3 else generator.random()}}
        made.append(CasePrediction(f"c{index}", f"p{index}", "4", index + 2, scores, {"bone": (2.5 + index, 1.0), "disc": (0.5, 1.0)}))
    return made


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    cases = classified(1.0)
    write(tmp_path, cases)
    back, targets = read_classified(tmp_path / "test")
    assert targets == [TARGET, GRADE]
    assert [(case.name, case.patient, case.fold, case.row, case.truth) for case in back] == [
        (case.name, case.patient, case.fold, case.row, case.truth) for case in cases
    ]
    assert all(
        list(one.probabilities[name]) == list(two.probabilities[name])
        for one, two in zip(back, cases, strict=True)
        for name in ("diagnosis", "grade")
    )


def test_difference_is_that_of_the_scores_and_rows_may_stand_in_any_order(tmp_path: Path) -> None:
    weak, strong = classified(0.2), classified(1.5, seed=1)
    runs = [write(tmp_path / "weak", weak), write(tmp_path / "strong", strong[::-1])]
    (line, grade) = compare_runs([read_tested_run(run) for run in runs])
    truth = np.array([case.truth["diagnosis"] == "ill" for case in weak])
    aucs = [reference.roc_auc_score(truth, [case.probabilities["diagnosis"][0] for case in cases]) for cases in (weak, strong)]
    assert line.values == pytest.approx(tuple(aucs))
    assert line.difference.estimate.value == pytest.approx(aucs[1] - aucs[0])
    assert 0 < line.difference.estimate.low < aucs[1] - aucs[0] < line.difference.estimate.high
    assert (line.metric, grade.metric) == ("auc of diagnosis", "auc of grade")
    assert line.difference.p_value == pytest.approx(1 / 201)
    assert line.holm == pytest.approx(2 / 201)
    entry = line.as_dict()
    assert (entry["first"], entry["second"]) == (str(runs[0]), str(runs[1]))
    assert entry["difference"] == line.difference.estimate.value


def test_a_run_does_not_differ_from_itself(tmp_path: Path) -> None:
    run = read_tested_run(write(tmp_path, classified(1.0)))
    for line in compare_runs([run, run], ["auc", "f1 of diagnosis"]):
        assert (line.difference.estimate.value, line.difference.p_value, line.holm) == (0.0, 1.0, 1.0)


def test_segmentations_are_compared_per_structure(tmp_path: Path) -> None:
    for name, quality in (("one", 0.5), ("two", 0.8)):
        write_segmentation_results(tmp_path / name / "test", segmented(quality), ("bone", "disc"), SETTINGS)
    lines = compare_runs([read_tested_run(tmp_path / "one"), read_tested_run(tmp_path / "two")])
    assert [line.metric for line in lines] == ["dice of mean", "dice of bone", "dice of disc"]
    assert lines[1].difference.estimate.value == pytest.approx(0.3)
    assert lines[2].difference.estimate.value == 0


def test_holm_is_the_closed_test_of_bonferroni() -> None:
    p_values = [0.01, 0.04, 0.03, 0.005, 0.9]

    def closed(index: int) -> float:  # rejected where every intersection that holds it is rejected by Bonferroni
        others = [other for other in range(len(p_values)) if other != index]
        return max(
            min(1.0, (size + 1) * min(p_values[index], *(p_values[other] for other in some), 1.0))
            for size in range(len(others) + 1)
            for some in combinations(others, size)
        )

    assert holm(p_values) == pytest.approx([closed(index) for index in range(len(p_values))])
    assert holm([0.5, None, 0.01]) == [0.5, None, 0.02]


def test_other_patients_and_other_truths_are_refused_by_name(tmp_path: Path) -> None:
    cases = classified(1.0)
    changed = replace(cases[5], truth={"diagnosis": "ill", "grade": None})
    runs = [write(tmp_path / "a", cases), write(tmp_path / "b", [*cases[:5], changed, *cases[6:-1]])]
    with pytest.raises(DataError) as error:
        compare_runs([read_tested_run(run) for run in runs])
    one, two, remedy = error.value.problems
    assert one == f"{runs[0]} tests 1 case(s) that {runs[1]} does not: p39 (c79)."
    truths = "diagnosis well, grade c and diagnosis ill, grade nothing"
    assert two == f"{runs[0]} and {runs[1]} differ in the truth of 1 case(s): p2 (c5) ({truths})."
    assert remedy.startswith("Runs can be compared on the same patients with the same truth only")


def test_another_mask_is_another_truth(tmp_path: Path) -> None:
    cases = segmented(0.5)
    write_segmentation_results(tmp_path / "a" / "test", cases, ("bone", "disc"), SETTINGS)
    cases[2] = replace(cases[2], volumes_ml={"bone": (9.5, 1.0), "disc": (0.5, 1.0)})
    write_segmentation_results(tmp_path / "b" / "test", cases, ("bone", "disc"), SETTINGS)
    with pytest.raises(DataError, match=r"differ in the truth of 1 case\(s\): p2 \(c2\) \(bone 4.5, disc 0.5 and bone 9.5, disc 0.5\)"):
        compare_runs([read_tested_run(tmp_path / "a"), read_tested_run(tmp_path / "b")])


def test_what_cannot_be_compared_says_what_to_do(tmp_path: Path) -> None:
    run = read_tested_run(write(tmp_path / "a", classified(1.0)))
    with pytest.raises(DataError, match=r"has no metric dice; it has auc of diagnosis, "):
        compare_runs([run, run], ["dice"])
    with pytest.raises(DataError, match=r"no such folder. Give the folder of an experiment that was tested"):
        read_tested_run(tmp_path / "b")
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match=r"has no test/predictions.csv with its metrics.json. Test the run first"):
        read_tested_run(tmp_path / "b")
    (tmp_path / "a" / "test" / "predictions.csv").write_text("case,PatientID\n")
    with pytest.raises(DataError, match=r"lacks the columns fold, row, diagnosis_truth"):
        read_tested_run(tmp_path / "a")


def test_the_command_prints_a_table_and_writes_two_files(tmp_path: Path) -> None:
    runs = [str(write(tmp_path / name, classified(skill))) for name, skill in (("weak", 0.2), ("strong", 1.5))]
    command = [sys.executable, "-m", "fuse_examples.imaging.oai_example.evaluation.compare"]
    done = subprocess.run([*command, *runs, "--resamples", "99", "--output", str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    written = json.loads((tmp_path / "compare.json").read_text())
    found = written["comparisons"][0]
    assert f"{found['difference']:+.3f}" in done.stdout
    assert "80 cases of 40 patients, 99 resamples of patients" in done.stdout
    assert (tmp_path / "compare.csv").read_text().startswith("metric,first,second,first_value,second_value,difference,low,high,")
    assert written["bootstrap"]["n_resamples"] == 99
    refused = subprocess.run([*command, runs[0], str(tmp_path / "none")], capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"{tmp_path / 'none'}: no such folder")
