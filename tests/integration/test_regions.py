"""Structures that overlap: trained each on its own, written as one label a voxel, scored and predicted as unions of labels."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import predicting
import pytest
import small_stages
import torch
from scipy.ndimage import binary_erosion

REGIONS = {"whole": [1, 2, 3], "core": [1, 3], "inner": [3]}  # in the masks of brain tumours the core is no run of labels either
WRITTEN = {"whole": 2, "core": 1, "inner": 3}
SETTINGS = {"num_classes": 4, "structure_names": ["necrosis", "oedema", "enhancing"], "activation": "sigmoid", "regions": REGIONS}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Balls whose shells have labels of their own, from outside: 2, 1, 3."""
    table = small_stages.write_cases(tmp_path_factory.mktemp("scans"), 4)
    for path in table.parent.glob("mask_*"):
        mask = nib.load(path)
        ball = np.asanyarray(mask.dataobj) > 0
        labels = ball * 2
        labels[binary_erosion(ball, iterations=1)] = 1
        labels[binary_erosion(ball, iterations=2)] = 3
        nib.save(nib.Nifti1Image(labels.astype(np.uint8), mask.affine), path)
    return table


@pytest.fixture(scope="module")
def trained(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    more = {"n_epochs": 12, "learning_rate": 0.02, "width": 4, "augmentation": {"probability": 0.0}}
    return small_stages.run("segmentation", cases, tmp_path_factory.mktemp("results"), **SETTINGS, **more)


@pytest.fixture(scope="module")
def tested(trained: Path, cases: Path) -> Path:
    ckpt = str(trained / "checkpoints" / "best.ckpt")
    return small_stages.run("segmentation", cases, trained.parent, experiment="tested", test_ckpt=ckpt, num_classes=4) / "test"


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_the_network_has_an_output_for_each_region(trained: Path) -> None:
    state = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert state["head.conv.weight"].shape[0] == 3
    logged = next(csv.DictReader((trained / "history.csv").open()))
    assert {"val/dice/whole", "val/dice/core", "val/dice/inner"} <= logged.keys()
    assert "val/dice/oedema" not in logged


def test_masks_have_labels_and_scores_are_of_their_unions(tested: Path, cases: Path) -> None:
    metrics = small_stages.read_json(tested / "metrics.json")
    assert metrics["structures"] == list(REGIONS)
    assert metrics["labels"] == SETTINGS["structure_names"]
    assert metrics["regions"] == REGIONS
    found: set[int] = set()
    for row in csv.DictReader((tested / "predictions.csv").open()):
        predicted = np.asanyarray(nib.load(tested / row["mask"]).dataobj)
        truth = np.asanyarray(nib.load(cases.parent / f"mask_{row['case'].replace('subject', 'scan')}.nii.gz").dataobj)
        found |= set(np.unique(predicted).tolist())
        for name, labels in REGIONS.items():
            assert float(row[f"dice_{name}"]) == pytest.approx(dice(np.isin(truth, labels), np.isin(predicted, labels)))
        assert float(row["dice_whole"]) > 0.5
        assert float(row["true_volume_ml_core"]) == pytest.approx(np.isin(truth, REGIONS["core"]).sum() * 2 / 1000)
    assert found <= {0, *WRITTEN.values()}
    assert len(found) >= 3
    report = (tested / "report.html").read_text()
    legend = report.split('<ul class="legend">')[1].split("</ul>")[0]  # of the pictures, which show labels
    assert all(name in legend for name in SETTINGS["structure_names"])
    assert not any(name in legend for name in REGIONS)


def test_new_scans_have_volumes_of_labels_and_regions(trained: Path, tested: Path, cases: Path, tmp_path: Path) -> None:
    scan = cases.parent / "scan08.nii.gz"
    output = predicting.run(trained / "checkpoints" / "best.ckpt", scan, tmp_path / "out")
    (row,) = predicting.rows(output)
    labels = np.asanyarray(nib.load(output / row["mask"]).dataobj)
    assert np.array_equal(labels, np.asanyarray(nib.load(tested / "segmentations" / "subject08.nii.gz").dataobj))
    measured = {name: [label] for label, name in enumerate(SETTINGS["structure_names"], start=1)} | REGIONS
    assert {name: float(row[f"{name}_volume_ml"]) for name in measured} == pytest.approx(
        {name: np.isin(labels, of).sum() * 2 / 1000 for name, of in measured.items()}
    )


def test_two_checkpoints_write_the_same_way(trained: Path, tested: Path, cases: Path) -> None:
    ckpt = str(trained / "checkpoints" / "best.ckpt")
    last = str(trained / "checkpoints" / "last.ckpt")
    both = small_stages.run("segmentation", cases, trained.parent, experiment="both", test_ckpt=[ckpt, last], num_classes=4) / "test"
    assert small_stages.read_json(both / "metrics.json")["structures"] == list(REGIONS)
    values = {label for path in (both / "segmentations").iterdir() for label in np.unique(np.asanyarray(nib.load(path).dataobj)).tolist()}
    assert values <= {0, 1, 2, 3}
    assert small_stages.read_json(both / "metrics.json")["dice"]["whole"]["value"] > 0.5
