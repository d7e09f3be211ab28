"""Several image columns as input channels, through the three stages; and views that are left to the device."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import small_stages
import torch

from fuse_examples.imaging.oai_example.models.unet3d import UNet3D
from fuse_examples.imaging.oai_example.stages import classification_parts, dino, segmentation
from fuse_examples.imaging.oai_example.training.checkpoints import PROJECT, read_checkpoint

# The modules that ask where views are made.
CHOOSERS = {"dino": dino, "classification": classification_parts, "segmentation": segmentation}


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of all stages with a second image, `other`, of another number type and range."""
    path = small_stages.write_cases(tmp_path_factory.mktemp("cases"))
    rows: list[dict[str, Any]] = list(csv.DictReader(path.open()))
    for row in rows:
        image = nib.nifti1.load(path.parent / row["path"])
        row["other"] = f"other_{row['path']}"
        nib.save(nib.Nifti1Image(np.sqrt(np.abs(image.get_fdata())).astype(np.float32), image.affine), path.parent / row["other"])
        row["first"] = row.pop("path")
        del row["img_path"]
    return small_stages.write_table(path, rows)


def weights(path: Path) -> Mapping[str, torch.Tensor]:
    return read_checkpoint(path, "test_ckpt")["state_dict"]


def test_two_channels_go_through_all_stages(two_channels: Path, tmp_path: Path) -> None:
    def run(stage: str, *words: str, **changes: Any) -> Path:
        return small_stages.run(stage, two_channels, tmp_path / "results", *words, channels=["first", "other"], **changes)

    pretrained = run("dino")
    assert read_checkpoint(pretrained / "checkpoints" / "last.ckpt", "test_ckpt")[PROJECT]["backbone_options"]["in_channels"] == 2
    for stage in ("classification", "segmentation"):
        folder = run(stage, dino_weights=str(pretrained / "backbone.safetensors"))
        checkpoint = folder / "checkpoints" / "best.ckpt"
        saved = read_checkpoint(checkpoint, "test_ckpt")
        assert saved[PROJECT]["backbone_options"]["in_channels"] == 2
        assert saved["state_dict"]["backbone.down_tr64.ops.0.conv1.weight"].shape[1] == 2
        # The checkpoint names the columns: the YAML of the test does not.
        small_stages.run(stage, two_channels, tmp_path / "results", test_ckpt=str(checkpoint))
        assert (folder / "test" / "metrics.json").exists()
    small_stages.run("dino", two_channels, tmp_path / "results", test_ckpt=str(pretrained / "checkpoints" / "last.ckpt"))
    assert (pretrained / "test" / "embeddings.csv").exists()


def test_weights_of_one_channel_are_repeated_and_every_reader_is_told(two_channels: Path, tmp_path: Path) -> None:
    """In the log, in load_report.json, and in the report of a test; what is loaded is the file's tensor, halved."""
    tensors = UNet3D(width=2).state_dict()
    torch.save({"net": {f"module.backbone.{name}": value for name, value in tensors.items()}}, tmp_path / "suprem.pth")
    words = f"suprem_weights={tmp_path / 'suprem.pth'}"
    folder = small_stages.run(
        "classification", two_channels, tmp_path / "results", words, channels=["first", "other"], learning_rate=1e-30, weight_decay=0.0
    )
    how, name = "1 input channel repeated over 2 and divided by 2", "down_tr64.ops.0.conv1.weight"
    found = weights(folder / "checkpoints" / "last.ckpt")[f"backbone.{name}"]
    assert torch.allclose(found, tensors[name].expand(-1, 2, -1, -1, -1) / 2, rtol=0, atol=1e-25)
    assert small_stages.read_json(folder / "load_report.json")["adapted"] == {how: [name]}
    assert f"adapted    1 ({how}: {name})" in (folder / "log.txt").read_text()
    checkpoint = folder / "checkpoints" / "last.ckpt"
    small_stages.run("classification", two_channels, tmp_path / "results", test_ckpt=str(checkpoint))
    assert f"encoder 56 of 56 tensors; adapted 1 ({how})" in (folder / "test" / "report.html").read_text()
    (folder / "load_report.json").write_text("{")
    small_stages.run("classification", two_channels, tmp_path / "results", test_ckpt=str(checkpoint))
    assert "cannot be read as the verdict that training wrote" in (folder / "test" / "report.html").read_text()


def test_the_second_channel_is_looked_at(two_channels: Path, tmp_path: Path) -> None:
    found = []
    for second in ("other", "again"):
        rows: list[dict[str, Any]] = [{**row, "again": row["first"]} for row in csv.DictReader(two_channels.open())]
        table = small_stages.write_table(two_channels.with_name("again.csv"), rows)
        folder = small_stages.run("classification", table, tmp_path / second, channels=["first", second])
        found.append(weights(folder / "checkpoints" / "last.ckpt"))
    assert any(not torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("stage", sorted(CHOOSERS))
def test_views_made_on_the_device_teach_the_same(two_channels: Path, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the CPU as the device: what workers cut out becomes the views they would have made."""
    found = []
    for way, on_device in (("cpu", False), ("device", True)):
        monkeypatch.setattr(CHOOSERS[stage], "makes_views_on_device", lambda config, on_device=on_device: on_device)
        folder = small_stages.run(stage, two_channels, tmp_path / way, channels=["first", "other"], n_workers=int(on_device))
        found.append(weights(folder / "checkpoints" / "last.ckpt"))
    for name, values in found[0].items():
        assert torch.allclose(values, found[1][name], atol=2e-3), name


def test_a_gpu_that_is_not_there_is_refused(two_channels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    code = small_stages.start("dino", two_channels, tmp_path / "results", channels=["first"], augment_on="gpu")
    assert code == 2
    assert "augment_on: gpu, but this machine has no GPU that PyTorch can use. Set augment_on to auto or cpu." in capsys.readouterr().err
