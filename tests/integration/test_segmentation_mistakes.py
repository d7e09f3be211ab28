"""Mistakes a user can make with segmentation.py: exit code 2, no traceback, and a message that names the place and the remedy."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ball_cases
import numpy as np
import pytest
import torch
import yaml
from ball_cases import affine_of, ball, save_nifti, save_pair, write_csv, write_yaml

from fuse_examples.imaging.oai_example.downstream import segmentation

Row = list[Any]


class Attempt:
    """A run in a folder of its own, with three good cases (CSV lines 2, 3 and 4 in folds 0, 1 and 2), and what it says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys
        self.csv, self.yaml, self.results = folder / "cases.csv", folder / "config.yaml", folder / "results"
        self.settings: dict[str, Any] = {}
        self.rows: list[Row] = []
        for fold in range(3):
            image, mask = save_pair(folder, f"case_{fold}", fold)
            self.rows.append([f"P{fold}", image.name, mask.name, fold])

    def refused(self, *words: str, line: str = "", says: Sequence[str]) -> str:
        """Run; expect code 2 and each text of `says` on standard error, on one line that starts with `line` if that is given."""
        write_csv(self.csv, self.rows)
        write_yaml(self.yaml, self.csv, self.results, self.settings)
        code = ball_cases.run_segmentation(self.monkeypatch, self.yaml, *words)
        errors = self.capsys.readouterr().err
        assert code == 2, errors
        assert "Traceback" not in errors
        place = [found for found in errors.splitlines() if found.startswith(line)]
        assert place, errors
        for text in says:
            assert any(text in found for found in (place if line else [errors])), (text, errors)
        return errors

    def yaml_line(self, key: str) -> int:
        """The line of the configuration on which `key` stands."""
        return 1 + next(number for number, text in enumerate(self.yaml.read_text().splitlines()) if text.startswith(f"{key}:"))


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Attempt:
    return Attempt(tmp_path, monkeypatch, capsys)


def test_the_three_cases_are_good(attempt: Attempt) -> None:
    write_csv(attempt.csv, attempt.rows)
    write_yaml(attempt.yaml, attempt.csv, attempt.results)
    assert ball_cases.run_segmentation(attempt.monkeypatch, attempt.yaml) == 0


def test_a_patient_in_two_folds(attempt: Attempt) -> None:
    attempt.rows[1][0] = "P0"
    errors = attempt.refused(line=f"{attempt.csv}: patient P0", says=["train (row 2)", "val (row 3)"])
    assert "allow_patient_overlap: true" in errors


def test_missing_files_are_all_named(attempt: Attempt) -> None:
    attempt.rows[0][2], attempt.rows[1][1] = "nowhere.nii.gz", "scans/absent"
    attempt.refused(line=f"{attempt.csv}:2: patient P0", says=["nowhere.nii.gz", "does not exist"])
    attempt.refused(line=f"{attempt.csv}:3: patient P1", says=["scans/absent", "does not exist"])


def test_a_misspelt_key_and_a_wrong_type_together(attempt: Attempt) -> None:
    attempt.settings = {"learning_rat": 1e-3, "n_epochs": "many"}
    errors = attempt.refused(says=[])
    for key, says in (("learning_rat", "unknown key 'learning_rat'; did you mean 'learning_rate'?"), ("n_epochs", "'many'")):
        lines = [found for found in errors.splitlines() if found.startswith(f"{attempt.yaml}:{attempt.yaml_line(key)}: ")]
        assert len(lines) == 1, errors
        assert says in lines[0]


def test_a_misspelt_word(attempt: Attempt) -> None:
    attempt.refused("n_epoch=3", line="command line: n_epoch=3: ", says=["did you mean 'n_epochs'?"])


def test_two_weight_keys_at_once(attempt: Attempt) -> None:
    weights = attempt.folder / "weights.pt"
    torch.save({"a": torch.zeros(1)}, weights)
    attempt.settings = {"suprem_weights": str(weights), "dino_weights": str(weights)}
    errors = attempt.refused(line=f"{attempt.yaml}:", says=["suprem_weights and dino_weights are set", "set at most one of"])
    lines = attempt.yaml_line("suprem_weights"), attempt.yaml_line("dino_weights")
    assert f"(lines {lines[0]} and {lines[1]})" in errors, errors


def test_a_mask_of_another_shape(attempt: Attempt) -> None:
    save_nifti(attempt.folder / "case_0_mask.nii.gz", ball(0)[1][:-1], affine_of())
    attempt.refused(
        line=f"{attempt.csv}:2: patient P0: ", says=["case_0_mask.nii.gz: has shape (13, 20, 18)", "its image (14, 20, 18)", "Correct"]
    )


def test_a_mask_at_another_place(attempt: Attempt) -> None:
    moved = affine_of()
    moved[1, 3] += 0.2  # voxels are 1 mm along this axis
    save_nifti(attempt.folder / "case_1_mask.nii.gz", ball(1)[1], moved)
    attempt.refused(
        line=f"{attempt.csv}:3: patient P1: ", says=["case_1_mask.nii.gz: lies elsewhere", "0.2 voxels", "mask_affine: from_image"]
    )


def test_a_mask_whose_shape_differs_is_no_matter_of_its_affine(attempt: Attempt) -> None:
    save_nifti(attempt.folder / "case_0_mask.nii.gz", ball(0)[1][:-1], affine_of())
    attempt.refused(
        "mask_affine=from_image", line=f"{attempt.csv}:2: patient P0: ", says=["has shape (13, 20, 18)", "Correct the seg_path"]
    )


def test_a_label_beyond_num_classes(attempt: Attempt) -> None:
    mask = ball(0)[1]
    mask[0, 0, :5] = 3
    save_nifti(attempt.folder / "case_0_mask.nii.gz", mask, affine_of())
    attempt.refused(
        line=f"{attempt.csv}:2: ",
        says=["patient P0", "case_0_mask.nii.gz", "label 3 (5 voxels)", "num_classes is 3", "Set num_classes to 4"],
    )


def test_a_negative_label(attempt: Attempt) -> None:
    mask = ball(0)[1].astype(np.int16)
    mask[0, 0, :5] = -1
    save_nifti(attempt.folder / "case_0_mask.nii.gz", mask, affine_of())
    attempt.refused(line=f"{attempt.csv}:2: ", says=["patient P0", "case_0_mask.nii.gz", "label -1 (5 voxels)", "Correct the mask"])


def test_a_mask_of_probabilities(attempt: Attempt) -> None:
    save_nifti(attempt.folder / "case_0_mask.nii.gz", ball(0)[1] * np.float32(0.4), affine_of())
    attempt.refused(line=f"{attempt.csv}:2: ", says=["P0", "case_0_mask.nii.gz", "not whole numbers", "write one label per voxel"])


def test_an_empty_fold(attempt: Attempt) -> None:
    attempt.settings = {"val_folds": [7]}
    attempt.refused(line="val_folds: ", says=[str(attempt.csv), "no rows of fold 7", "its folds are 0 (1 row), 1 (1 row), 2 (1 row)"])
    attempt.settings = {"train_folds": []}
    attempt.refused(says=["train_folds"])


def test_a_nan_volume(attempt: Attempt) -> None:
    image = ball(1)[0].astype(np.float32)
    image[3, 4, 5:7] = np.nan
    save_nifti(attempt.folder / "case_1_image.nii.gz", image, affine_of())
    attempt.refused(line=f"{attempt.csv}:3: ", says=["patient P1", "case_1_image.nii.gz", "2 of 5040 voxels are NaN", "exclude this scan"])


def test_a_constant_volume(attempt: Attempt) -> None:
    save_nifti(attempt.folder / "case_1_image.nii.gz", np.full(ball_cases.SHAPE, 7, np.int16), affine_of())
    attempt.refused(line=f"{attempt.csv}:3: ", says=["P1", "case_1_image.nii.gz", "every voxel has the value 7", "Exclude this scan"])


@pytest.mark.parametrize("form", ["nii.gz", "nii"])
@pytest.mark.parametrize("share", [0.06, 0.6])
def test_a_truncated_nifti(attempt: Attempt, form: str, share: float) -> None:
    path = save_nifti(attempt.folder / f"cut.{form}", ball(0)[0], affine_of())
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    attempt.rows[0][1] = path.name
    errors = attempt.refused(line=f"{attempt.csv}:2: ", says=["P0", str(path)])
    assert any(remedy in errors for remedy in ("again", "exclude", "Exclude", "complete")), errors


def two_echoes(folder: Path) -> Path:
    from series_files import series_in

    image = ball(0)[0]

    def echo(number: int) -> Callable[..., None]:
        def change(dataset: Any, index: int) -> None:
            dataset.EchoNumbers, dataset.EchoTime = number, f"{6.31 * number:.2f}"

        return change

    for number in (1, 2):
        series_in(folder, image, change=echo(number), file_name=lambda index, number=number: f"{number}{index:03d}")
    return folder


def test_a_folder_with_two_echoes(attempt: Attempt) -> None:
    folder = two_echoes(attempt.folder / "echoes")
    attempt.rows[0][1] = folder.name
    errors = attempt.refused(line=f"{attempt.csv}:2: ", says=["P0", str(folder), "holds 2 volumes"])
    assert "echo 1, echo time 6.31 ms: 14 slices of 18 x 20" in errors
    assert "echo 2, echo time 12.62 ms: 14 slices of 18 x 20" in errors


@pytest.mark.real_data
def test_the_real_folder_with_two_echoes(attempt: Attempt, real_data: Path) -> None:
    folder = real_data / "dicom" / "knee_two_echoes"
    attempt.rows[0][1] = folder
    attempt.refused(line=f"{attempt.csv}:2: ", says=["P0", str(folder), "holds 2 volumes"])


def test_a_size_that_is_too_small_for_the_backbone(attempt: Attempt) -> None:
    attempt.refused("resize_to=[16, 4, 16]", says=["resize_to", "[16, 4, 16]", "8 voxels or more along every axis", "[16, 8, 16]"])
    attempt.refused("resize_to=null", "patch_size=[16, 16, 5]", says=["patch_size", "8 voxels or more"])
    assert not attempt.results.exists()


def test_a_store_that_cannot_be_written(attempt: Attempt) -> None:
    (attempt.folder / "taken").write_text("a file, not a folder")
    attempt.refused(
        f"store.path={attempt.folder / 'taken' / 'store'}", line="store.path: ", says=["taken/store", "cannot be written", "set store.path"]
    )


def test_an_experiment_that_is_there(trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = fingerprints(trained.parent / "results" / "balls")
    assert ball_cases.run_segmentation(monkeypatch, trained) == 2
    errors = capsys.readouterr().err
    for text in ("results/balls already holds", "resume_training_from=", "test_ckpt=", "overwrite=true", "another experiment"):
        assert text in errors
    assert fingerprints(trained.parent / "results" / "balls") == before


def fingerprints(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every file of a run but its test."""
    files = [file for file in folder.rglob("*") if file.is_file() and "test" not in file.relative_to(folder).parts]
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


@pytest.fixture
def checkpoint(trained: Path) -> Path:
    return trained.parent / "results" / "balls" / "checkpoints" / "best.ckpt"


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, yaml_path: Path, *words: str) -> str:
    code = ball_cases.run_segmentation(monkeypatch, yaml_path, *words)
    errors = capsys.readouterr().err
    assert code == 2, errors
    assert "Traceback" not in errors
    return errors


@pytest.mark.parametrize("key", ["test_ckpt", "resume_training_from"])
def test_a_checkpoint_of_another_stage(
    key: str, trained: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["project"]["stage"] = "classification"
    other = tmp_path / "other.ckpt"
    torch.save(content, other)
    errors = refused(capsys, monkeypatch, trained, f"{key}={other}", "experiment=other")
    assert f"{key}: {other} is a checkpoint of classification, not of segmentation" in errors
    assert "Give a checkpoint that segmentation.py wrote" in errors
    assert not (trained.parent / "results" / "other").exists()


def test_a_cut_off_checkpoint(
    trained: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(checkpoint.read_bytes()[:5000])
    assert f"test_ckpt: {cut} cannot be loaded" in refused(capsys, monkeypatch, trained, f"test_ckpt={cut}", "experiment=other")


def test_fewer_epochs_than_are_done_leave_the_run_as_it_is(
    trained: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fingerprints(checkpoint.parents[1])
    last = checkpoint.with_name("last.ckpt")
    errors = refused(capsys, monkeypatch, trained, f"resume_training_from={last}", "n_epochs=1")
    assert f"n_epochs: 1, but {last} has trained for" in errors
    assert fingerprints(checkpoint.parents[1]) == before


def test_a_word_that_contradicts_the_checkpoint(
    trained: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"test_ckpt={checkpoint}", "experiment=other", "resize_to=[8, 16, 16]", "num_classes=4", "structure_names=[a, b, c]"]
    errors = refused(capsys, monkeypatch, trained, *words)
    for word, theirs in (
        ("resize_to=[8, 16, 16]", "[16, 16, 16]"),
        ("num_classes=4", "3"),
        ("structure_names=[a, b, c]", "['ball', 'core']"),
    ):
        key = word.split("=")[0]
        text = f"command line: {word}: {key}: the checkpoint was made with {theirs}, which a test cannot change; leave the word out"
        assert text in errors, errors
    assert not (trained.parent / "results" / "other").exists()


def test_a_yaml_value_that_contradicts_the_checkpoint_is_passed_over_with_a_line(
    trained: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(trained.read_text()) | {"resize_to": [8, 8, 8], "experiment": "sizes", "results_dir": str(tmp_path)}
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(settings))
    assert ball_cases.run_segmentation(monkeypatch, other, f"test_ckpt={checkpoint}") == 0
    text = "resize_to: [8, 8, 8] is passed over; the checkpoint was made with [16, 16, 16]"
    assert text in capsys.readouterr().err
    assert text in (tmp_path / "sizes" / "test" / "log.txt").read_text()
    assert yaml.safe_load((tmp_path / "sizes" / "test" / "config.yaml").read_text())["resize_to"] == [16, 16, 16]


def test_a_test_patient_whose_images_were_learnt_from(
    trained: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"test_ckpt={checkpoint}", "experiment=seen", "train_folds=[2]", "test_folds=[0]"]
    errors = refused(capsys, monkeypatch, trained, *words)
    assert "6 patient(s) of the test folds: P00 (rows 2)" in errors
    assert "allow_pretraining_overlap: true" in errors


def test_a_process_of_its_own_ends_with_2_and_the_message_alone(tmp_path: Path) -> None:
    image, mask = save_pair(tmp_path, "case", 0)
    csv = write_csv(tmp_path / "cases.csv", [["P0", image.name, mask.name, fold] for fold in (0, 1)])
    yaml_path = write_yaml(tmp_path / "config.yaml", csv, tmp_path / "results")
    command = [sys.executable, segmentation.__file__, "--config", str(yaml_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(f"{csv}: ")
    assert done.stdout == ""
