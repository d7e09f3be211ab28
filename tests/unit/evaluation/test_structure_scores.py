"""All scores of a case, with structures that are there, missed, made up and absent."""

import numpy as np
import pytest

from fuse_examples.imaging.oai_example.evaluation.structure_scores import METRICS, ScoreSettings, score_structures
from fuse_examples.imaging.oai_example.evaluation.surface_distances import surface_distances
from fuse_examples.imaging.oai_example.evaluation.thickness import mean_thickness
from fuse_examples.imaging.oai_example.geometry.volume import Grid

NAMES = ("sheet", "missed", "made_up", "absent")
AFFINE = np.array([[0, 0.5, 0, -7], [-0.8, 0, 0, 3], [0, 0, 0.6, 1], [0, 0, 0, 1]])
GRID = Grid((12, 30, 32), AFFINE)


def pair() -> tuple[np.ndarray, np.ndarray]:
    truth, predicted = np.zeros(GRID.shape, dtype=np.uint8), np.zeros(GRID.shape, dtype=np.uint16)
    truth[3:6, 2:28, 2:30] = 1
    predicted[3:7, 3:28, 2:30] = 1
    truth[9, 4, 4] = 2
    predicted[10, 5:7, 5] = 3
    return truth, predicted


def test_scores_are_those_of_each_structure_alone() -> None:
    truth, predicted = pair()
    found = score_structures(truth, predicted, GRID, NAMES, ScoreSettings(0.7, ("sheet", "missed")))
    assert tuple(found.scores) == METRICS
    distances = surface_distances(truth == 1, predicted == 1, AFFINE[:3, :3])
    thickness = [mean_thickness(one == 1, AFFINE[:3, :3]) for one in (truth, predicted)]
    sheet = {metric: values["sheet"] for metric, values in found.scores.items()}
    voxel = 0.5 * 0.8 * 0.6 / 1000
    n_true, n_predicted, both = 3 * 26 * 28, 4 * 25 * 28, 3 * 25 * 28
    assert sheet == pytest.approx(
        {
            "dice": 2 * both / (n_true + n_predicted),
            "surface_dice": distances.dice(0.7),
            "hd95_mm": distances.hausdorff(95),
            "assd_mm": distances.average(),
            "volume_error_ml": (n_predicted - n_true) * voxel,
            "absolute_volume_error_ml": abs(n_predicted - n_true) * voxel,
            "thickness_error_mm": thickness[1] - thickness[0],
            "absolute_thickness_error_mm": thickness[1] - thickness[0],
        }
    )
    assert found.thickness_mm["sheet"] == pytest.approx(thickness)
    assert found.thickness_mm["sheet"] == pytest.approx((2.4, 3.2), rel=0.07)
    assert found.volumes_ml["made_up"] == pytest.approx((0, 2 * voxel))
    assert set(found.scores["thickness_error_mm"]) == {"sheet", "missed"}


def test_a_missed_a_made_up_and_an_absent_structure() -> None:
    scores = score_structures(*pair(), GRID, NAMES, ScoreSettings(1.0, NAMES)).scores
    diagonal = np.linalg.norm([11 * 0.8, 29 * 0.5, 31 * 0.6])
    for name in ("missed", "made_up"):
        assert scores["dice"][name] == scores["surface_dice"][name] == 0
        assert scores["hd95_mm"][name] == scores["assd_mm"][name] == pytest.approx(diagonal)
        assert np.isnan(scores["thickness_error_mm"][name])
    assert scores["volume_error_ml"]["missed"] < 0 < scores["volume_error_ml"]["made_up"]
    assert all(np.isnan(values["absent"]) for values in scores.values())


def test_without_sheets_there_is_no_thickness_and_masks_may_be_boolean() -> None:
    mask = np.zeros(GRID.shape, dtype=bool)
    mask[2:5, 2:9, 3:8] = True
    found = score_structures(mask, mask, GRID, ("one",), ScoreSettings())
    assert {metric: values["one"] for metric, values in found.scores.items()} == {
        "dice": 1, "surface_dice": 1, "hd95_mm": 0, "assd_mm": 0, "volume_error_ml": 0, "absolute_volume_error_ml": 0,
    }  # fmt: skip
    assert found.thickness_mm == {}


def test_a_region_is_scored_as_the_union_of_its_labels() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = (np.zeros(GRID.shape, dtype=np.uint8) for _ in range(2))
    truth[2:9, 3:20, 4:25] = rng.integers(1, 4, (7, 17, 21))
    predicted[3:10, 3:22, 5:25] = rng.integers(0, 4, (7, 19, 20))
    for labels, corner in ((truth, (3, 4, 5)), (predicted, (5, 6, 7))):  # label 1 in a corner of the others
        labels[labels == 1] = 2
        labels[corner] = 1
    regions = {"whole": (1, 2, 3), "core": (3, 1), "inner": (3,)}
    settings = ScoreSettings(0.7, ("core",), tuple(regions.values()), ("a", "b", "c"))
    found = score_structures(truth, predicted, GRID, tuple(regions), settings)
    for name, labels in regions.items():
        alone = score_structures(
            np.isin(truth, labels), np.isin(predicted, labels), GRID, (name,), ScoreSettings(0.7, ("core",) if name == "core" else ())
        )
        assert {metric: values[name] for metric, values in found.scores.items() if name in values} == pytest.approx(
            {metric: values[name] for metric, values in alone.scores.items()}
        )
        assert found.volumes_ml[name] == pytest.approx(alone.volumes_ml[name])
    assert found.thickness_mm.keys() == {"core"}
