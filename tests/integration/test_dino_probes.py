"""Probes of a pre-training run: the curve, the best epoch, and the figures of a test."""

import csv
import math
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import small_stages

from fuse_examples.imaging.oai_example.data.classification_views import LabelledVolumes
from fuse_examples.imaging.oai_example.data.sampler import SampleKey
from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint

TARGETS = 'probe_targets=["size", "tone"]'


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"), 8)


@pytest.fixture(scope="module")
def trained(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("results")
    return small_stages.run("dino", cases, results, TARGETS, "probe_every_n_epochs=2", n_epochs=5)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "probes.csv").open() as file:
        return list(csv.DictReader(file))


def test_probes_come_after_the_first_every_second_and_the_last_epoch(trained: Path) -> None:
    assert [row["epoch"] for row in rows(trained)] == [epoch for epoch in "1245" for _ in range(4)]
    assert [(row["target"], row["probe"]) for row in rows(trained)[:4]] == [
        ("size", "knn_auc"), ("size", "linear_auc"), ("tone", "knn_auc"), ("tone", "linear_auc"),
    ]  # fmt: skip
    assert all(0 <= float(row["value"]) <= 1 for row in rows(trained))
    assert "size: k-NN AUC " in (trained / "log.txt").read_text()


def test_the_best_epoch_is_the_best_probes(trained: Path) -> None:
    curve: dict[int, list[float]] = {}
    for row in rows(trained):
        if row["probe"] == "knn_auc":
            curve.setdefault(int(row["epoch"]), []).append(float(row["value"]))
    means = {epoch: sum(values) / len(values) for epoch, values in curve.items()}
    metrics = small_stages.read_json(trained / "val_metrics.json")
    assert metrics["monitor"] == "val/probe"
    assert metrics["value"] == pytest.approx(max(means.values()), abs=1e-4)
    assert means[metrics["epoch"]] == pytest.approx(max(means.values()), abs=1e-4)
    assert read_checkpoint(trained / "checkpoints" / "best.ckpt", "")["global_step"] == 4 * metrics["epoch"]


def test_a_probe_changes_nothing_in_what_is_learnt(trained: Path, cases: Path, tmp_path: Path) -> None:
    plain = small_stages.run("dino", cases, tmp_path, n_epochs=5)
    with_probes, without = (read_checkpoint(folder / "checkpoints" / "last.ckpt", "")["state_dict"] for folder in (trained, plain))
    assert all(tensor.equal(without[name]) for name, tensor in with_probes.items())


def test_a_test_probes_the_test_folds_with_what_the_training_folds_hold(trained: Path, cases: Path) -> None:
    words = [TARGETS, f"test_ckpt={trained / 'checkpoints' / 'best.ckpt'}"]
    assert small_stages.start("dino", cases, trained.parent, *words) == 0
    probes = small_stages.read_json(trained / "test" / "metrics.json")["probes"]
    assert set(probes) == {"size", "tone", "rules"}
    assert set(probes["size"]) == {"knn_auc", "linear_auc"}
    assert probes["size"]["linear_auc"]["n_cases"] == 8
    assert "fewer than" in probes["size"]["linear_auc"]["note"] or probes["size"]["linear_auc"]["low"] is None


def relabelled(cases: Path, name: str, value: str) -> Path:
    """A table in which `size` is `value` in all validation cases."""
    table = list(csv.DictReader(cases.open()))
    rows = [{**row, "size": value if row["fold"] == "1" else row["size"]} for row in table]
    return small_stages.write_table(cases.with_name(name), rows)


@pytest.mark.parametrize(("value", "held"), [("", "no value at all"), ("large", "'large'")])
def test_validation_cases_that_cannot_score_a_probe_are_refused(
    value: str, held: str, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = relabelled(cases, f"{value or 'none'}.csv", value)
    assert small_stages.start("dino", table, tmp_path, 'probe_targets=["size"]') == 2
    assert f"the validation folds hold one class at most (size: {held}), and the best epoch is chosen by an AUC" in capsys.readouterr().err


def test_a_target_that_cannot_be_scored_leaves_the_choice_to_the_others(cases: Path, tmp_path: Path) -> None:
    folder = small_stages.run("dino", relabelled(cases, "one.csv", "large"), tmp_path, TARGETS)
    of_tone = next(float(row["value"]) for row in rows(folder) if (row["target"], row["probe"]) == ("tone", "knn_auc"))
    assert small_stages.read_json(folder / "val_metrics.json")["value"] == pytest.approx(of_tone, abs=1e-4)
    assert [row["value"] for row in rows(folder) if row["target"] == "size"] == ["", ""]
    assert (folder / "checkpoints" / "best.ckpt").exists()


def test_volumes_whose_features_are_not_finite_are_left_out(cases: Path, tmp_path: Path) -> None:
    as_they_are = LabelledVolumes.__getitem__

    def damaged(self: LabelledVolumes, key: SampleKey) -> Any:
        item = as_they_are(self, key)
        return {**item, "image": item["image"] * math.nan} if key.row == 1 else item

    with mock.patch.object(LabelledVolumes, "__getitem__", damaged):
        folder = small_stages.run("dino", cases, tmp_path, TARGETS)
    assert "epoch 1: the features of 2 volumes are not finite; the probes leave these out" in (folder / "log.txt").read_text()
    assert all(0 <= float(row["value"]) <= 1 for row in rows(folder))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["val_folds=[]"], "probe_targets is set, and probes are scored on val_folds, which is empty; name at least one fold"),
        (['probe_targets=["siz"]'], "siz"),
    ],
)
def test_what_a_probe_needs(cases: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert small_stages.start("dino", cases, tmp_path, TARGETS, *words) == 2
    assert message in capsys.readouterr().err
