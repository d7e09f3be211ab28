"""`--check` does two real batches, says what the run would do, and leaves nothing behind."""

from pathlib import Path

import nibabel as nib
import pytest
import small_stages

STAGES = ("dino", "classification", "segmentation")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"))


@pytest.mark.parametrize("stage", STAGES)
def test_it_prints_the_run_and_makes_no_experiment(stage: str, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"
    assert small_stages.start(stage, cases, results, "--check", n_epochs=7) == 0
    lines = capsys.readouterr().out.splitlines()
    told = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    assert told["training"] == "4 cases of 4 patients (fold 0: 4)"
    assert told["validation"] == "4 cases of 4 patients (fold 1: 4)"
    assert told["test"].startswith("4 cases of 4 patients (fold 2: 4)")
    # 8 images of 16 x 24 x 24 voxels of 2 bytes; for segmentation also 8 masks of one byte a voxel
    assert told["store"] == ("221 kB" if stage == "segmentation" else "147 kB")
    assert told["network"].startswith("unet3d, ")
    assert " 2 batches an epoch, 7 epochs: about " in told["time"]
    assert told["memory"].split()[1] in ("MB", "GB")
    assert [path.name for path in results.iterdir()] == [".store"]


def test_class_counts_are_told(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert small_stages.start("classification", cases, tmp_path / "results", "--check", cls_targets=["size", "tone"]) == 0
    text = capsys.readouterr().out
    assert "size: training cases per class: 'large' 2, 'small' 2" in text
    assert "tone: training cases per class: 'bright' 2, 'dark' 2" in text


def test_label_counts_are_the_masks(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voxels = sum(int(nib.load(cases.parent / f"mask_scan{number:02d}.nii.gz").get_fdata().sum()) for number in range(4))
    assert small_stages.start("segmentation", cases, tmp_path / "results", "--check") == 0
    assert f"structure_1 {voxels:,} voxels" in capsys.readouterr().out


def test_much_padding_is_a_warning(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crops = {"global_size": [16, 16, 12], "local_size": [12, 12, 9], "n_local": 1}
    assert small_stages.start("dino", cases, tmp_path / "results", "--check", crops=crops) == 0
    told = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines() if line.startswith("padding")]
    assert told[0] == "crops.global_size [16, 16, 12] becomes [16, 16, 16] in unet3d, 25% of it padding"
    assert told[1].startswith("warning: crops.local_size [12, 12, 9] becomes [16, 16, 16] in unet3d, 68% of it padding, ")


def test_a_mistake_is_found_by_it_too(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert small_stages.start("segmentation", cases, tmp_path / "results", "--check", resize_to=[16, 16, 6]) == 2
    assert "8 voxels or more" in capsys.readouterr().err
