import csv
import json
from pathlib import Path

import numpy as np
import pytest

from fuse_examples.imaging.oai_example.evaluation.bootstrap import estimate_mean
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.segmentation_results import (
    CasePrediction,
    choose_examples,
    score_case,
    segmentation_metrics,
    write_segmentation_results,
)
from fuse_examples.imaging.oai_example.geometry.volume import Grid

STRUCTURES = ("femoral_cartilage", "meniscus")


def case(index: int, dice: tuple[float, float], patient: str | None = None) -> CasePrediction:
    scores = {"dice": dict(zip(STRUCTURES, dice, strict=True))}
    return CasePrediction(
        f"case{index}", patient or f"p{index}", "4", index + 2, scores, {STRUCTURES[0]: (1.5, 2.0), STRUCTURES[1]: (0, 0)}
    )


def cohort() -> list[CasePrediction]:
    generator = np.random.default_rng(0)
    cases = [case(index, tuple(generator.uniform(0.5, 1, 2)), f"p{index // 2}") for index in range(26)]
    cases[3] = case(3, (0.7, np.nan), "p1")
    cases[4] = case(4, (np.nan, np.nan), "p2")
    return cases


def test_score_case_is_dice_and_volume_in_millilitres() -> None:
    truth = np.zeros((4, 5, 6), dtype=np.uint8)
    truth[:2, 0, 0] = 1
    predicted = np.zeros((4, 5, 6), dtype=np.int16)
    predicted[1:4, 0, 0] = 1
    affine = np.array([[0, 0, 2.0, 1], [-3.0, 0, 0, 2], [0, 0.5, 0, 3], [0, 0, 0, 1]])  # a left-handed permutation, 3 mm³ a voxel
    scored = score_case(truth, predicted, Grid((4, 5, 6), affine), STRUCTURES, name="a", patient="p", fold="0", row=2)
    assert scored.scores["dice"]["femoral_cartilage"] == pytest.approx(2 * 1 / 5)
    assert np.isnan(scored.scores["dice"]["meniscus"])
    assert scored.volumes_ml["femoral_cartilage"] == pytest.approx((0.006, 0.009))
    assert scored.mean() == pytest.approx(0.4)


def test_metrics_have_each_mean_its_interval_and_what_was_left_out() -> None:
    cases = cohort()
    settings = Bootstrap(200, seed=4)
    metrics = segmentation_metrics(cases, STRUCTURES, settings)
    patients = [one.patient for one in cases]
    for name in STRUCTURES:
        values = [one.scores["dice"][name] for one in cases]
        assert metrics["dice"][name] == estimate_mean(values, patients, settings).as_dict() | {"n_absent": int(np.isnan(values).sum())}
    by_hand = [np.nanmean([*one.scores["dice"].values()]) for one in cases if one.name != "case4"]
    assert metrics["dice"]["mean"]["value"] == pytest.approx(np.mean(by_hand))
    assert metrics["dice"]["mean"]["n_cases"] == 25
    assert metrics["dice"]["meniscus"]["n_absent"] == 2
    assert (metrics["n_cases"], metrics["n_patients"]) == (26, 13)
    assert metrics["folds"] == {"4": {"n_cases": 26, "n_patients": 13}}
    assert metrics["bootstrap"]["n_resamples"] == 200


def test_files_hold_every_case_and_plain_json(tmp_path: Path) -> None:
    cases = cohort()
    returned = write_segmentation_results(tmp_path / "test", cases, STRUCTURES, Bootstrap(100))

    def refuse(word: str) -> None:
        raise AssertionError(f"metrics.json holds {word}")

    assert json.loads((tmp_path / "test/metrics.json").read_text(), parse_constant=refuse) == returned
    with open(tmp_path / "test/predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [one.name for one in cases]
    assert rows[0]["PatientID"] == "p0"
    assert (rows[0]["fold"], rows[0]["row"]) == ("4", "2")
    assert float(rows[0]["dice_meniscus"]) == cases[0].scores["dice"]["meniscus"]  # every digit
    assert float(rows[3]["dice_mean"]) == 0.7
    assert rows[3]["dice_meniscus"] == ""
    assert rows[4]["dice_mean"] == ""
    assert rows[0]["true_volume_ml_femoral_cartilage"] == "1.5"
    assert rows[0]["predicted_volume_ml_femoral_cartilage"] == "2.0"
    assert sorted(file.name for file in (tmp_path / "test").iterdir()) == ["metrics.json", "predictions.csv"]


def test_a_handful_of_patients_gets_values_without_intervals(tmp_path: Path) -> None:
    metrics = write_segmentation_results(tmp_path, [case(index, (0.5, np.nan)) for index in range(3)], STRUCTURES)
    assert metrics["dice"]["mean"] == {
        "value": 0.5, "low": None, "high": None, "n_patients": 3, "n_cases": 3, "n_absent": 0,
        "note": "no interval: 3 patients with a score; 10 are needed",
    }  # fmt: skip
    assert metrics["dice"]["meniscus"]["value"] is None
    assert metrics["dice"]["meniscus"]["note"] == "undefined: no case has a score"


def test_worst_median_and_best_by_the_mean() -> None:
    cases = [case(index, (score, score)) for index, score in enumerate([0.9, 0.2, 0.7, np.nan, 0.8, 0.95])]
    chosen = choose_examples(cases)
    assert {role: one.name for role, one in chosen.items()} == {"worst": "case1", "median": "case4", "best": "case5"}
    assert list(choose_examples(cases[:1])) == ["worst"]
    assert {role: one.name for role, one in choose_examples(cases[:2]).items()} == {"worst": "case1", "best": "case0"}
    assert choose_examples([cases[3]]) == {}


def test_names_that_would_hide_each_other_and_no_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="structure names must differ from each other and from 'mean': a, mean"):
        segmentation_metrics(cohort(), ("a", "mean"))
    with pytest.raises(ValueError, match="must differ"):
        segmentation_metrics(cohort(), ("a", "a"))
    with pytest.raises(ValueError, match="no cases"):
        segmentation_metrics([], STRUCTURES)
