"""A trained and tested segmenter: files, figures that agree, curves, masks on the scans' own grids, and what a second run may touch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from ball_cases import affine_of, ball, run_segmentation, save_nifti, save_pair, write_csv, write_yaml
from series_files import series_in
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fuse_examples.imaging.oai_example.data.scans import read_mask, read_volume

STRUCTURES = ("ball", "core")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def dice(truth: np.ndarray, predicted: np.ndarray, label: int) -> float:
    """2 |T and P| / (|T| + |P|), written out."""
    one, other = truth == label, predicted == label
    return 2 * int((one & other).sum()) / int(one.sum() + other.sum())


# ---- figures


def test_the_segmenter_has_learnt(tested: Path) -> None:
    scores = read_json(tested / "metrics.json")["dice"]
    assert scores["ball"]["value"] > 0.6
    assert scores["mean"]["value"] > 0.3


def test_validation_and_test_score_the_same_cases_alike_but_for_the_clean_up_that_validation_chose(tested: Path) -> None:
    validation = read_json(tested.parent / "val_metrics.json")["metrics"]
    scores = read_json(tested / "metrics.json")["dice"]
    expected = [
        validation[f"val/dice/{structure}"] + max(0, validation[f"val/largest_component_gain/{structure}"]) for structure in STRUCTURES
    ]
    assert [scores[structure]["value"] for structure in STRUCTURES] == pytest.approx(expected, abs=1e-6)
    assert scores["mean"]["value"] == pytest.approx(np.mean(expected), abs=1e-6)  # every case has every structure


def test_metrics_are_the_means_of_the_table_and_the_table_is_right(tested: Path, balls: Path) -> None:
    table = pd.read_csv(tested / "predictions.csv", dtype={"PatientID": str})
    cases = pd.read_csv(balls / "cases.csv")
    scores = read_json(tested / "metrics.json")["dice"]
    assert table["PatientID"].tolist() == cases[cases["fold"] == 1]["PatientID"].tolist()
    for name in ("mean", *STRUCTURES):
        assert scores[name]["value"] == pytest.approx(table[f"dice_{name}"].mean(), abs=1e-9)
        assert scores[name]["n_cases"] == 3
    assert read_json(tested / "metrics.json")["subgroups"]["fold"]["1"]["metrics"]["dice"] == scores
    for _, row in table.iterrows():
        listed = cases.iloc[row["row"] - 2]
        assert listed["PatientID"] == row["PatientID"]
        truth: Any = nibabel.load(balls / listed["seg_path"])
        written: Any = nibabel.load(tested / row["mask"])
        found = [dice(np.asarray(truth.dataobj), np.asarray(written.dataobj), label) for label in (1, 2)]
        assert [row["dice_ball"], row["dice_core"]] == pytest.approx(found, abs=1e-9)
        assert row["dice_mean"] == pytest.approx(np.mean(found), abs=1e-9)


def test_a_written_mask_has_its_inputs_shape_and_affine(trained: Path, tested: Path, balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over cases stored as RAS, PIR, LAS, ASL and oblique: those of fold 1, and all others besides."""
    words = [f"test_ckpt={tested.parent / 'checkpoints' / 'best.ckpt'}", "train_folds=[7]", "val_folds=[8]", "test_folds=[0, 1, 2]"]
    assert run_segmentation(monkeypatch, trained, *words, "experiment=all", "allow_pretraining_overlap=true") == 0
    folder = tested.parent.parent / "all" / "test"
    cases = pd.read_csv(balls / "cases.csv")
    orders = set()
    for _, row in cases.iterrows():
        image: Any = nibabel.load(balls / row["img_path"])
        written: Any = nibabel.load(folder / "segmentations" / f"{row['PatientID']}.nii.gz")
        assert written.shape == image.shape
        assert np.allclose(written.affine, image.affine, atol=1e-5)
        assert np.issubdtype(written.get_data_dtype(), np.integer)
        orders.add(nibabel.aff2axcodes(image.affine))
        # On the structure and nowhere else: a mask that was turned or shifted would miss the bright ball.
        grey, labels = np.asarray(image.dataobj), np.asarray(written.dataobj)
        assert grey[labels > 0].mean() > 1.5 * grey[labels == 0].mean()
    assert {"".join(codes) for codes in orders} == {"RAS", "PIR", "LAS", "ASL"}


def test_the_report_and_what_belongs_to_it_are_there(tested: Path) -> None:
    report = (tested / "report.html").read_text()
    for text in ("Segmentation test: balls", "ball", "core", f"{read_json(tested / 'metrics.json')['dice']['mean']['value']:.3f}"):
        assert text in report
    assert {"worst.png", "best.png", "dice.png", "log.txt", "config.yaml", "environment.json"} <= {file.name for file in tested.iterdir()}
    assert yaml.safe_load((tested / "config.yaml").read_text())["test_folds"] == ["1"]


# ---- curves


def test_the_event_files_hold_the_named_curves_and_pictures(tested: Path) -> None:
    events = EventAccumulator(str(tested.parent), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    tags = events.Tags()
    names = {"train/loss", "train/data_wait", "train/learning_rate", "val/loss", "val/dice", "val/dice/ball", "val/dice/core"}
    assert names <= set(tags["scalars"])
    assert set(tags["images"]) == {"train/view", "val/prediction"}
    assert len(events.Scalars("val/dice")) == 12  # one for each epoch
    assert [scalar.step for scalar in events.Scalars("val/dice")] == sorted({scalar.step for scalar in events.Scalars("val/dice")})
    best = max(scalar.value for scalar in events.Scalars("val/dice"))
    assert best == pytest.approx(read_json(tested.parent / "val_metrics.json")["value"], abs=1e-6)
    assert events.Scalars("train/loss")[-1].value < events.Scalars("train/loss")[0].value
    assert all(0 <= scalar.value <= 1 for scalar in events.Scalars("train/data_wait"))
    assert events.Scalars("train/learning_rate")[-1].value < 0.01
    assert all(picture.width > 100 and picture.height > 50 for tag in tags["images"] for picture in events.Images(tag))


# ---- a second run


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def short(tmp_path: Path, balls: Path) -> Path:
    """Configuration of a run of one epoch into a results folder of its own; the store is shared with no one."""
    return write_yaml(tmp_path / "config.yaml", balls / "cases.csv", tmp_path / "results")


def test_a_test_writes_under_test_alone_and_overwriting_replaces_all(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_segmentation(monkeypatch, short) == 0
    folder = short.parent / "results" / "balls"
    (folder / "notes.txt").write_text("mine")
    before = files_of(folder)
    checkpoint = folder / "checkpoints" / "best.ckpt"

    assert run_segmentation(monkeypatch, short, f"test_ckpt={checkpoint}", "overwrite=true") == 0
    after = files_of(folder)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith("test/") for name in after.keys() - before.keys())
    assert sorted(path.name for path in (folder / "test" / "segmentations").iterdir()) == ["P09.nii.gz", "P10.nii.gz", "P11.nii.gz"]

    # Another test takes the place of the first.
    assert run_segmentation(monkeypatch, short, f"test_ckpt={checkpoint}", "val_folds=[2]", "test_folds=[1]") == 0
    assert sorted(path.name for path in (folder / "test" / "segmentations").iterdir()) == ["P06.nii.gz", "P07.nii.gz", "P08.nii.gz"]

    assert run_segmentation(monkeypatch, short, "overwrite=true", "seed=1") == 0
    anew = files_of(folder)
    assert not any(name.startswith("test/") for name in anew)
    assert anew["notes.txt"] == before["notes.txt"]
    assert anew["checkpoints/best.ckpt"][1] != before["checkpoints/best.ckpt"][1]
    assert sum(name.startswith("events.out") for name in anew) == 1


# ---- ways to train


def weights_of(folder: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "checkpoints" / name, weights_only=True)["state_dict"]
    return state


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_a_frozen_backbone_stays_as_it_was_with_its_statistics(
    short: Path, statistics: str, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backbone of a trained run goes on frozen; only its head may move."""
    weights = short.parent / "backbone.pt"
    source = weights_of(trained.parent / "results" / "balls")
    backbone = {name.removeprefix("backbone."): tensor for name, tensor in source.items() if name.startswith("backbone.")}
    torch.save({"state_dict": {f"module.backbone.{name}": tensor for name, tensor in backbone.items()}}, weights)
    words = [f"suprem_weights={weights}", "freeze_backbone=true", "n_epochs=2", f"norm_statistics={statistics}"]
    assert run_segmentation(monkeypatch, short, *words) == 0
    after = weights_of(short.parent / "results" / "balls")
    loaded = read_json(short.parent / "results" / "balls" / "load_report.json")
    assert (loaded["encoder"]["share"], loaded["decoder"]["share"]) == (1, 1)
    moved = [name for name, tensor in backbone.items() if not torch.equal(after[f"backbone.{name}"], tensor)]
    assert moved == []
    assert any(name.endswith("running_mean") for name in backbone)
    heads = [{name: state[name] for name in state if name.startswith("head.")} for state in (source, after)]
    assert all(not torch.equal(heads[0][name], heads[1][name]) for name in heads[0])


def test_patches_are_trained_on_and_windows_tested_with(short: Path, balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["resize_to=null", "patch_size=[8, 16, 8]", "patches_per_case=2", "n_epochs=2"]
    assert run_segmentation(monkeypatch, short, *words) == 0
    folder = short.parent / "results" / "balls"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["spacing"] == [2.0, 1.0, 1.25]  # the median of the training cases along RAS axes
    assert read_json(folder / "val_metrics.json")["step"] in (6, 12)  # 6 cases, 2 patches each, batches of 2
    assert run_segmentation(monkeypatch, short, f"test_ckpt={folder / 'checkpoints' / 'last.ckpt'}") == 0
    tested = yaml.safe_load((folder / "test" / "config.yaml").read_text())
    assert (tested["resize_to"], tested["patch_size"], tested["spacing"]) == (None, [8, 16, 8], [2.0, 1.0, 1.25])
    for path in (folder / "test" / "segmentations").iterdir():
        number = int(path.name[1:3])
        assert nibabel.load(path).shape == nibabel.load(balls / "scans" / f"case_{number}_image.nii.gz").shape


def test_masks_can_take_their_images_place(short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks that say they lie 50 mm away train and test as those that say where they are."""
    rows: dict[str, list[list[object]]] = {"right": [], "away": []}
    for number in range(3):
        image, mask = save_pair(tmp_path / "scans", f"case_{number}", number, "PIR")
        away = affine_of()
        away[:3, 3] += 50
        elsewhere = save_nifti(tmp_path / "scans" / f"away_{number}.nii.gz", ball(number)[1], away, "PIR")
        rows["right"].append([f"P{number}", image, mask, number])
        rows["away"].append([f"P{number}", image, elsewhere, number])
    scores = {}
    for name, table in rows.items():
        csv = write_csv(tmp_path / f"{name}.csv", table)
        words = [f"csv_path={csv}", f"experiment={name}", "mask_affine=from_image"]
        assert run_segmentation(monkeypatch, short, *words) == 0
        assert run_segmentation(monkeypatch, short, *words, f"test_ckpt={tmp_path}/results/{name}/checkpoints/last.ckpt") == 0
        scores[name] = read_json(tmp_path / "results" / name / "test" / "metrics.json")["dice"]
    assert scores["right"] == scores["away"]
    states = [weights_of(tmp_path / "results" / name) for name in rows]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


# ---- DICOM and NIfTI


def nifti_of(folder: Path, path: Path, read: Callable[[Path], Any], codes: str) -> Path:
    volume = read(folder)
    return save_nifti(path, np.ascontiguousarray(volume.array), volume.affine, codes)


@pytest.mark.parametrize("method", ["percentile", "zscore"])
@pytest.mark.parametrize("patches", [False, True])
def test_a_dicom_folder_and_its_nifti_are_segmented_alike(
    short: Path, tmp_path: Path, method: str, patches: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sagittal series of 0.7 mm pixels, image and mask, and NIfTIs of them in another axis order: voxel for voxel the same labels."""
    rows: dict[str, list[list[object]]] = {"dicom": [], "nifti": []}
    for number in range(3):
        image, mask = (np.ascontiguousarray(array.transpose(0, 2, 1)[:, ::-1]) for array in ball(number, (14, 25, 19)))
        folders = []
        for what, array in (("image", image), ("mask", mask.astype(np.int16))):
            folders.append(series_in(tmp_path / f"{what}_{number}", array, spacing=(0.7, 0.7), along=2.2))
        names = [tmp_path / f"{what}_{number}.nii.gz" for what in ("image", "mask")]
        niftis = [nifti_of(f, name, read, "PIR") for f, name, read in zip(folders, names, (read_volume, read_mask), strict=True)]
        rows["dicom"].append([f"P{number}", *folders, number])
        rows["nifti"].append([f"P{number}", *niftis, number])
    tables = {name: write_csv(tmp_path / f"{name}.csv", table) for name, table in rows.items()}
    settings = ["resize_to=null", "patch_size=[8, 16, 16]", "spacing=[2, 1, 1]"] if patches else []
    assert run_segmentation(monkeypatch, short, f"csv_path={tables['dicom']}", f"intensity.method={method}", "n_epochs=3", *settings) == 0
    checkpoint = tmp_path / "results" / "balls" / "checkpoints" / "last.ckpt"
    labels = {}
    for name, table in tables.items():
        assert run_segmentation(monkeypatch, short, f"csv_path={table}", f"experiment={name}", f"test_ckpt={checkpoint}") == 0
        labels[name] = read_mask(tmp_path / "results" / name / "test" / "segmentations" / "P2.nii.gz").array
    assert 0 < np.count_nonzero(labels["dicom"]) < labels["dicom"].size
    assert np.array_equal(labels["dicom"], labels["nifti"])
    written: Any = nibabel.load(tmp_path / "results" / "nifti" / "test" / "segmentations" / "P2.nii.gz")
    assert "".join(nibabel.aff2axcodes(written.affine)) == "PIR"
    scores = [read_json(tmp_path / "results" / name / "test" / "metrics.json")["dice"] for name in tables]
    assert scores[0] == scores[1]


@pytest.mark.real_data
@pytest.mark.slow
def test_real_dicom_folders_and_their_niftis_are_segmented_alike(
    trained: Path, tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each shared DICOM folder that has a reference by an independent converter; any mask on its grid will do."""
    checkpoint = trained.parent / "results" / "balls" / "checkpoints" / "last.ckpt"
    rows: dict[str, list[list[object]]] = {"dicom": [], "nifti": []}
    for reference in sorted((real_data / "dicom").glob("*_reference.nii.gz")):
        name = reference.name.removesuffix("_reference.nii.gz")
        volume = read_volume(reference)
        mask = save_nifti(tmp_path / f"{name}.nii.gz", (volume.array > np.median(volume.array)).astype(np.uint8), volume.affine)
        rows["dicom"].append([name, reference.with_name(name), mask, 2])
        rows["nifti"].append([name, reference, mask, 2])
    assert len(rows["dicom"]) >= 4
    for form, table in rows.items():
        csv = write_csv(tmp_path / f"{form}.csv", table)
        words = [f"csv_path={csv}", f"results_dir={tmp_path}", f"experiment={form}", f"test_ckpt={checkpoint}"]
        assert run_segmentation(monkeypatch, trained, *words) == 0
    for name, *_ in rows["dicom"]:
        one, other = (read_mask(tmp_path / form / "test" / "segmentations" / f"{name}.nii.gz").array for form in rows)
        assert np.array_equal(one, other), name


def test_sizes_that_are_left_open_are_planned_and_kept(
    short: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_words = ("resize_to=null", "batch_size=null")
    assert run_segmentation(monkeypatch, short, *open_words, "--check") == 0
    printed = capsys.readouterr().out
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("planned:")] == ["spacing", "patch_size", "batch_size"]
    assert run_segmentation(monkeypatch, short, *open_words) == 0
    folder = short.parent / "results" / "balls"
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    assert (kept["resize_to"], kept["batch_size"]) == (None, 2)
    assert all(length % 8 == 0 for length in kept["patch_size"])
    assert f"planned: patch_size {kept['patch_size']}" in (folder / "log.txt").read_text()
    resumed = (*open_words, f"resume_training_from={folder / 'checkpoints' / 'last.ckpt'}", "n_epochs=2")
    assert run_segmentation(monkeypatch, short, *resumed) == 0
    assert yaml.safe_load((folder / "config.yaml").read_text())["patch_size"] == kept["patch_size"]
    assert run_segmentation(monkeypatch, short, *open_words, f"test_ckpt={folder / 'checkpoints' / 'best.ckpt'}") == 0
    assert yaml.safe_load((folder / "test" / "config.yaml").read_text())["patch_size"] == kept["patch_size"]
