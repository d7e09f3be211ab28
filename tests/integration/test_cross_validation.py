"""Cross-validation of both stages: every case tested once by a run that did not see it, one table, and going on where it stopped."""

import csv
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import small_stages
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fuse_examples.imaging.oai_example.configuration.classification_config import ClassificationConfig
from fuse_examples.imaging.oai_example.configuration.loading import load_config
from fuse_examples.imaging.oai_example.stages.classification_results import pool_results


def rows_of(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.open()))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine patients with two cases each, in folds 0 to 2."""
    table = small_stages.write_cases(tmp_path_factory.mktemp("scans"), 6)
    rows = rows_of(table)
    for number, row in enumerate(rows):
        row["PatientID"] = f"subject{number // 2:02d}"
        row["size"] = "large" if number // 2 % 2 else "small"
    return small_stages.write_table(table, rows)


def checkpoints_of(folder: Path, *folds: int) -> list[str]:
    return [str(folder / f"fold_{fold}" / "checkpoints" / "best.ckpt") for fold in folds]


FOLDS = {"train_folds": [0, 1, 2], "val_folds": [], "test_folds": []}


@pytest.fixture(scope="module")
def validated(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.run("classification", cases, tmp_path_factory.mktemp("results"), cross_validation=3, **FOLDS)


def test_each_case_is_tested_once_by_a_run_that_did_not_see_its_patient(validated: Path, cases: Path) -> None:
    patients = {row["fold"]: set() for row in rows_of(validated / "cases.csv")}
    for row in rows_of(validated / "cases.csv"):
        patients[row["fold"]].add(row["PatientID"])
    assert sorted(map(len, patients.values())) == [3, 3, 3]
    tested = []
    for fold in range(1, 4):
        config = yaml.safe_load((validated / f"fold_{fold}" / "config.yaml").read_text())
        used = [config["train_folds"], config["val_folds"], config["test_folds"]]
        assert [len(names) for names in used] == [1, 1, 1]
        assert sorted(name for names in used for name in names) == ["1", "2", "3"]
        found = rows_of(validated / f"fold_{fold}" / "test" / "predictions.csv")
        assert {row["PatientID"] for row in found} == patients[config["test_folds"][0]]
        tested += found
    pooled = rows_of(validated / "cross_validation" / "predictions.csv")
    assert [{key: row[key] for key in tested[0]} for row in pooled] == tested
    assert sorted(row["PatientID"] for row in pooled) == sorted(row["PatientID"] for row in rows_of(cases))


def test_one_table_with_the_folds_beside(validated: Path) -> None:
    pooled = rows_of(validated / "cross_validation" / "predictions.csv")
    entry = small_stages.read_json(validated / "cross_validation" / "metrics.json")["size"]
    positive = entry["positive_class"]
    truth = [row["size_truth"] == positive for row in pooled]
    assert entry["auc"]["value"] == pytest.approx(roc_auc_score(truth, [float(row[f"size_probability_{positive}"]) for row in pooled]))
    assert entry["accuracy"]["value"] == pytest.approx(np.mean([row["size_truth"] == row["size_predicted"] for row in pooled]))
    assert entry["n_patients"] == 9
    for fold in range(1, 4):
        own = small_stages.read_json(validated / f"fold_{fold}" / "test" / "metrics.json")["size"]
        name = yaml.safe_load((validated / f"fold_{fold}" / "config.yaml").read_text())["test_folds"][0]
        assert own["positive_class"] == positive
        assert entry["subgroups"]["fold"][name]["metrics"]["auc"]["value"] == own["auc"]["value"]
        assert entry["subgroups"]["fold"][name]["metrics"]["accuracy"]["value"] == own["accuracy"]["value"]
    assert "Pooled out-of-fold predictions of 3 runs" in (validated / "cross_validation" / "report.html").read_text()


def test_baselines_of_the_folds_stand_beside_the_pooled_score(validated: Path, cases: Path) -> None:
    """Each fitted by scikit-learn to the cases that its fold learnt from, scored once over all cases."""
    positive = small_stages.read_json(validated / "cross_validation" / "metrics.json")["size"]["positive_class"]
    everyone = rows_of(validated / "cases.csv")
    truth, majority, intensity, called = [], [], [], []
    for fold in range(1, 4):
        config = yaml.safe_load((validated / f"fold_{fold}" / "config.yaml").read_text())
        learnt = [row for row in everyone if row["fold"] in config["train_folds"]]
        tested = [row for row in everyone if row["fold"] in config["test_folds"]]
        labels = [row["size"] == positive for row in learnt]
        means = [[[nib.load(validated / row["path"]).get_fdata().mean()] for row in rows] for rows in (learnt, tested)]
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(means[0], labels)
        truth += [row["size"] == positive for row in tested]
        majority += [np.mean(labels)] * len(tested)
        intensity += model.predict_proba(means[1])[:, 1].tolist()
        own = rows_of(validated / f"fold_{fold}" / "test" / "baseline_predictions.csv")
        called += [row["size_mean intensity_predicted"] for row in own]
    assert len(truth) == 18
    pooled = rows_of(validated / "cross_validation" / "baseline_predictions.csv")
    assert [float(row[f"size_mean intensity_probability_{positive}"]) for row in pooled] == pytest.approx(intensity, abs=1e-3)
    entry = small_stages.read_json(validated / "cross_validation" / "metrics.json")["size"]
    assert set(entry["baselines"]) == {"majority class", "foreground volume", "mean intensity"}
    for name, probability in (("majority class", majority), ("mean intensity", intensity)):
        found = entry["baselines"][name]
        assert found["metrics"]["auc"]["value"] == pytest.approx(roc_auc_score(truth, probability))
        assert found["metrics"]["brier"]["value"] == pytest.approx(np.mean((np.array(probability) - truth) ** 2), abs=1e-3)
        assert found["difference"]["auc"]["value"] == pytest.approx(entry["auc"]["value"] - roc_auc_score(truth, probability))
    accuracy = entry["baselines"]["mean intensity"]["metrics"]["accuracy"]["value"]  # as each fold's own threshold called them
    assert accuracy == pytest.approx(np.mean([(name == positive) == true for name, true in zip(called, truth, strict=True)]))
    report = (validated / "cross_validation" / "report.html").read_text()
    assert "size beside simple predictors" in report


def test_folds_that_kept_no_baselines_are_pooled_without(validated: Path, tmp_path: Path) -> None:
    """Folds of an earlier version."""
    folders = [Path(shutil.copytree(validated / f"fold_{fold}", tmp_path / f"fold_{fold}")) / "test" for fold in (1, 2, 3)]
    config = load_config(ClassificationConfig, validated / "cross_validation" / "config.yaml")
    (folders[1] / "baseline_predictions.csv").unlink()
    pool_results(config, folders, tmp_path / "pooled")
    entry = small_stages.read_json(tmp_path / "pooled" / "metrics.json")["size"]
    assert "baselines" not in entry
    assert entry["n_patients"] == 9


def test_the_same_command_goes_on_where_it_stopped(validated: Path, cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (validated / "cross_validation" / "predictions.csv").read_text()
    first = (validated / "fold_1" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    shutil.rmtree(validated / "cross_validation")
    shutil.rmtree(validated / "fold_2" / "test")  # as if killed while it was tested
    shutil.rmtree(validated / "fold_3")  # and before this one began
    small_stages.run("classification", cases, validated.parent, cross_validation=3, **FOLDS)
    assert (validated / "cross_validation" / "predictions.csv").read_text() == before
    assert (validated / "fold_1" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == first
    assert "fold_1: trained and tested already" in capsys.readouterr().out


def test_other_settings_or_other_cases_are_refused(
    validated: Path, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {"cross_validation": 3, **FOLDS}
    assert small_stages.start("classification", cases, validated.parent, "learning_rate=0.5", **changed) == 2
    assert "learning_rate: 0.5 differs from 0.0003 of the run to be resumed" in capsys.readouterr().err
    assert small_stages.start("classification", cases, validated.parent, "n_epochs=2", **changed) == 2
    assert "n_epochs: 2 differs from 1 of the folds that are trained already" in capsys.readouterr().err
    rows = rows_of(cases)
    original = cases.read_text()
    try:
        small_stages.write_table(cases, rows[:-2])
        assert small_stages.start("classification", cases, validated.parent, **changed) == 2
    finally:
        cases.write_text(original)
    assert "the cases or their values are not those that" in capsys.readouterr().err
    word = f"test_ckpt={validated / 'fold_1' / 'checkpoints' / 'best.ckpt'}"
    assert small_stages.start("classification", cases, tmp_path / "results", word, cross_validation=3, **FOLDS | {"test_folds": [2]}) == 2
    assert "cross_validation and test_ckpt are both set" in capsys.readouterr().err
    two = {"train_folds": [0], "val_folds": [1], "test_folds": []}
    assert small_stages.start("classification", cases, tmp_path / "results", cross_validation="folds", **two) == 2
    assert "train_folds and val_folds name 2 fold(s)" in capsys.readouterr().err


def test_segmentation_by_the_folds_of_the_table(cases: Path, tmp_path: Path) -> None:
    folder = small_stages.run("segmentation", cases, tmp_path / "results", cross_validation="folds", **FOLDS)
    metrics = small_stages.read_json(folder / "cross_validation" / "metrics.json")
    pooled = rows_of(folder / "cross_validation" / "predictions.csv")
    assert len(pooled) == 18
    assert metrics["dice"]["mean"]["value"] == pytest.approx(np.mean([float(row["dice_mean"]) for row in pooled]))
    for fold in range(3):
        own = small_stages.read_json(folder / f"fold_{fold + 1}" / "test" / "metrics.json")
        assert metrics["subgroups"]["fold"][str(fold)]["metrics"]["dice"]["mean"]["value"] == own["dice"]["mean"]["value"]
    assert all((folder / "cross_validation" / row["mask"]).is_file() for row in pooled)
    ckpt = [*checkpoints_of(folder, 1), str(shutil.copy(checkpoints_of(folder, 1)[0], tmp_path / "again.ckpt"))]
    settings = {"train_folds": [1], "val_folds": [2], "test_folds": [0]}
    twice = small_stages.run("segmentation", cases, tmp_path / "results", experiment="twice", test_ckpt=ckpt, **settings)
    alone = rows_of(folder / "fold_1" / "test" / "predictions.csv")  # a network and its copy predict what it does alone
    assert [row["dice_mean"] for row in rows_of(twice / "test" / "predictions.csv")] == [row["dice_mean"] for row in alone]


def test_several_checkpoints_are_averaged(validated: Path, cases: Path, tmp_path: Path) -> None:
    """Over probabilities, with the mean of their thresholds; with the folds of the original table, whose patients they have seen."""
    found = {}
    for name, folds in {"one": (1,), "two": (2,), "both": (1, 2)}.items():
        ckpt = checkpoints_of(validated, *folds)
        settings = {"test_ckpt": ckpt if len(ckpt) > 1 else ckpt[0], "allow_pretraining_overlap": True, "experiment": name}
        found[name] = small_stages.run("classification", cases, tmp_path / "results", **settings) / "test"
    column = "size_probability_large"
    one, two, both = ([float(row[column]) for row in rows_of(found[name] / "predictions.csv")] for name in ("one", "two", "both"))
    assert one != two
    assert both == pytest.approx(np.mean([one, two], axis=0).tolist())
    entries = [small_stages.read_json(found[name] / "metrics.json")["size"] for name in ("one", "two", "both")]
    thresholds = [entry["threshold"]["value"] for entry in entries if "threshold" in entry]
    assert len(thresholds) < 3 or thresholds[2] == pytest.approx(np.mean(thresholds[:2]))
    volumes = [entry["baselines"]["foreground volume"]["metrics"]["brier"]["value"] for entry in entries]
    assert volumes[2] <= max(volumes[:2])  # the squared error is convex
    assert "mean of the probabilities of 2 checkpoints" in (found["both"] / "log.txt").read_text()
    assert all(name in (found["both"] / "report.html").read_text() for name in checkpoints_of(validated, 1, 2))


def test_checkpoints_that_differ_in_what_prediction_repeats_are_refused(
    validated: Path, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = small_stages.run("classification", cases, tmp_path / "other", resize_to=[16, 24, 16], positive_class={"size": "large"})
    ckpt = [*checkpoints_of(validated, 1), str(other / "checkpoints" / "best.ckpt")]
    assert small_stages.start("classification", cases, tmp_path / "results", test_ckpt=ckpt, allow_pretraining_overlap=True) == 2
    message = capsys.readouterr().err
    assert f"test_ckpt: {ckpt[0]} and {ckpt[1]} cannot be averaged, they differ in resize_to: [16, 16, 16] and [16, 24, 16]" in message
    assert message.endswith("Test them apart.\n")
    missing = [ckpt[0], str(tmp_path / "none.ckpt")]
    assert small_stages.start("classification", cases, tmp_path / "results", test_ckpt=missing) == 2
    assert f"test_ckpt: no such file: '{tmp_path / 'none.ckpt'}'" in capsys.readouterr().err
    assert small_stages.start("dino", cases, tmp_path / "results", test_ckpt=ckpt) == 2
    assert "test_ckpt is a list; pre-training is tested one checkpoint at a time" in capsys.readouterr().err
