"""The demo's verdict: every bound can fail, and the trivial predictors are scikit-learn's AUC on the test fold."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fuse_examples.imaging.oai_example.prepare.demo_verdict import POSITIVE, TARGET, main, trivial_aucs, verdict

STRUCTURES = ("mean", "femoral_cartilage", "lateral_meniscus")


def write_demo(folder: Path, **changes: Any) -> Path:
    """A demo that passes, but for what `changes` says."""
    values = {
        "mean": 0.8,
        "femoral_cartilage": 0.8,
        "lateral_meniscus": 0.6,
        "cases": 20,
        "auc_low": 0.9,
        "patients": 40,
        "rank": 19.0,
    } | changes
    dice = {name: {"value": values[name], "low": 0.5, "high": 0.9} for name in STRUCTURES}
    files = {
        "segmentation/test/metrics.json": {"dice": dice, "n_patients": values["cases"]},
        "classification/test/metrics.json": {TARGET: {"auc": {"value": 0.95, "low": values["auc_low"], "n_patients": values["patients"]}}},
        "dino/test/metrics.json": {"effective_rank": 6.0},
        "dino/val_metrics.json": {"metrics": {"dino/effective_rank": values["rank"]}},
    }
    for name, content in files.items():
        path = folder / "results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    for stage in ("segmentation", "classification"):
        (folder / "results" / stage / "test" / "report.html").touch()
    write_knees(folder / "data", telling=changes.get("telling", False))
    return folder


def write_knees(data: Path, *, telling: bool) -> None:
    rng = np.random.default_rng(3)
    data.mkdir()
    with (data / "knees.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, ["fold", TARGET, "foreground_mm3", "side", "mean_intensity"])
        rows.writeheader()
        for number in range(400):
            positive = number % 2 == 0
            volume = rng.normal() - (2 * positive if telling else 0)
            side, cohort = ("RIGHT", "LEFT")[number // 2 % 2], POSITIVE if positive else "other"
            rows.writerow(
                {"fold": number // 4 % 5, TARGET: cohort, "foreground_mm3": volume, "side": side, "mean_intensity": number // 2 % 7}
            )


def test_a_demo_that_works_passes_and_says_where_to_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write_demo(tmp_path))]) == 0
    text = capsys.readouterr().out
    assert "FAILED" not in text
    assert "segmentation/test/report.html" in text
    assert "tensorboard --logdir" in text


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"mean": 0.69}, "Dice, mean"),
        ({"lateral_meniscus": 0.49}, "Dice, lateral_meniscus"),
        ({"femoral_cartilage": None}, "Dice, femoral_cartilage"),
        ({"cases": 19}, "segmentation: test patients"),
        ({"auc_low": 0.59}, "lower bound"),
        ({"auc_low": None}, "lower bound"),
        ({"patients": 39}, "classification: test patients"),
        ({"rank": 7.9}, "effective rank"),
        ({"telling": True}, "AUC of volume"),
    ],
)
def test_each_figure_is_held_to_its_bound(change: dict[str, Any], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write_demo(tmp_path, **change))]) == 1
    (failed,) = [text for text in capsys.readouterr().out.splitlines() if text.startswith("FAILED")]
    assert line in failed


def test_a_missing_report_fails(tmp_path: Path) -> None:
    folder = write_demo(tmp_path)
    (folder / "results" / "classification" / "test" / "report.html").unlink()
    assert next(str(one) for one in verdict(folder) if not one.passed).startswith("FAILED reports written")


def test_trivial_predictors_take_their_direction_from_the_other_folds(tmp_path: Path) -> None:
    write_knees(tmp_path / "data", telling=True)
    with (tmp_path / "data" / "knees.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["fold"] == "4"]
    truth = [row[TARGET] == POSITIVE for row in rows]
    assert np.isclose(trivial_aucs(tmp_path / "data")["volume"], roc_auc_score(truth, [-float(row["foreground_mm3"]) for row in rows]))
