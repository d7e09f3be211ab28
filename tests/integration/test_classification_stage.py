"""Classification from the configuration to predictions and metrics."""

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
import small_stages
import torch
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint

TARGETS = ["size", "tone", "grade"]


def rows_of(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.open()))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three targets: size of the ball, its brightness with every third cell empty, and a grade of three classes."""
    table = small_stages.write_cases(tmp_path_factory.mktemp("scans"), 8)
    rows = rows_of(table)
    for number, row in enumerate(rows):
        row["tone"] = "" if number % 3 == 0 else row["tone"]
        row["grade"] = ("mild", "severe", "none", "mild")[number % 4]
    return small_stages.write_table(table, rows)


@pytest.fixture(scope="module")
def trained(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("results")
    return small_stages.run(
        "classification",
        cases,
        results,
        cls_targets=TARGETS,
        n_epochs=6,
        width=4,
        learning_rate=3e-3,
        log_images_every_n_epochs=3,
        positive_class={"size": "large"},
    )


@pytest.fixture(scope="module")
def tested(trained: Path, cases: Path) -> Path:
    word = f"test_ckpt={trained / 'checkpoints' / 'best.ckpt'}"
    return (
        small_stages.run(
            "classification",
            cases,
            trained.parent,
            word,
            "positive_class={size: large}",
            "report_by=[fold, tone]",
            cls_targets=TARGETS,
            explain="gradcam",
            explain_cases=2,
        )
        / "test"
    )


def test_classes_and_positive_classes_are_told_and_kept(trained: Path) -> None:
    log = (trained / "log.txt").read_text()
    assert "size: training cases per class: 'large' 4, 'small' 4; positive class: 'large'" in log
    assert "tone: training cases per class: 'bright' 3, 'dark' 2; positive class: 'dark'" in log  # the rarer one
    assert "grade: training cases per class: 'mild' 4, 'none' 2, 'severe' 2\n" in log
    classes = read_checkpoint(trained / "checkpoints" / "best.ckpt", "")["project"]["classes"]
    assert [(one["target"], one["classes"], one["positive"]) for one in classes] == [
        ("size", ["large", "small"], "large"),
        ("tone", ["bright", "dark"], "dark"),
        ("grade", ["mild", "none", "severe"], None),
    ]


def test_predictions_are_a_row_per_case_with_names_and_probabilities(tested: Path, cases: Path) -> None:
    rows, table = rows_of(tested / "predictions.csv"), [row for row in rows_of(cases) if row["fold"] == "2"]
    assert [row["PatientID"] for row in rows] == [row["PatientID"] for row in table]
    for row, truth in zip(rows, table, strict=True):
        for target, classes in (("size", ["large", "small"]), ("tone", ["bright", "dark"]), ("grade", ["mild", "none", "severe"])):
            probabilities = [float(value) for name, value in row.items() if name.startswith(f"{target}_probability")]
            assert len(probabilities) == len(classes)
            assert sum(probabilities) == pytest.approx(1, abs=1e-5)
            if target == "grade":
                assert row[f"{target}_predicted"] == classes[int(np.argmax(probabilities))]
            assert row[f"{target}_truth"] == truth[target]


def test_the_threshold_of_validation_decides_in_the_test(tested: Path, trained: Path) -> None:
    thresholds = read_checkpoint(trained / "checkpoints" / "best.ckpt", "")["thresholds"]
    assert set(thresholds) <= {"size", "tone"}
    assert "size" in thresholds
    entry = small_stages.read_json(tested / "metrics.json")["size"]
    assert entry["threshold"]["value"] == thresholds["size"]
    for row in rows_of(tested / "predictions.csv"):
        called = float(row["size_probability_large"]) >= thresholds["size"]
        assert row["size_predicted"] == ("large" if called else "small")


def test_metrics_are_scikit_learns_on_the_table_and_empty_cells_do_not_count(tested: Path) -> None:
    rows, metrics = rows_of(tested / "predictions.csv"), small_stages.read_json(tested / "metrics.json")
    for target, positive in (("size", "large"), ("tone", "dark")):
        known = [row for row in rows if row[f"{target}_truth"]]
        truth = np.array([row[f"{target}_truth"] == positive for row in known])
        score = np.array([float(row[f"{target}_probability_{positive}"]) for row in known])
        predicted = np.array([row[f"{target}_predicted"] == positive for row in known])
        found = metrics[target]
        assert found["positive_class"] == positive
        assert found["n_cases"] == len(known) == (8 if target == "size" else 6)
        assert found["auc"]["value"] == pytest.approx(roc_auc_score(truth, score))
        assert found["average_precision"]["value"] == pytest.approx(average_precision_score(truth, score))
        assert found["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(truth, predicted))
        assert found["f1"]["value"] == pytest.approx(f1_score(truth, predicted, zero_division=0))
        assert {"low", "high"} <= set(found["auc"])
    names = ["mild", "none", "severe"]
    truth = [names.index(row["grade_truth"]) for row in rows]
    scores = np.array([[float(row[f"grade_probability_{name}"]) for name in names] for row in rows])
    assert metrics["grade"]["auc"]["value"] == pytest.approx(roc_auc_score(truth, scores, multi_class="ovr", average="macro"), abs=1e-6)


def test_metrics_are_given_by_the_columns_of_report_by(tested: Path) -> None:
    metrics = small_stages.read_json(tested / "metrics.json")["size"]
    assert metrics["subgroups"]["fold"]["2"]["metrics"]["auc"] == metrics["auc"]
    assert {value: group["n_cases"] for value, group in metrics["subgroups"]["tone"].items()} == {"(empty)": 2, "bright": 3, "dark": 3}


def test_the_report_shows_how_it_learnt_and_where_it_looked(tested: Path, trained: Path, cases: Path) -> None:
    report = (tested / "report.html").read_text()
    history = rows_of(trained / "history.csv")
    assert len(history) == 6
    assert f"training {float(history[-1]['train/loss']):.3g} at epoch 6" in report
    assert '<th scope="row">training</th><td>0</td><td>8</td><td>8</td>' in report
    assert '<th scope="row">test</th><td>2</td><td>8</td><td>8</td>' in report
    best = small_stages.read_json(trained / "val_metrics.json")["epoch"]
    assert f"6 epochs, seed 0; the checkpoint is of epoch {best}" in report
    maps = sorted((tested / "explanations").iterdir())
    assert len(maps) == 2 * len(TARGETS)
    scans = {row["PatientID"]: cases.parent / row["path"] for row in rows_of(cases)}
    for path in maps:
        name, _, target = path.name.removesuffix(".nii.gz").rpartition("_")
        found, scan = nibabel.load(path), nibabel.load(scans[name])
        assert found.shape == scan.shape
        assert np.allclose(found.affine, scan.affine)
        assert np.isfinite(found.get_fdata()).all()
        assert found.get_fdata().min() >= 0
        assert f"Where the network looked: {target}" in report
        assert f"<h3>{name}: " in report


def test_every_metric_of_the_report_is_that_of_metrics_json(tested: Path) -> None:
    report, metrics = (tested / "report.html").read_text(), small_stages.read_json(tested / "metrics.json")
    for target in TARGETS:
        for name, readable in (("auc", "AUC"), ("average_precision", "average precision"), ("brier", "Brier score")):
            entry = metrics[target][name]
            ends = "–" if entry["low"] is None else f"{entry['low']:.3f} to {entry['high']:.3f}"
            cells = [f"{entry['value']:.3f}", ends, str(entry["n_cases"]), str(entry["n_patients"])]
            assert f'<th scope="row">{readable}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) in report


def test_curves_and_the_best_epoch(trained: Path) -> None:
    events = EventAccumulator(str(trained), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train/loss", "val/loss", "val/auc", "val/auc/size", "val/auc/tone", "val/auc/grade"} <= tags
    assert events.Tags()["images"] == ["train/view"]
    assert [event.step for event in events.Images("train/view")] == [0, 12]
    curves = [[event.value for event in events.Scalars(f"val/auc/{target}")] for target in TARGETS]
    mean = np.mean(curves, axis=0)
    np.testing.assert_allclose([event.value for event in events.Scalars("val/auc")], mean, atol=1e-6)
    best = small_stages.read_json(trained / "val_metrics.json")
    assert (best["monitor"], best["epoch"]) == ("val/auc", int(np.argmax(mean.round(6))) + 1)
    assert read_checkpoint(trained / "checkpoints" / "best.ckpt", "")["epoch"] + 1 == best["epoch"]


@pytest.mark.parametrize(("fold", "folds"), [("1", "the validation folds"), ("2", "the test folds")])
def test_a_class_that_is_new_is_an_error_that_lists_it(
    fold: str, folds: str, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**row, "path": str(cases.parent / row["path"])} for row in rows_of(cases)]
    changed = next(number for number, row in enumerate(rows) if row["fold"] == fold)
    rows[changed]["size"] = "larg"
    table = small_stages.write_table(tmp_path / "new.csv", rows)
    assert small_stages.start("classification", table, tmp_path / "results") == 2
    assert capsys.readouterr().err == (
        f"{table}:{changed + 2}: size is 'larg' in 1 row(s) of {folds}, but the training folds hold only 'large', 'small'. "
        "Did you mean 'large'? Correct or empty the cell, or move the rows.\n"
    )


def test_a_class_new_to_the_checkpoint_is_an_error_in_testing(
    trained: Path, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {**row, "path": str(cases.parent / row["path"]), "size": "huge" if row["fold"] == "2" else row["size"]} for row in rows_of(cases)
    ]
    table = small_stages.write_table(tmp_path / "new.csv", rows)
    word = f"test_ckpt={trained / 'checkpoints' / 'best.ckpt'}"
    assert small_stages.start("classification", table, tmp_path / "results", word, cls_targets=TARGETS) == 2
    assert "size is 'huge' in 8 row(s) of the test folds, but the training folds hold only 'large', 'small'" in capsys.readouterr().err


def test_a_class_missing_from_training_and_a_column_that_is_not_there(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {**row, "path": str(cases.parent / row["path"]), "size": "large" if row["fold"] == "0" else row["size"]} for row in rows_of(cases)
    ]
    table = small_stages.write_table(tmp_path / "one.csv", rows)
    assert small_stages.start("classification", table, tmp_path / "results") == 2
    assert "size: the training folds hold only 'large', and a classifier needs two classes" in capsys.readouterr().err
    assert small_stages.start("classification", cases, tmp_path / "results", cls_targets=["sise"]) == 2
    assert "sise" in capsys.readouterr().err


def test_a_frozen_backbone_stays_as_it_is_and_the_heads_learn(cases: Path, tmp_path: Path) -> None:
    pretrained = small_stages.run("dino", cases, tmp_path)
    word = f"dino_weights={pretrained / 'backbone.safetensors'}"
    folder = small_stages.run("classification", cases, tmp_path, word, freeze_backbone=True, n_epochs=2, learning_rate=1e-2)
    state = read_checkpoint(folder / "checkpoints" / "last.ckpt", "")["state_dict"]
    teacher = read_checkpoint(pretrained / "checkpoints" / "last.ckpt", "")["state_dict"]
    ours = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    assert len(ours) == 56
    assert [name for name, value in ours.items() if not torch.equal(value, teacher[f"teacher_backbone.{name}"])] == []
    slow = small_stages.run(
        "classification", cases, tmp_path, word, freeze_backbone=True, n_epochs=2, learning_rate=1e-30, experiment="slow"
    )
    slow_state = read_checkpoint(slow / "checkpoints" / "last.ckpt", "")["state_dict"]
    heads = [name for name in state if name.startswith("heads.")]
    assert heads
    assert all(not torch.equal(state[name], slow_state[name]) for name in heads)


def test_the_heads_learning_rate_is_the_heads_alone(cases: Path, tmp_path: Path) -> None:
    """With a learning rate too small to be seen for one and a large one for the other, one moves and the other does not."""
    runs = {
        name: small_stages.run("classification", cases, tmp_path, experiment=name, **rates, weight_decay=0.0, norm_statistics="batch")
        for name, rates in {
            "none": {"learning_rate": 1e-30},
            "heads": {"learning_rate": 1e-30, "head_learning_rate": 1e-2},
            "backbone": {"learning_rate": 1e-2, "head_learning_rate": 1e-30},
            "both": {"learning_rate": 1e-2},
        }.items()
    }
    states = {name: read_checkpoint(folder / "checkpoints" / "last.ckpt", "")["state_dict"] for name, folder in runs.items()}

    def moved(name: str, part: str) -> bool:
        keys = [key for key in states["none"] if key.startswith(part) and key.endswith("weight")]
        return any(not torch.equal(states[name][key], states["none"][key]) for key in keys)

    assert {name: (moved(name, "backbone."), moved(name, "heads.")) for name in states} == {
        "none": (False, False),
        "heads": (False, True),
        "backbone": (True, False),
        "both": (True, True),
    }


def test_left_right_flips_are_refused_where_the_side_is_the_target(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**row, "path": str(cases.parent / row["path"]), "side": row["size"]} for row in rows_of(cases)]
    table = small_stages.write_table(tmp_path / "sides.csv", rows)
    flips = {"flip_axes": ["left_right"]}
    assert small_stages.start("classification", table, tmp_path / "results", cls_targets=["size", "side"], augmentation=flips) == 2
    assert "augmentation.flip_axes has left_right, but the name of 'side' in cls_targets says a side" in capsys.readouterr().err
    small_stages.run("classification", table, tmp_path / "results", augmentation=flips)
    small_stages.run("classification", table, tmp_path / "results", cls_targets=["side"], experiment="sides")


def test_classes_grades_and_numbers_together(cases: Path, tmp_path: Path) -> None:
    rows = [{**row, "path": str(cases.parent / row["path"])} for row in rows_of(cases)]
    for number, row in enumerate(rows):
        row["KL"] = ("0: none", "2: mild", "10: severe")[number % 3] if number % 5 else ""
        row["age"] = f"{60 + number % 7}.5" if number % 4 else ""
    table = small_stages.write_table(tmp_path / "typed.csv", rows)
    settings = {"cls_targets": ["size", "KL", "age"], "target_types": {"KL": "ordinal", "age": "continuous"}}
    changes = {"sample_by": "size", "focal_gamma": 1.0, "label_smoothing": 0.1, "n_epochs": 2, "early_stopping_patience": 3}
    folder = small_stages.run("classification", table, tmp_path / "results", **settings, **changes)
    log = (folder / "log.txt").read_text()
    assert "KL: training cases per grade: '0: none' 2, '2: mild' 3, '10: severe' 1\n" in log
    assert "age: 6 training cases, mean 63.33, standard deviation 2.115" in log
    best = small_stages.read_json(folder / "val_metrics.json")
    assert best["monitor"] == "val/score"
    assert {"val/auc/size", "val/kappa/KL", "val/mae/KL", "val/r2/age", "val/mae/age", "val/score"} <= set(best["metrics"])
    word = f"test_ckpt={folder / 'checkpoints' / 'best.ckpt'}"
    tested = small_stages.run("classification", table, tmp_path / "results", word, **settings) / "test"
    metrics = small_stages.read_json(tested / "metrics.json")
    assert [(name, entry["type"], entry["n_missing"]) for name, entry in metrics.items()] == [
        ("size", "categorical", 0), ("KL", "ordinal", 1), ("age", "continuous", 2),
    ]  # fmt: skip
    known = [row for row in rows_of(tested / "predictions.csv") if row["age_truth"]]
    truth, predicted = ([float(row[f"age_{what}"]) for row in known] for what in ("truth", "predicted"))
    assert metrics["age"]["mae"]["value"] == pytest.approx(np.mean(np.abs(np.subtract(truth, predicted))))
    assert 55 < np.mean(predicted) < 75  # in years, not in deviations


def test_a_value_that_does_not_fit_its_type_is_an_error_with_its_rows(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small_stages.start("classification", cases, tmp_path / "results", target_types={"size": "ordinal"}) == 2
    assert "size is 'large' in rows 2, 4, 6" in capsys.readouterr().err


def test_covariates_attention_and_baselines(cases: Path, tmp_path: Path) -> None:
    rows = [{**row, "path": str(cases.parent / row["path"])} for row in rows_of(cases)]
    for number, row in enumerate(rows):
        row["bmi"] = f"{25 + number % 5}" if number % 4 else ""
        row["sex"] = "FM"[number % 2]
    table = small_stages.write_table(tmp_path / "covariates.csv", rows)
    settings = {"covariates": {"bmi": "numeric", "sex": "categorical"}, "pooling": "attention", "n_bootstrap": 50}
    folder = small_stages.run("classification", table, tmp_path / "results", **settings)
    checkpoint = read_checkpoint(folder / "checkpoints" / "best.ckpt", "")
    state = checkpoint["state_dict"]
    (head,) = (values for name, values in state.items() if name.startswith("heads.") and name.endswith("weight"))
    assert head.shape[1] == checkpoint["project"]["config"]["width"] * 16 + 4
    assert "pooling.score.weight" in state
    word = f"test_ckpt={folder / 'checkpoints' / 'best.ckpt'}"
    tested = small_stages.run("classification", table, tmp_path / "results", word, explain="occlusion", explain_cases=1) / "test"
    (path,) = (tested / "explanations").iterdir()
    assert np.ptp(nibabel.load(path).get_fdata()) > 0
    entry = small_stages.read_json(tested / "metrics.json")["size"]
    assert list(entry["baselines"]) == ["majority class", "foreground volume", "mean intensity", "covariates"]
    for found in entry["baselines"].values():
        assert found["difference"]["auc"]["value"] == pytest.approx(entry["auc"]["value"] - found["metrics"]["auc"]["value"])
    assert entry["baselines"]["covariates"]["metrics"]["auc"]["value"] == 1  # sex tells the size here
    assert "beside simple predictors" in (tested / "report.html").read_text()
    blind = small_stages.run("classification", table, tmp_path / "results", experiment="blind", covariate_input=False, **settings)
    (head,) = (
        values
        for name, values in read_checkpoint(blind / "checkpoints" / "best.ckpt", "")["state_dict"].items()
        if name.startswith("heads.") and name.endswith("weight")
    )
    assert head.shape[1] == checkpoint["project"]["config"]["width"] * 16
