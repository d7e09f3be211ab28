"""predict.py: what a test gives, for scans without masks, classes and folds."""

import csv
import errno
import hashlib
import os
import pickle
import re
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import ball_cases
import highdicom
import nibabel
import numpy as np
import predicting
import pydicom
import pytest
import small_stages
import torch
from nibabel.affines import apply_affine
from PIL import Image

from fuse_examples.imaging.oai_example.configuration.structure_codes import read_structure_codes
from fuse_examples.imaging.oai_example.data.scan_list import list_scans
from fuse_examples.imaging.oai_example.data.scans import read_mask, read_volume
from fuse_examples.imaging.oai_example.stages import prediction

ROOT = Path(__file__).parents[2]
STRUCTURES = ("ball", "core")


@pytest.fixture(scope="module")
def segmenter(trained: Path) -> Path:
    return trained.parent / "results" / "balls" / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten DICOM series in a tree."""
    root = tmp_path_factory.mktemp("series")
    for number in range(10):
        predicting.write_series(root / f"study_{number // 5}" / f"knee {number}", number)
    return root


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table for classifiers."""
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"), 4)


@pytest.fixture(scope="module")
def classifiers(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Checkpoints of three runs that differ in their seed."""
    results = tmp_path_factory.mktemp("classifiers")
    settings = {"cls_targets": ["size", "tone"], "learning_rate": 3e-3}
    runs = [small_stages.run("classification", scans, results, experiment=f"run_{seed}", seed=seed, **settings) for seed in range(3)]
    return [run / "checkpoints" / "best.ckpt" for run in runs]


def masks(folder: Path) -> dict[str, Any]:
    return {file.name: nibabel.load(file) for file in sorted((folder / "segmentations").iterdir())}


# ---- what a test gives


def test_masks_are_those_of_a_test(segmenter: Path, trained: Path, balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [f"test_ckpt={segmenter}", "train_folds=[7]", "val_folds=[8]", "test_folds=[0, 1, 2]", f"results_dir={tmp_path}"]
    assert ball_cases.run_segmentation(monkeypatch, trained, *words, "allow_pretraining_overlap=true") == 0
    table = [{"PatientID": row["PatientID"], "img_path": row["img_path"]} for row in csv.DictReader((balls / "cases.csv").open())]
    scans = small_stages.write_table(balls / "images.csv", table)
    folder = predicting.run(segmenter, scans, tmp_path / "predicted")
    tested, predicted = masks(tmp_path / "balls" / "test"), masks(folder)
    assert list(predicted) == list(tested)
    assert len(predicted) == 12
    for name, mask in predicted.items():
        assert np.array_equal(np.asarray(mask.dataobj), np.asarray(tested[name].dataobj))
        assert np.array_equal(mask.affine, tested[name].affine)
        assert np.asarray(mask.dataobj).any()


@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_probabilities_are_those_of_a_test(count: int, classifiers: list[Path], scans: Path, tmp_path: Path) -> None:
    chosen = [str(path) for path in classifiers[:count]]
    words = {"cls_targets": ["size", "tone"], "test_folds": [0, 1, 2], "train_folds": [7], "val_folds": [8]}
    run = small_stages.run(
        "classification", scans, tmp_path, test_ckpt=chosen, experiment="tested", allow_pretraining_overlap=True, **words
    )
    tested = list(csv.DictReader((run / "test" / "predictions.csv").open()))
    predicted = predicting.rows(predicting.run(classifiers[:count], scans, tmp_path / "predicted"))
    columns = [name for name in predicted[0] if "_probability_" in name or name.endswith("_predicted")]
    assert len(columns) == 6
    assert [[row[name] for name in ("case", "PatientID", *columns)] for row in predicted] == [
        [row[name] for name in ("case", "PatientID", *columns)] for row in tested
    ]


@pytest.mark.slow
def test_three_checkpoints_give_the_mean_of_their_probabilities(classifiers: list[Path], scans: Path, tmp_path: Path) -> None:
    single = [predicting.rows(predicting.run(path, scans, tmp_path / f"{place}")) for place, path in enumerate(classifiers)]
    together = predicting.rows(predicting.run(classifiers, scans, tmp_path / "together"))
    for name in ("size_probability_large", "size_probability_small", "tone_probability_dark"):
        columns = np.array([[float(row[name]) for row in rows] for rows in single])
        assert np.ptp(columns, axis=0).min() > 0  # the three do differ
        assert [float(row[name]) for row in together] == pytest.approx(columns.sum(axis=0) / 3, abs=1e-12)
    assert [entry["path"] for entry in predicting.record(tmp_path / "together")["checkpoints"]] == list(map(str, classifiers))


@pytest.mark.slow
def test_segmenters_together_are_tested_and_predict_alike(
    segmenter: Path, trained: Path, balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = segmenter.with_name("last.ckpt")
    words = [f"test_ckpt=[{segmenter}, {last}]", "test_folds=[2]", f"results_dir={tmp_path}"]
    assert ball_cases.run_segmentation(monkeypatch, trained, *words) == 0
    folder = predicting.run([segmenter, last], balls / "cases.csv", tmp_path / "predicted")
    tested, predicted = masks(tmp_path / "balls" / "test"), masks(folder)
    assert len(tested) == 3
    for name, mask in tested.items():
        assert np.array_equal(np.asarray(mask.dataobj), np.asarray(predicted[name].dataobj))


# ---- what comes in


def test_a_tree_of_series_one_of_which_is_broken(segmenter: Path, series: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(series, tree)
    broken = sorted((tree / "study_1" / "knee 7").iterdir())[4]
    broken.write_bytes(broken.read_bytes()[:-100])
    assert predicting.start("--checkpoint", segmenter, "--input", tree, "--output", tmp_path / "out", "--no-overlays") == 2
    said = capsys.readouterr()
    assert "9 of 10 scans predicted" in said.out
    assert f"study_1_knee_7: image {broken}: the DICOM file is truncated" in said.err
    assert said.err.rstrip().endswith(f"1 scan could not be used; the others are in {tmp_path / 'out'}.")
    names = [f"study_{number // 5}_knee_{number}" for number in range(10) if number != 7]
    assert [row["case"] for row in predicting.rows(tmp_path / "out")] == names
    assert sorted(path.name for path in (tmp_path / "out" / "segmentations").iterdir()) == [f"{name}.nii.gz" for name in names]
    assert len(list((tmp_path / "out" / "dicom_seg").iterdir())) == 9
    (bad,) = csv.DictReader((tmp_path / "out" / "bad_cases.csv").open())
    assert bad["case"] == "study_1_knee_7"
    found = predicting.record(tmp_path / "out")
    assert found["complete"] is True
    assert [entry["case"] for entry in found["bad_cases"]] == ["study_1_knee_7"]
    assert not list((tmp_path / "out").glob(".working*"))


def test_a_mask_lies_on_the_ball_of_a_series(segmenter: Path, series: Path, tmp_path: Path) -> None:
    folder = predicting.run(segmenter, series / "study_0" / "knee 3", tmp_path / "out")
    ((name, mask),) = masks(folder).items()
    assert name == "knee_3.nii.gz"
    scan = read_volume(series / "study_0" / "knee 3")
    seg = highdicom.seg.segread(folder / "dicom_seg" / "knee_3.dcm").get_volume(combine_segments=True, allow_missing_positions=True)
    there = apply_affine(np.diag([-1, -1, 1, 1]) @ seg.affine, np.argwhere(seg.array == 1))
    here = apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj) == 1))
    assert len(there) == len(here) > 100
    assert np.abs(there[np.lexsort(there.round(2).T)] - here[np.lexsort(here.round(2).T)]).max() < 1e-3  # mm
    labels = read_mask(folder / "segmentations" / name)
    assert mask.shape == scan.source.shape
    assert np.allclose(mask.affine, scan.source.affine, atol=1e-5)
    assert scan.array[labels.array > 0].mean() > 1.5 * scan.array[labels.array == 0].mean()


def test_a_single_file_a_mixed_tree_and_a_table_of_paths_alone(segmenter: Path, series: Path, balls: Path, tmp_path: Path) -> None:
    image = balls / "scans" / "case_0_image.nii.gz"
    whole = np.asarray(masks(predicting.run(segmenter, image, tmp_path / "single"))["case_0_image.nii.gz"].dataobj)
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    shutil.copy(image, tree / "a" / "scan.nii.gz")
    shutil.copy(image, tree / "A_scan.nii.gz")  # on some systems the same name as the other's
    shutil.copytree(series / "study_0" / "knee 3", tree / "b")
    (tree / "notes").mkdir()
    (tree / "notes" / "readme.txt").write_text("no scan")
    folder = predicting.run(segmenter, tree, tree / "predictions")
    assert {row["case"]: row["path"] for row in predicting.rows(folder)} == {
        "A_scan": str(tree / "A_scan.nii.gz"),
        "a_scan_2": str(tree / "a" / "scan.nii.gz"),
        "b": str(tree / "b"),
    }
    assert np.array_equal(np.asarray(masks(folder)["a_scan_2.nii.gz"].dataobj), whole)
    again = predicting.run(segmenter, tree, tree / "predictions", "--overwrite", "--no-overlays")  # what lies there is no input
    assert len(predicting.rows(again)) == 3
    table = small_stages.write_table(tmp_path / "paths.csv", [{"path": image}, {"path": "tree/b"}])
    rows = predicting.rows(predicting.run(segmenter, table, tmp_path / "table"))
    assert [(row["case"], row["PatientID"]) for row in rows] == [("case_0_image", ""), ("b", "")]


def test_a_folder_of_files_that_are_no_scan_is_told(
    segmenter: Path, balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = tmp_path / "tree"
    (tree / "lost").mkdir(parents=True)
    (tree / "lost" / "IM0001").write_bytes(b"")
    shutil.copy(balls / "scans" / "case_0_image.nii.gz", tree / "scan.nii.gz")
    assert predicting.start("--checkpoint", segmenter, "--input", tree, "--output", tmp_path / "out", "--no-overlays") == 2
    assert f"{tree / 'lost'}: holds no DICOM image and no NIfTI file, but 1 other, such as IM0001" in capsys.readouterr().err
    assert len(predicting.rows(tmp_path / "out")) == 1
    shutil.rmtree(tree)
    tree.mkdir()
    assert predicting.start("--checkpoint", segmenter, "--input", tree, "--output", tmp_path / "none") == 2
    assert f"--input: {tree} holds no DICOM image and no NIfTI file" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_opened_is_told_and_the_others_are_searched(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, scandir = tmp_path / "closed", os.scandir
    closed.mkdir()
    shutil.copy(balls / "scans" / "case_0_image.nii.gz", tmp_path / "scan.nii.gz")

    def refusing(folder: Any) -> Any:
        if Path(folder) == closed:
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    found = list_scans(tmp_path, leave_out=tmp_path / "out")
    assert [case.name for case in found.cases] == ["scan"]
    assert found.unusable == ((closed, f"{closed}: cannot be searched (Permission denied)."),)


@pytest.mark.slow
def test_the_commands_of_the_documents_run(
    segmenter: Path, classifiers: list[Path], series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, checkpoint in {
        "knee_segmentation": segmenter,
        "five_folds/fold_1": segmenter,
        "five_folds/fold_2": segmenter.with_name("last.ckpt"),
        "knee_classification": classifiers[0],
    }.items():
        (tmp_path / "results" / name / "checkpoints").mkdir(parents=True)
        (tmp_path / "results" / name / "checkpoints" / "best.ckpt").symlink_to(checkpoint)
    shutil.copytree(series / "study_0" / "knee 1", tmp_path / "scans" / "knee 1")
    (tmp_path / "codes.yaml").write_text("ball:\n  type: [71341001, SCT, Femur]\n")
    monkeypatch.chdir(tmp_path)
    lines = [line for file in ("README.md", "docs/prediction.md") for line in (ROOT / file).read_text().splitlines()]
    commands = list(dict.fromkeys(line for line in lines if line.startswith("python") and "downstream/predict.py" in line))
    assert len(commands) == 4
    for command in commands:
        words = shlex.split(command)[2:]
        assert predicting.start(*words, "--no-overlays") == 0, command
        assert Path(words[words.index("--output") + 1], "predictions.csv").exists()
    seg = pydicom.dcmread("coded/dicom_seg/knee_1.dcm")
    assert [one.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for one in seg.SegmentSequence] == ["Femur", "Tissue"]


def test_the_codes_of_the_document_can_be_read(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "prediction.md").read_text(), re.S)
    (tmp_path / "codes.yaml").write_text(block)
    found = read_structure_codes(tmp_path / "codes.yaml", ["femur", "tibia", "femoral_cartilage"])
    assert [code.type.meaning for code in found.values()] == ["Femur", "Tibia", "Cartilage"]
    assert [code.category.meaning for code in found.values()] == ["Anatomical Structure", "Anatomical Structure", "Tissue"]


# ---- what lies there afterwards


def test_pictures_and_the_record(segmenter: Path, classifiers: list[Path], balls: Path, tmp_path: Path) -> None:
    image = balls / "scans" / "case_1_image.nii.gz"
    folder = predicting.run(segmenter, image, tmp_path / "masks", "--no-dicom-seg")
    found = predicting.record(folder)
    assert found["stage"] == "segmentation"
    assert found["checkpoints"] == [{"path": str(segmenter), "sha256": hashlib.sha256(segmenter.read_bytes()).hexdigest()}]
    assert found["settings"]["resize_to"] == [16, 16, 16]
    assert found["environment"]["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    ((_, mask),) = masks(folder).items()
    voxel = np.prod(mask.header.get_zooms()) / 1000
    volumes = {name: (np.asarray(mask.dataobj) == label).sum() * voxel for label, name in enumerate(STRUCTURES, start=1)}
    (case,) = found["cases"]
    assert case["volumes_ml"] == pytest.approx(volumes, rel=1e-5)
    assert [float(predicting.rows(folder)[0][f"{name}_volume_ml"]) for name in STRUCTURES] == list(case["volumes_ml"].values())
    with Image.open(folder / case["overlay"]) as picture:
        assert picture.width > 1000
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    assert (0x56, 0xB4, 0xE9) in colours  # the ball's outline
    classified = predicting.run(classifiers[0], image, tmp_path / "classes", "--no-dicom-seg")
    (case,) = predicting.record(classified)["cases"]
    assert set(case["probabilities"]) == {"size", "tone"}
    assert sum(case["probabilities"]["size"].values()) == pytest.approx(1)
    assert "mask" not in case
    with Image.open(classified / case["overlay"]) as picture:
        assert picture.width > picture.height  # one row of planes, no mask


def test_a_second_prediction_is_refused_unless_it_may_replace_the_first(
    segmenter: Path, balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = balls / "scans"
    table = small_stages.write_table(tmp_path / "two.csv", [{"path": scans / f"case_{n}_image.nii.gz"} for n in range(2)])
    folder = predicting.run(segmenter, table, tmp_path / "out")
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    words = ["--checkpoint", segmenter, "--input", scans / "case_0_image.nii.gz", "--output", folder]
    assert predicting.start(*words) == 2
    assert f"--output: {folder} already holds a prediction" in capsys.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before
    (folder / "mine.txt").write_text("kept")
    assert predicting.start(*words, "--overwrite", "--no-overlays") == 0
    assert [file.name for file in (folder / "segmentations").iterdir()] == ["case_0_image.nii.gz"]  # the other is gone
    assert (folder / "mine.txt").exists()
    (folder / "prediction.json").unlink()  # as in the folder of a test
    assert predicting.start(*words, "--overwrite") == 2
    assert "of something else than a prediction" in capsys.readouterr().err


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_what_was_done(
    signum: int, code: int, segmenter: Path, balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prediction._predict_one

    def until_the_second(*given: Any) -> Any:
        if given[-1].row == 3:
            os.kill(os.getpid(), signum)
        return one(*given)

    monkeypatch.setattr(prediction, "_predict_one", until_the_second)
    words = ["--checkpoint", segmenter, "--input", balls / "cases.csv", "--output", tmp_path / "out", "--no-overlays"]
    assert predicting.start(*words) == code
    assert [row["case"] for row in predicting.rows(tmp_path / "out")] == ["P00"]
    assert predicting.record(tmp_path / "out")["complete"] is False
    assert not list((tmp_path / "out").glob(".working*"))


def failing_at(monkeypatch: pytest.MonkeyPatch, errors: dict[int, Exception]) -> list[int]:
    """Make the scans of these rows fail while they are written; return the rows that were begun."""
    one, begun = prediction._predict_one, []

    def failing(*given: Any) -> Any:
        begun.append(given[-1].row)
        if given[-1].row in errors:
            raise errors[given[-1].row]
        return one(*given)

    monkeypatch.setattr(prediction, "_predict_one", failing)
    return begun


def test_a_full_disk_ends_it_with_a_message_and_a_table_of_what_was_done(
    segmenter: Path, balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = tmp_path / "out" / "segmentations" / "P01.nii.gz"
    begun = failing_at(monkeypatch, {3: OSError(errno.ENOSPC, "No space left on device", mask)})
    assert predicting.start("--checkpoint", segmenter, "--input", balls / "cases.csv", "--output", tmp_path / "out", "--no-overlays") == 2
    said = capsys.readouterr().err
    assert f"{mask}: cannot be written: No space left on device. Make room there" in said
    assert "Traceback" not in said
    assert begun == [2, 3]  # the next ones would fail too
    assert [row["case"] for row in predicting.rows(tmp_path / "out")] == ["P00"]
    assert predicting.record(tmp_path / "out")["complete"] is False


def test_a_scan_beside_the_window_is_no_case_of_a_run_and_is_not_predicted(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = {"intensity": {"method": "window", "window": [-2000, -1000]}}
    assert small_stages.start("classification", scans, tmp_path / "beside", "--check", **beside) == 2
    assert "all lie above intensity.window [-2000.0, -1000.0]" in capsys.readouterr().err
    run = small_stages.run("classification", scans, tmp_path / "runs", intensity={"method": "window", "window": [0, 1000]})
    whole = nibabel.load(scans.parent / "scan00.nii.gz")
    (tmp_path / "new").mkdir()
    for name, offset in (("in", 0), ("out", 2000)):
        nibabel.save(nibabel.Nifti1Image(whole.get_fdata().astype(np.int16) + offset, whole.affine), tmp_path / "new" / f"{name}.nii.gz")
    words = ("--checkpoint", run / "checkpoints" / "last.ckpt", "--input", tmp_path / "new", "--output", tmp_path / "out", "--no-overlays")
    assert predicting.start(*words) == 2
    assert re.search(r"out: .*out.nii.gz: its values, \d+ to \d+, all lie above intensity.window \[0.0, 1000.0\]", capsys.readouterr().err)
    assert [row["case"] for row in predicting.rows(tmp_path / "out")] == ["in"]


def test_a_scan_that_fails_in_a_way_nobody_thought_of_does_not_take_the_others_with_it(
    segmenter: Path, balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 TB")
    failing_at(monkeypatch, {2: MemoryError("Unable to allocate 64.0 TiB"), 3: ZeroDivisionError("division by zero"), 4: memory})
    table = small_stages.write_table(tmp_path / "four.csv", [{"path": balls / "scans" / f"case_{n}_image.nii.gz"} for n in range(4)])
    assert predicting.start("--checkpoint", segmenter, "--input", table, "--output", tmp_path / "out", "--no-overlays") == 2
    told = capsys.readouterr().err.splitlines()[-4:]
    assert told[0] == ("case_0_image: takes more memory than there is (Unable to allocate 64.0 TiB). Crop it or use a machine with more.")
    assert told[1] == (
        "case_1_image: a mistake of this program (ZeroDivisionError: division by zero). Please report it with the traceback in log.txt."
    )
    assert told[2].startswith("case_2_image: takes more memory than there is")
    assert told[3] == f"3 scans could not be used; the others are in {tmp_path / 'out'}."
    assert "Traceback (most recent call last):" in (tmp_path / "out" / "log.txt").read_text()
    assert [row["case"] for row in predicting.rows(tmp_path / "out")] == ["case_3_image"]


# ---- mistakes


def test_checkpoints_that_cannot_predict(
    segmenter: Path, classifiers: list[Path], balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Code:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    evil, other, pretrained = (tmp_path / f"{name}.ckpt" for name in ("evil", "other", "dino"))
    evil.write_bytes(pickle.dumps(Code()))
    torch.save({"state_dict": {}}, other)
    content = torch.load(segmenter, weights_only=True)
    content["project"]["stage"] = "dino"
    torch.save(content, pretrained)
    words = ["--input", balls / "cases.csv", "--output", tmp_path / "out"]
    assert predicting.start("--checkpoint", evil, other, pretrained, *words) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3
    assert "Nothing in it was run" in told[0] or "nothing in it was run" in told[0]
    assert "was not written by a run of this project" in told[1]
    assert told[2].startswith(f"--checkpoint: {pretrained} is a checkpoint of dino, which predicts no masks")
    assert not (tmp_path / "executed").exists()
    assert predicting.start("--checkpoint", segmenter, classifiers[0], *words) == 2
    assert "checkpoints of several stages cannot be averaged" in capsys.readouterr().err
    content["project"]["stage"] = "segmentation"
    content["project"]["config"]["overlap"] = 7
    torch.save(content, pretrained)
    assert predicting.start("--checkpoint", pretrained, *words) == 2
    assert "was made with settings that this version does not take: overlap" in capsys.readouterr().err
    content["project"]["config"]["overlap"] = 0.5
    content["project"]["preprocessing"]["resize_to"] = [24, 24, 24]
    torch.save(content, pretrained)
    assert predicting.start("--checkpoint", segmenter, pretrained, *words) == 2
    assert "cannot be averaged, they differ in resize_to: [16, 16, 16] and [24, 24, 24]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_network_that_sees_columns_needs_a_table(scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(scans.open()))
    table = small_stages.write_table(scans.with_name("ages.csv"), [{**row, "age": 50 + place} for place, row in enumerate(rows)])
    run = small_stages.run("classification", table, tmp_path / "results", covariates={"age": "numeric"}, covariate_input=True)
    checkpoint = run / "checkpoints" / "best.ckpt"
    assert predicting.start("--checkpoint", checkpoint, "--input", scans.parent, "--output", tmp_path / "out") == 2
    assert "is no table, and the checkpoint's network takes more than one image of a case: age" in capsys.readouterr().err
    assert predicting.start("--checkpoint", checkpoint, "--input", scans, "--output", tmp_path / "out") == 2
    assert "has no column age" in capsys.readouterr().err
    small_stages.write_table(scans.with_name("wrong.csv"), [{"path": row["path"], "age": "old"} for row in rows[:1]])
    assert predicting.start("--checkpoint", checkpoint, "--input", scans.with_name("wrong.csv"), "--output", tmp_path / "out") == 2
    assert "the covariate age is 'old' in row 2" in capsys.readouterr().err
    old, young = (predicting.rows(predicting.run(checkpoint, one, tmp_path / one.stem)) for one in _ages(table, rows))
    assert old[0]["size_probability_large"] != young[0]["size_probability_large"]


def _ages(table: Path, rows: list[dict[str, str]]) -> list[Path]:
    return [small_stages.write_table(table.with_name(f"age_{age}.csv"), [{"path": rows[0]["path"], "age": age}]) for age in (30, 80)]
