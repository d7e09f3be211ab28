"""Masked objectives from the configuration to the stages that come after: what is exported, what is tested, what is refused."""

from pathlib import Path

import pytest
import small_stages
import torch
from safetensors.torch import load_file

from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint

MASKING = {"patch_weight": 1.0, "reconstruction_weight": 1.0}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"), 2)


@pytest.fixture(scope="module")
def pretrained(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.run("dino", cases, tmp_path_factory.mktemp("masked"), masking=MASKING)


def test_the_exported_backbone_is_the_teachers_with_its_decoder(pretrained: Path) -> None:
    state = read_checkpoint(pretrained / "checkpoints" / "last.ckpt", "")["state_dict"]
    exported = load_file(pretrained / "backbone.safetensors")
    assert any(name.startswith("up_tr64.") for name in exported)
    assert exported.keys() == {name.removeprefix("teacher_backbone.") for name in state if name.startswith("teacher_backbone.")}
    assert all(torch.equal(value, state[f"teacher_backbone.{name}"]) for name, value in exported.items())


@pytest.mark.parametrize("file", ["backbone.safetensors", "checkpoints/last.ckpt"])
def test_a_segmenter_gets_the_whole_network(file: str, pretrained: Path, cases: Path, tmp_path: Path) -> None:
    run = small_stages.run("segmentation", cases, tmp_path, width=None, dino_weights=str(pretrained / file))
    report = small_stages.read_json(run / "load_report.json")
    assert report["encoder"]["share"] == report["decoder"]["share"] == 1
    assert report["decoder"]["total"] == 48
    assert report["unexpected"] == []


def test_a_classifier_leaves_the_decoder_out(pretrained: Path, cases: Path, tmp_path: Path) -> None:
    run = small_stages.run("classification", cases, tmp_path, width=None, dino_weights=str(pretrained / "backbone.safetensors"))
    report = small_stages.read_json(run / "load_report.json")
    assert report["encoder"]["share"] == 1
    assert len(report["dropped"]["decoder, which this stage does not use"]) == 48


def test_a_test_takes_masking_from_the_checkpoint(pretrained: Path, cases: Path) -> None:
    """The configuration says nothing of masking, and the checkpoint's tensors are all taken."""
    small_stages.run("dino", cases, pretrained.parent, f"test_ckpt={pretrained / 'checkpoints' / 'last.ckpt'}")
    assert (pretrained / "test" / "embeddings.csv").is_file()


def test_a_map_of_one_cell_cannot_be_masked(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"global_size": [32, 32, 32], "local_size": [32, 32, 32]}
    code = small_stages.start("dino", cases, tmp_path, backbone="swin_unetr", width=12, crops=sizes, masking=MASKING)
    assert code == 2
    assert (
        "crops.global_size is [32, 32, 32], which swin_unetr reduces to a single cell of 32 voxels, and masking hides some cells and "
        "shows others. Use a larger size, for example [32, 64, 64], or set the weights in masking to 0."
    ) in capsys.readouterr().err
