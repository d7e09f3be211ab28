"""A whole study of label efficiency: its grid, its fairness, what it refuses, and going on where it stopped."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_stages
import yaml
from sklearn.metrics import roc_auc_score

from fuse_examples.imaging.oai_example.configuration.command_line import run_entry
from fuse_examples.imaging.oai_example.configuration.label_efficiency_config import LabelEfficiencyConfig
from fuse_examples.imaging.oai_example.configuration.loading import load_config
from fuse_examples.imaging.oai_example.stages import label_efficiency as stage
from fuse_examples.imaging.oai_example.stages.study.grid import Cell
from fuse_examples.imaging.oai_example.stages.study.scheduling import Broken
from fuse_examples.imaging.oai_example.training.interruption import Interrupted

ROOT = Path(__file__).parents[2]


def in_this_process(
    folder: Path, cells: Sequence[tuple[Cell, Sequence[str]]], jobs: int, interruption: object, told: Callable[[Cell, float], None]
) -> list[Broken]:
    """What a process per cell does, one after the other: the words are those that a process is given."""
    for cell, (_, _, _, settings, _, number) in cells:
        stage.label_efficiency(load_config(LabelEfficiencyConfig, Path(settings)), number=int(number))
        told(cell, 1.0)
    return []


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "do_cells", in_this_process)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder beside scans of 18 patients and a backbone pre-trained on the training fold."""
    folder = tmp_path_factory.mktemp("study")
    table = small_stages.write_cases(folder / "scans", 6)
    for name in ("segmentation", "classification"):
        small_stages.write_yaml(name, table, folder / "results")
    small_stages.run("dino", table, folder / "results")
    return folder / "results"


def words_of(results: Path, kind: str, **changes: Any) -> list[str]:
    values = {
        "experiment": f"study_{kind}",
        "results_dir": results,
        "stage": kind,
        "downstream_config": results.parent / f"results_{kind}.yaml",
        "initialisations": {"scratch": {}, "dino": {"dino_weights": str(results / "dino" / "backbone.safetensors")}},
        "budgets": [2, "all"],
        "seeds": [0, 1],
        "steps": 4,
        "validate_every_n_steps": 2,
        "learning_rates": [1e-3, 3e-3],
        "n_bootstrap": 50,
        **changes,
    }
    return [f"{key}={json.dumps(value, default=str)}" for key, value in values.items()]


def start(results: Path, kind: str, *, check: bool = False, **changes: Any) -> int:
    shipped = ROOT / "configs" / "label_efficiency_config.yaml"
    return run_entry(
        lambda: stage.label_efficiency(load_config(LabelEfficiencyConfig, shipped, words_of(results, kind, **changes)), check=check)
    )


@pytest.fixture(scope="module")
def studied(results: Path) -> Path:
    """A finished study of segmentation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "do_cells", in_this_process)
        assert start(results, "segmentation") == 0
    return results / "study_segmentation"


def rows_of(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.open()))


def untimed(study: Path) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """A study's table and cells without the seconds that its runs took."""
    rows = [{key: value for key, value in row.items() if not key.endswith("_seconds")} for row in rows_of(study / "study.csv")]
    cells = [json.loads(line) for line in (study / "cells.jsonl").read_text().splitlines()]
    return rows, [{key: value for key, value in cell.items() if key != "seconds"} for cell in cells]


def config_of(run: Path) -> dict[str, Any]:
    return yaml.safe_load((run / "config.yaml").read_text())


@pytest.mark.slow
def test_every_cell_is_a_run_and_the_search_is_never_tested(studied: Path) -> None:
    runs = sorted(path.name for path in (studied / "runs").iterdir())
    table = rows_of(studied / "study.csv")
    rates = {row["initialisation"]: row["learning_rate"] for row in table}
    tested = {f"{name}_{budget}_seed{seed}_lr{rates[name]}" for name in rates for budget in ("n2", "all") for seed in (0, 1)}
    searched = {f"{name}_all_seed0_lr{rate}" for name in rates for rate in ("0.001", "0.003")}
    assert runs == sorted(tested | searched)
    assert {name for name in runs if (studied / "runs" / name / "test").exists()} == tested
    assert len(table) == 8
    notes = json.loads((studied / "cells.jsonl").read_text().splitlines()[0])["notes"]
    ends = {"0.001": "smallest", "0.003": "largest"}
    for name in rates:
        told = f"{name}: the search took {rates[name]}, the {ends[rates[name]]} of the learning rates tried; one beyond it may be better."
        assert told in notes
        assert told in (studied / "study.html").read_text()
        found = {
            rate: small_stages.read_json(studied / "runs" / f"{name}_all_seed0_lr{rate}" / "val_metrics.json") for rate in (0.001, 0.003)
        }
        assert float(rates[name]) == min(found, key=lambda rate: (-found[rate]["value"], rate))


@pytest.mark.slow
def test_initialisations_share_subset_seed_steps_and_all_other_settings(studied: Path) -> None:
    for budget in ("n2", "all"):
        for seed in (0, 1):
            pair = [config_of(next((studied / "runs").glob(f"{name}_{budget}_seed{seed}_*/test")).parent) for name in ("scratch", "dino")]
            differing = {key for key in pair[0] if pair[0][key] != pair[1][key]} - {"learning_rate", "experiment"}
            assert differing == {"dino_weights"}
            assert (pair[0]["n_epochs"], pair[0]["batches_per_epoch"], pair[0]["seed"]) == (2, 2, seed)
            assert pair[0]["csv_path"] == str(studied / "subsets" / f"{budget}_seed{seed}.csv")
    cells = [json.loads(line) for line in (studied / "cells.jsonl").read_text().splitlines()[1:]]
    assert {tuple(step for step, _ in cell["curve"]) for cell in cells} == {(2, 4)}


@pytest.mark.slow
def test_subsets_are_nested_and_validation_labels_count(studied: Path, results: Path) -> None:
    original = rows_of(results.parent / "scans" / "cases.csv")
    for seed in (0, 1):
        small, whole = (rows_of(studied / "subsets" / f"{budget}_seed{seed}.csv") for budget in ("n2", "all"))
        for fold, number in (("train", "0"), ("val", "1")):
            few, many = ({row["PatientID"] for row in table if row["fold"] == fold} for table in (small, whole))
            assert len(few) == 2
            assert few < many == {row["PatientID"] for row in original if row["fold"] == number}
        tested = [row for row in small if row["fold"] == "test"]
        assert {row["PatientID"] for row in tested} == {row["PatientID"] for row in original if row["fold"] == "2"}
        assert all(Path(row["img_path"]).is_absolute() and Path(row["seg_path"]).is_file() for row in whole)
    subsets = [
        {row["PatientID"] for row in rows_of(studied / "subsets" / f"n2_seed{seed}.csv") if row["fold"] == "train"} for seed in (0, 1)
    ]
    assert subsets[0] != subsets[1]


@pytest.mark.slow
def test_the_table_can_be_computed_from_the_run_folders(studied: Path) -> None:
    for row in rows_of(studied / "study.csv"):
        run = studied / "runs" / f"{row['initialisation']}_{row['budget']}_seed{row['seed']}_lr{row['learning_rate']}"
        scores = [float(case["dice_mean"]) for case in rows_of(run / "test" / "predictions.csv")]
        assert float(row["score"]) == pytest.approx(np.mean(scores), abs=1e-6)
        best = small_stages.read_json(run / "val_metrics.json")
        assert (float(row["validation_score"]), int(row["best_step"])) == (pytest.approx(best["value"], abs=1e-6), best["step"])


@pytest.mark.slow
def test_it_goes_on_where_it_was_and_gives_the_same_table(
    studied: Path, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = untimed(studied)
    runs = sorted(path.parent for path in (studied / "runs").glob("*/test"))
    times = {run: (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns for run in runs}
    shutil.rmtree(runs[0])  # not yet begun; dino's at the budget and seed of the search
    (studied / "study.csv").unlink()

    def stopped(*_: object) -> list[Broken]:
        raise Interrupted(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "do_cells", stopped)
        assert start(results, "segmentation") == 143
    assert "Stopped by SIGTERM; the same command goes on where it stopped." in capsys.readouterr().err
    # What there is so far: the lost run is of the search, without which nobody knows the learning rate of dino's.
    assert {row["initialisation"] for row in rows_of(studied / "study.csv")} == {"scratch"}
    shutil.rmtree(runs[1] / "test")  # killed in its test
    done = small_stages.read_json(runs[1] / "cell.json")
    (runs[1] / "cell.json").write_text(json.dumps({"trained": done["trained"]}))
    (runs[2] / "cell.json").unlink()  # killed at the end of training
    shutil.rmtree(runs[2] / "test")
    assert start(results, "segmentation") == 0
    assert "3/3" in capsys.readouterr().out
    assert all((run / "checkpoints" / "last.ckpt").stat().st_mtime_ns == times[run] for run in runs[3:])
    assert untimed(studied) == before


@pytest.mark.slow
def test_seeds_can_be_added_and_other_changes_are_refused(studied: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protocol = small_stages.read_json(studied / "protocol.json")
    del protocol["downstream"]["on_bad_case"]  # as if the stage had got this setting since
    (studied / "protocol.json").write_text(json.dumps(protocol))
    assert start(results, "segmentation", check=True, seeds=[0, 1, 2], budgets=[2, 3, "all"]) == 0
    told = capsys.readouterr().out
    assert "n3            3 patients to learn from, 3 to validate on: 6 of 6 runs left" in told
    assert "n2            2 patients to learn from, 2 to validate on: 2 of 6 runs left" in told
    assert start(results, "segmentation", steps=6, overrides={"weight_decay": 0.5}, learning_rates=[1e-3]) == 2
    message = capsys.readouterr().err
    for key, now, then in (("steps", "6", "4"), ("learning_rates", "[0.001]", "[0.001, 0.003]"), ("weight_decay", "0.5", "0.01")):
        assert f"{key}: {now} differs from {then}, with which the study in {studied} was begun" in message
    assert start(results, "segmentation", seeds=[1]) == 2
    told = "seeds: that of the search of the learning rate, which must stay among them: 1 differs from 0"
    assert told in capsys.readouterr().err
    assert start(results, "segmentation", initialisations={"scratch": {}, "dino": {}}) == 2
    assert "initialisations.dino (checksum of the file): nothing (null) differs from" in capsys.readouterr().err


@pytest.mark.slow
def test_where_a_run_of_the_search_breaks_the_other_initialisations_are_done(
    studied: Path, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = shutil.copytree(studied, results / "broken")
    shutil.rmtree(study / "runs" / "dino_all_seed0_lr0.001")

    def one_breaks(folder: Path, cells: Sequence[Any], *rest: Any) -> list[Broken]:
        log = folder / "logs" / "broken.log"
        log.write_text("the cause\n")
        broken = [cell for cell, _ in cells if cell.name == "dino_all_seed0_lr0.001"]
        in_this_process(folder, [pair for pair in cells if pair[0] not in broken], *rest)
        return [Broken(cell, 2, log) for cell in broken]

    with monkeypatch.context() as patch:
        patch.setattr(stage, "do_cells", one_breaks)
        assert start(results, "segmentation", experiment="broken", seeds=[0, 1, 2]) == 2
    told = capsys.readouterr().err
    assert "dino_all_seed0_lr0.001 ended with exit code 2: the cause" in told
    assert "1 run broke, so that the learning rate of 6 others is not known yet; they have not begun; the others are done." in told
    rows = rows_of(study / "study.csv")
    assert [(row["initialisation"], row["seed"]) for row in rows] == [("scratch", str(seed)) for _ in range(2) for seed in range(3)]


@pytest.mark.slow
def test_what_was_lost_of_a_study_is_named_and_never_guessed(studied: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = shutil.copytree(studied, results / "damaged")
    tested = sorted(path.parent for path in study.glob("runs/*/test"))[-1]
    searched = study / "runs" / "scratch_all_seed0_lr0.001"
    cases = {
        study / "protocol.json": ("{", "protocol.json: cannot be read as what the study was begun with"),
        searched / "val_metrics.json": ("{", "val_metrics.json: cannot be read"),
        tested / "test" / "predictions.csv": ("case\n", f"Or remove {tested}; the study does that run anew."),
    }
    for path, (damaged, told) in cases.items():
        whole = path.read_bytes()
        for content in (damaged, None):
            if content is None:
                path.unlink()
            else:
                path.write_text(content)
            assert start(results, "segmentation", experiment="damaged") == 2, path
            message = capsys.readouterr().err
            # Without its protocol a folder is no study at all.
            assert ("exists and is no study" if content is None and path.name == "protocol.json" else told) in message
            assert str(path) in message or path.name == "protocol.json"
        path.write_bytes(whole)
    (study / "protocol.json").write_text("{}")
    assert start(results, "segmentation", experiment="damaged") == 2
    assert "it has no search_budget, search_seed, initialisations" in capsys.readouterr().err


@pytest.mark.slow
def test_clearml_gets_the_grid_as_a_table_and_no_patient(studied: Path, results: Path, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLEARML", "TRAINS")) and "proxy" not in name.lower()}
    environment = {**kept, "HOME": str(tmp_path), "CLEARML_OFFLINE_MODE": "1"}
    shipped = ROOT / "configs" / "label_efficiency_config.yaml"
    words = words_of(results, "segmentation", clearml=True, clearml_project_name="knees")
    script = ROOT / "fuse_examples" / "imaging" / "oai_example" / "downstream" / "label_efficiency.py"
    command = [sys.executable, str(script), "--config", str(shipped), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    sent = "\n".join(path.read_text() for path in (tmp_path / ".clearml").rglob("*.json*"))
    plots = [event for line in sent.splitlines() if line.startswith("[") for event in json.loads(line) if event.get("metric") == "runs"]
    columns = json.loads(plots[-1]["plot_str"])["data"][0]
    header, table = columns["header"]["values"], rows_of(studied / "study.csv")
    assert header == list(table[0])
    for name, values in zip(header, columns["cells"]["values"], strict=True):
        assert [str(value) for value in values] == [row[name] for row in table], name
    assert "subject0" not in sent


def test_a_leak_is_refused_before_anything_starts(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = results.parent / "scans" / "cases.csv"
    folds = {"train_folds": [2], "test_folds": [0]}  # the backbone has learnt from fold 0
    assert start(results, "segmentation", experiment="leak", overrides=folds) == 2
    message = capsys.readouterr().err
    assert "initialisations: dino: " in message
    assert "has learnt from images of 6 patient(s) of the test folds: subject00 (rows 2)" in message
    assert "allow_pretraining_overlap" not in message  # with which a study is refused as well
    rows = rows_of(table)
    rows[-1]["PatientID"] = rows[0]["PatientID"]  # a training patient in the test fold
    leaking = small_stages.write_table(table.with_name("leaking.csv"), rows)
    assert start(results, "segmentation", experiment="leak", overrides={"csv_path": str(leaking)}) == 2
    message = capsys.readouterr().err
    assert "patient subject00 is in train (row 2) and in test (row 19)" in message
    assert "allow_patient_overlap" not in message
    assert start(results, "segmentation", experiment="leak", overrides={"allow_pretraining_overlap": True}) == 2
    assert "allow_pretraining_overlap is true; a study whose test patients were learnt from answers nothing" in capsys.readouterr().err
    assert not (results / "leak").exists()


def test_what_would_make_cells_unlike_each_other_is_refused(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unfair = {"batch_size": None, "resize_to": None, "devices": 2}
    assert start(results, "segmentation", experiment="unfair", overrides=unfair) == 2
    message = capsys.readouterr().err
    assert "devices is 2; a run of a study is one process" in message
    for key in ("batch_size", "patch_size", "spacing"):
        assert f"{key} is null and would be planned from the training patients of each run, which differ; set it." in message
    assert start(results, "segmentation", experiment="unfair", overrides={"width": 3}) == 2
    assert "initialisations: dino: width: 3 differs from 2, which the weights were made with" in capsys.readouterr().err
    assert start(results, "segmentation", experiment="unfair", overrides={"width": None}) == 2
    assert "initialisations: scratch would have width: 32 and dino 2; they may differ in their weights alone" in capsys.readouterr().err
    assert start(results, "segmentation", experiment="unfair", budgets=[2, 7, 0.34]) == 2
    message = capsys.readouterr().err
    assert "budgets: 7 are more patients than the 6 with labels in train_folds; write all instead" in message
    assert "budgets: 2 and 0.34 are both 2 patients; keep one" in message
    assert start(results, "segmentation", experiment="dino") == 2
    assert "exists and is no study" in capsys.readouterr().err
    missing = {"scratch": {}, "dino": {"dino_weights": "nowhere.safetensors"}}
    assert start(results, "segmentation", experiment="unfair", initialisations=missing) == 2
    assert "initialisations: dino: no such file: 'nowhere.safetensors'" in capsys.readouterr().err


@pytest.mark.slow
def test_classification_by_auc_with_every_class_in_every_subset(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gently = {"dino_weights": str(results / "dino" / "backbone.safetensors"), "layer_decay": 0.75}
    changes = {"budgets": [2, 4], "seeds": [3], "learning_rates": [1e-3], "initialisations": {"scratch": {}, "dino": gently}}
    assert start(results, "classification", budgets=[1, 4], seeds=[3], learning_rates=[1e-3], experiment="one") == 2
    assert "budgets: 1 with seed 3: " in capsys.readouterr().err
    assert start(results, "classification", **changes) == 0
    study = results / "study_classification"
    for row in rows_of(study / "study.csv"):
        run = study / "runs" / f"{row['initialisation']}_{row['budget']}_seed3_lr0.001"
        cases = rows_of(run / "test" / "predictions.csv")
        positive = small_stages.read_json(run / "test" / "metrics.json")["size"]["positive_class"]
        scores = [float(case[f"size_probability_{positive}"]) for case in cases]
        expected = roc_auc_score([case["size_truth"] == positive for case in cases], scores)
        assert float(row["score"]) == pytest.approx(expected)
        assert row["metric"] == "AUC of size"
        assert config_of(run)["positive_class"] == {"size": positive}
        assert config_of(run)["layer_decay"] == (0.75 if row["initialisation"] == "dino" else 1.0)
    subset = rows_of(study / "subsets" / "n2_seed3.csv")
    for fold in ("train", "val"):
        assert {row["size"] for row in subset if row["fold"] == fold} == {"large", "small"}
