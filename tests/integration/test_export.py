"""Runs of the stages, exported: files of each kind, read back, run and compared; origins and licences along the whole way."""

import contextlib
import csv
import json
import runpy
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import onnxruntime
import pytest
import small_stages
import torch
from safetensors import safe_open

from fuse_examples.imaging.oai_example.configuration.command_line import run_entry
from fuse_examples.imaging.oai_example.export import main
from fuse_examples.imaging.oai_example.models.attention_pooling import AttentionPooling
from fuse_examples.imaging.oai_example.models.backbone import build_backbone
from fuse_examples.imaging.oai_example.models.sources import LICENCES
from fuse_examples.imaging.oai_example.models.unet3d import UNet3D
from fuse_examples.imaging.oai_example.models.weights import load_backbone_weights
from fuse_examples.imaging.oai_example.stages import exporting
from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint

ROOT = Path(__file__).parents[2]
ORIGIN = {"source": "SuPreM checkpoint", "file": "suprem.pth", "licence": LICENCES["suprem"]}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"), 2)


@pytest.fixture(scope="module")
def segmentation(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best checkpoint of a segmenter that began with weights of other people."""
    results = tmp_path_factory.mktemp("segmentation")
    torch.manual_seed(1)
    torch.save({"net": {f"module.backbone.{name}": value for name, value in UNet3D(width=2).state_dict().items()}}, results / "suprem.pth")
    folder = small_stages.run(
        "segmentation", cases, results, f"suprem_weights={results / 'suprem.pth'}", width=None, resize_to=[16, 16, 20]
    )
    return folder / "checkpoints" / "best.ckpt"


def export(*words: object) -> int:
    with mock.patch.object(sys, "argv", ["export", *map(str, words)]):
        return run_entry(main)


@pytest.fixture(scope="module")
def exported(segmentation: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command of docs/checkpoints.md exports the segmenter to, where it is under the document's name."""
    place = tmp_path_factory.mktemp("user")
    (place / "results").mkdir()
    (place / "results" / "knee_segmentation").symlink_to(segmentation.parent.parent)
    commands = runpy.run_path(str(ROOT / "tests" / "unit" / "test_documents.py"))["commands"]
    (words,) = commands((ROOT / "docs" / "checkpoints.md").read_text())
    assert words[:3] == ["python", "-m", main.__module__]
    with contextlib.chdir(place):
        assert export(*words[3:]) == 0
    return segmentation.parent.parent / "export"


def test_a_segmenter(segmentation: Path, exported: Path, cases: Path) -> None:
    folder = exported
    assert sorted(path.name for path in folder.iterdir()) == ["backbone.safetensors", "segmentation.onnx", "suprem_unet3d.pth"]
    checkpoint = read_checkpoint(segmentation, "")
    state, project = checkpoint["state_dict"], checkpoint["project"]
    for name, key in (("backbone.safetensors", "dino_weights"), ("suprem_unet3d.pth", "suprem_weights")):
        backbone = build_backbone("unet3d", **project["backbone_options"])
        load_backbone_weights(backbone, folder / name, key)
        assert all(torch.equal(value, state[f"backbone.{name}"]) for name, value in backbone.state_dict().items())
    with safe_open(folder / "backbone.safetensors", framework="pt") as file:
        metadata = json.loads(file.metadata()["project"])
    assert metadata["origins"] == [ORIGIN]
    assert metadata["preprocessing"] == json.loads(json.dumps(project["preprocessing"]))
    session = onnxruntime.InferenceSession(str(folder / "segmentation.onnx"))
    assert session.get_inputs()[0].shape == ["batch", 1, 16, 16, 20]
    told = json.loads(session.get_modelmeta().custom_metadata_map["project"])
    assert (told["structures"], told["origins"]) == (["background", "structure_1"], [ORIGIN])
    assert told["preprocessing"]["resize_to"] == [16, 16, 20]
    backbone.eval()
    head = {name.removeprefix("head.conv."): value for name, value in state.items() if name.startswith("head.")}
    image = torch.randn(3, 1, 16, 16, 20)
    with torch.no_grad():
        expected = torch.nn.functional.conv3d(backbone.decode(backbone.encode(image)), head["weight"], head["bias"])
    assert torch.allclose(torch.from_numpy(session.run(None, {"image": image.numpy()})[0]), expected, atol=1e-4)
    # What it exported is a start of another run, which remembers where it began.
    other = segmentation.parents[2] / "other"
    again = small_stages.run("segmentation", cases, other, f"dino_weights={folder / 'backbone.safetensors'}", "test_folds=[]", width=None)
    assert read_checkpoint(again / "checkpoints" / "last.ckpt", "")["project"]["origins"] == [ORIGIN]


def test_a_classifier_and_what_was_there_already(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With everything that a classifier may have between image and answer: two targets, learnt pooling, numbers beside the image."""
    rows = [
        {**row, "age": 50 + 7 * number % 23, "side": ("left", "right")[number % 2], "tone": ("dark", "bright")[number % 2]}
        for number, row in enumerate(csv.DictReader(cases.open()))
    ]
    table = small_stages.write_table(cases.with_name("known.csv"), rows)
    settings = {"cls_targets": ["tone", "size"], "pooling": "attention", "covariates": {"age": "numeric", "side": "categorical"}}
    checkpoint = small_stages.run("classification", table, tmp_path / "results", **settings) / "checkpoints" / "last.ckpt"
    output = tmp_path / "out"
    assert export(checkpoint, "--output", output, "--size", 16, 24, 16) == 0
    session = onnxruntime.InferenceSession(str(output / "classification.onnx"))
    assert [one.name for one in session.get_outputs()] == ["logits.tone", "logits.size"]
    assert {one.name: one.shape for one in session.get_inputs()} == {"image": ["batch", 1, 16, 24, 16], "covariates": ["batch", 4]}
    told = json.loads(session.get_modelmeta().custom_metadata_map["project"])
    assert {one["target"]: one["classes"] for one in told["classes"]} == {"tone": ["bright", "dark"], "size": ["large", "small"]}
    age, side = told["covariates"]
    learnt = [row["age"] for row in rows if row["fold"] == "0"]
    assert (side["name"], side["levels"], age["name"]) == ("side", ["left", "right"], "age")
    assert (age["mean"], age["std"]) == pytest.approx((np.mean(learnt), np.std(learnt)))
    # As docs/checkpoints.md says: the standardised number, whether it is missing, and one number per level.
    covariates = torch.tensor([[(61 - age["mean"]) / age["std"], 0, 1, 0], [(55 - age["mean"]) / age["std"], 0, 0, 1], [0, 1, 0, 0]])
    image = torch.randn(3, 1, 16, 24, 16)
    state = read_checkpoint(checkpoint, "")["state_dict"]
    backbone = UNet3D(width=2, with_decoder=False).eval()
    pooling = AttentionPooling(backbone.feature_dim)
    for part, module in (("backbone.", backbone), ("pooling.", pooling)):
        module.load_state_dict({name.removeprefix(part): value for name, value in state.items() if name.startswith(part)})
    with torch.no_grad():
        features = torch.cat([pooling(backbone.encode(image)[-1], (16, 24, 16), backbone.size_multiple), covariates], dim=1)
        heads = [state[f"heads.heads.target_{name}.1.weight"] for name in ("tone", "size")]
        biases = [state[f"heads.heads.target_{name}.1.bias"] for name in ("tone", "size")]
    given = {"image": image.numpy(), "covariates": covariates.float().numpy()}
    for found, weight, bias in zip(session.run(None, given), heads, biases, strict=True):
        assert torch.allclose(torch.from_numpy(found), features.float() @ weight.T + bias, atol=1e-4)
    capsys.readouterr()
    assert export(checkpoint, "--output", output) == 2
    names = "backbone.safetensors, suprem_unet3d.pth, classification.onnx"
    assert capsys.readouterr().err == (f"{output} already holds {names}. Choose another --output, or pass --overwrite to replace them.\n")
    with mock.patch.object(exporting, "write_onnx", side_effect=exporting.UserError("classification.onnx: wrong")):
        before = {path: path.read_bytes() for path in output.iterdir()}
        assert export(checkpoint, "--output", output, "--overwrite") == 2
    assert {path: path.read_bytes() for path in output.iterdir()} == before


def test_a_backbone_file_and_files_of_other_people(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(exported / "backbone.safetensors", "--output", tmp_path / "second") == 0
    assert capsys.readouterr().out == (
        f"Wrote {tmp_path / 'second'}:\n"
        "  backbone.safetensors: 104 tensors of unet3d, read back and equal\n"
        "  suprem_unet3d.pth: 104 tensors of unet3d, read back and equal\n"
    )
    assert sorted(path.name for path in (tmp_path / "second").iterdir()) == ["backbone.safetensors", "suprem_unet3d.pth"]
    capsys.readouterr()
    torch.save({"net": UNet3D(width=2).state_dict()}, tmp_path / "suprem.pth")
    assert export(tmp_path / "suprem.pth") == 2
    assert (
        f"CHECKPOINT: {tmp_path / 'suprem.pth'} does not say how its network was made (stage, config, backbone, backbone_options, "
        "preprocessing). Give a checkpoint or backbone.safetensors of a run of this project.\n" == capsys.readouterr().err
    )
    assert export(tmp_path / "nowhere.ckpt") == 2
    assert not (tmp_path / "export").exists()
