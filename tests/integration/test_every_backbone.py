"""Each backbone of the catalogue through the three stages: pre-trained, carried into segmenter and classifier, tested."""

from pathlib import Path

import pytest
import small_stages
import torch
from safetensors.torch import load_file

from fuse_examples.imaging.oai_example.catalogue import BACKBONES
from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint

SMALL = {
    "unet3d": {"width": 2},
    "swin_unetr": {"width": 12},
    "segresnet": {"width": 8},
    "resnet3d": {"width": 2, "backbone_options": {"depth": 10, "layout": "monai"}},
}
# No multiple of 8 or 32 along the first axis: each backbone pads.
SIZE = {"swin_unetr": [34, 32, 32], "resnet3d": [34, 32, 32]}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"))


SLOW = ("swin_unetr", "unet3d")  # the one takes a minute; the other goes through all stages in many tests
NAMES = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in sorted(BACKBONES)]


@pytest.mark.parametrize("name", NAMES)
def test_pretrained_carried_and_tested(name: str, cases: Path, tmp_path: Path) -> None:
    size = SIZE.get(name, [12, 16, 16])
    common = {"gradient_checkpointing": True, "width": None}
    crops = {"global_size": size, "local_size": size, "n_local": 1}
    pretrained = small_stages.run("dino", cases, tmp_path, backbone=name, **{**common, **SMALL[name]}, crops=crops)
    exported = load_file(pretrained / "backbone.safetensors")

    for stage in ("classification", "segmentation"):
        words = {"backbone": None, "dino_weights": str(pretrained / "backbone.safetensors"), "resize_to": size}
        run = small_stages.run(stage, cases, tmp_path, **common, **words)
        report = small_stages.read_json(run / "load_report.json")
        assert report["network"] == name
        assert report["encoder"]["share"] == 1
        checkpoint = read_checkpoint(run / "checkpoints" / "last.ckpt", "test_ckpt")
        options = checkpoint["project"]["backbone_options"]
        assert options["width"] == SMALL[name]["width"]
        assert SMALL[name].get("backbone_options", {}).items() <= options.items()
        learnt = {key.removeprefix("backbone."): value for key, value in checkpoint["state_dict"].items()}
        assert set(exported) <= set(learnt)
        assert any(not torch.equal(value, learnt[key]) for key, value in exported.items())
        tested = small_stages.run(
            stage, cases, tmp_path, **common, resize_to=size, n_bootstrap=20, test_ckpt=str(run / "checkpoints" / "last.ckpt")
        )
        assert (tested / "test" / "metrics.json").is_file()
