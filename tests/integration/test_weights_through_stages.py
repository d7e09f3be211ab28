"""Weights from a file into each stage: every tensor is the file's, the report says what is new, and seen patients are not tested on."""

import csv
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import small_stages
import torch
from torch import Tensor

from fuse_examples.imaging.oai_example.models.backbone import build_backbone
from fuse_examples.imaging.oai_example.models.unet3d import UNet3D
from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint
from fuse_examples.imaging.oai_example.training.patient_hashes import overlap

STILL = {"learning_rate": 1e-30, "weight_decay": 0.0, "grad_clip": 1.0}  # an optimiser step that is too small for float32 to notice
OWN_STILL = {"dino": {"learning_rate_end": 0.0, "weight_decay_end": 0.0}, "classification": {}, "segmentation": {}}
BACKBONE = {"dino": "student_backbone.", "classification": "backbone.", "segmentation": "backbone."}
# The 13 tensors of SuPreM's language heads, with the shapes of the release with 32 organs.
LANGUAGE_HEADS = {
    "organ_embedding": (32, 512),
    "precls_conv.0.weight": (64,),
    "precls_conv.0.bias": (64,),
    "precls_conv.2.weight": (8, 64, 1, 1, 1),
    "precls_conv.2.bias": (8,),
    "GAP.0.weight": (512,),
    "GAP.0.bias": (512,),
    "GAP.3.weight": (256, 512, 1, 1, 1),
    "GAP.3.bias": (256,),
    "controller.weight": (153, 512, 1, 1, 1),
    "controller.bias": (153,),
    "text_to_vision.weight": (256, 512),
    "text_to_vision.bias": (256,),
}

stages = pytest.mark.parametrize("stage", small_stages.ENTRIES)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"), 2)


@pytest.fixture(scope="module")
def pretrained(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pre-training run on fold 0 with its own axis order, width and intensities."""
    results = tmp_path_factory.mktemp("pretrained")
    return small_stages.run(
        "dino", cases, results, width=4, orientation="LAS", intensity={"method": "zscore"}, norm_statistics="instance", val_folds=[]
    )


def unet(width: int, seed: int = 3) -> dict[str, Tensor]:
    """Tensors of a U-Net as after training: no buffer is what a new network has."""
    torch.manual_seed(seed)
    state = UNet3D(width=width).state_dict()
    return {name: torch.tensor(77) if name.endswith("tracked") else value + 0.1 * torch.rand(value.shape) for name, value in state.items()}


def write_suprem(path: Path, tensors: dict[str, Tensor]) -> Path:
    """The container that SuPreM's training writes."""
    weights = [torch.nn.Parameter(value.clone()) for name, value in tensors.items() if name.endswith("weight")][:2]
    optimizer = torch.optim.AdamW(weights, lr=1e-4)
    sum(weight.sum() for weight in weights).backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)
    heads = {f"module.{name}": torch.zeros(shape) for name, shape in LANGUAGE_HEADS.items()}
    net = OrderedDict({**{f"module.backbone.{name}": value for name, value in tensors.items()}, **heads})
    torch.save({"net": net, "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(), "epoch": 2100}, path)
    return path


def write_earlier(path: Path, tensors: dict[str, Tensor]) -> Path:
    """The Lightning file of the earlier example: encoders of teacher and student, heads, centre."""
    encoder = {name: value for name, value in tensors.items() if name.startswith("down_")}
    state = {f"teacher_backbone.{name}": value for name, value in encoder.items()}
    state |= {f"student_backbone.{name}": value + 1 for name, value in encoder.items()}
    state |= {f"{who}_head.last_layer.weight_v": torch.ones(8, 4) for who in ("teacher", "student")}
    state |= {"criterion.center": torch.zeros(1, 1, 8)}
    torch.save({"state_dict": OrderedDict(state), "epoch": 69, "global_step": 5, "pytorch-lightning_version": "2.4.0", "loops": {}}, path)
    return path


def run_still(stage: str, cases: Path, results: Path, *words: str, **changes: Any) -> tuple[Path, dict[str, Tensor]]:
    """A run whose steps are too small to be seen; its folder and its backbone's tensors afterwards."""
    folder = small_stages.run(stage, cases, results, *words, **{**STILL, **OWN_STILL[stage], **changes})
    state = read_checkpoint(folder / "checkpoints" / "last.ckpt", "")["state_dict"]
    prefix = BACKBONE[stage]
    return folder, {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def differing(backbone: dict[str, Tensor], file: dict[str, Tensor]) -> list[str]:
    """Parameters that are not the file's, but for a step of 1e-30. Statistics move with every batch and are left out."""
    names = [name for name in backbone if not name.endswith(("running_mean", "running_var", "tracked"))]
    return [name for name in names if not torch.allclose(backbone[name], file[name], rtol=0, atol=1e-25)]


@stages
@pytest.mark.parametrize("width", [None, 2])
def test_suprem(stage: str, width: int | None, cases: Path, tmp_path: Path) -> None:
    """Once at the published size, which is what a null means, and once small."""
    tensors = unet(width or 32)
    file = write_suprem(tmp_path / "suprem_unet_2100.pth", tensors)
    folder, backbone = run_still(stage, cases, tmp_path / "results", f"suprem_weights={file}", width=width, norm_statistics="batch")
    assert differing(backbone, tensors) == []
    assert "width: 32" in (folder / "config.yaml").read_text() or width == 2
    report = small_stages.read_json(folder / "load_report.json")
    assert (report["key"], report["source"], report["network"]) == ("suprem_weights", "SuPreM checkpoint", "unet3d")
    assert report["encoder"] == {"loaded": 56, "total": 56, "share": 1.0}
    assert (report["missing"], report["unexpected"], report["shape_mismatches"]) == ([], [], [])
    assert sorted(report["dropped"]["language heads"]) == sorted(LANGUAGE_HEADS)
    if stage == "segmentation":
        assert (len(report["matched"]), report["decoder"]["loaded"]) == (104, 48)
    else:
        assert (len(report["matched"]), len(report["dropped"]["decoder, which this stage does not use"])) == (56, 48)
    assert f"suprem_weights: {file} -> unet3d" in (folder / "log.txt").read_text()


@pytest.mark.parametrize("stage", ["classification", "segmentation"])
def test_a_frozen_backbones_statistics_are_taken_anew_where_nothing_is_set(stage: str, cases: Path, tmp_path: Path) -> None:
    """By default, and for good: parameters are the file's, statistics that do not fit the training cases are not."""
    tensors = unet(2)
    file = write_suprem(tmp_path / "suprem.pth", tensors)
    folder = small_stages.run(stage, cases, tmp_path / "results", f"suprem_weights={file}", freeze_backbone=True)
    assert "do not fit the training cases; re-estimated on the training cases" in (folder / "log.txt").read_text()
    state = read_checkpoint(folder / "checkpoints" / "last.ckpt", "")["state_dict"]
    moved = {name for name, value in state.items() if name.startswith("backbone.") and not torch.equal(value, tensors[name[9:]])}
    assert moved == {name for name in state if name.startswith("backbone.") and name.endswith(("running_mean", "running_var"))}


@pytest.mark.slow  # a Swin UNETR trained and tested three times
def test_the_order_of_patch_merging_travels(cases: Path, tmp_path: Path) -> None:
    """From a published file into the checkpoint, and from there into the test, which computes with what is written there."""
    torch.manual_seed(0)
    tensors = build_backbone("swin_unetr", width=12, with_decoder=False).state_dict()
    bare = {name.replace("swinViT.", "module.").replace("linear", "fc"): value for name, value in tensors.items()}
    torch.save({"epoch": 100, "state_dict": bare}, tmp_path / "model_swinvit.pt")
    size, results = {"resize_to": [32, 32, 32], "width": None}, tmp_path / "results"
    folder = small_stages.run("classification", cases, results, f"suprem_weights={tmp_path / 'model_swinvit.pt'}", **size)
    assert "patch_merging switched from monai_1.5 to legacy" in (folder / "log.txt").read_text()
    assert "patch_merging: legacy" in (folder / "config.yaml").read_text()
    checkpoint = read_checkpoint(folder / "checkpoints" / "last.ckpt", "")
    assert checkpoint["project"]["backbone_options"]["patch_merging"] == "legacy"

    told = {}
    for order in ("legacy", "monai_1.5"):
        checkpoint["project"]["backbone_options"]["patch_merging"] = order
        checkpoint["project"]["config"]["backbone_options"]["patch_merging"] = order
        torch.save(checkpoint, tmp_path / f"{order}.ckpt")
        tested = small_stages.run("classification", cases, tmp_path / order, test_ckpt=str(tmp_path / f"{order}.ckpt"), **size)
        assert f"patch_merging: {order}" in (tested / "test" / "config.yaml").read_text()
        told[order] = (tested / "test" / "predictions.csv").read_text()
    assert told["legacy"] != told["monai_1.5"]


@stages
@pytest.mark.parametrize("kind", ["best.ckpt", "backbone.safetensors", "the earlier example's"])
def test_dino_weights(stage: str, kind: str, cases: Path, pretrained: Path, tmp_path: Path) -> None:
    """A teacher in every container; where the file says how it was made, nulls take that."""
    if kind == "the earlier example's":
        tensors = unet(2)
        file, changes = write_earlier(tmp_path / "epoch69.ckpt", tensors), {"norm_statistics": "batch"}
    else:
        file = pretrained / ("checkpoints/best.ckpt" if kind == "best.ckpt" else kind)
        state = read_checkpoint(pretrained / "checkpoints" / "best.ckpt", "")["state_dict"]
        prefix = "teacher_backbone."
        tensors = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        changes = {"width": None}
    folder, backbone = run_still(stage, cases, tmp_path / "results", f"dino_weights={file}", "test_folds=[2]", **changes)
    encoder = {name: value for name, value in backbone.items() if name.startswith("down_")}
    assert len(encoder) == 56
    assert differing(encoder, tensors) == []
    report = small_stages.read_json(folder / "load_report.json")
    assert (report["key"], report["encoder"]) == ("dino_weights", {"loaded": 56, "total": 56, "share": 1.0})
    log = (folder / "log.txt").read_text()
    if stage == "segmentation":
        assert len(report["missing"]) == 48
        assert sum(name.endswith("num_batches_tracked") for name in report["missing"]) == 6
        assert {name.split(".")[0] for name in report["missing"]} == {"up_tr64", "up_tr128", "up_tr256"}
        assert "48 tensors of the backbone (6 of them num_batches_tracked counters); heads always start new" in log
    else:
        assert report["missing"] == []
        assert "heads only" in log
    if kind != "the earlier example's":
        config = (folder / "config.yaml").read_text()
        assert all(line in config for line in ("width: 4", "orientation: LAS", "method: zscore", "norm_statistics: instance"))


@stages
def test_what_the_weights_were_taught_with_cannot_be_set_to_something_else(
    stage: str, cases: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"width": 8, "orientation": "RAS", "intensity": {"method": "percentile"}, "norm_statistics": "batch"}
    file = pretrained / "backbone.safetensors"
    assert small_stages.start(stage, cases, tmp_path / "results", f"dino_weights={file}", **changes) == 2
    error = capsys.readouterr().err
    for key, ours, theirs in (
        ("width", 8, 4),
        ("orientation", "'RAS'", "'LAS'"),
        ("intensity.method", "'percentile'", "'zscore'"),
        ("norm_statistics", "'batch'", "'instance'"),
    ):
        assert f"{key}: {ours} differs from {theirs}, which the weights were made with; set it to null" in error
    agreeing = {"width": 4, "orientation": "LAS", "intensity": {"method": "zscore"}, "norm_statistics": "instance"}
    small_stages.run(stage, cases, tmp_path / "results", f"dino_weights={file}", **agreeing)


@pytest.mark.parametrize("stage", ["classification", "segmentation"])
def test_another_size_is_told_and_allowed(stage: str, cases: Path, pretrained: Path, tmp_path: Path) -> None:
    word = f"dino_weights={pretrained / 'backbone.safetensors'}"
    folder = small_stages.run(stage, cases, tmp_path / "results", word, width=None, resize_to=[16, 24, 24])
    assert "resize_to: [16, 24, 24] here, [16, 16, 16] when the weights were made" in (folder / "log.txt").read_text()
    same = small_stages.run(stage, cases, tmp_path / "results", word, width=None, experiment="same")
    assert "when the weights were made" not in (same / "log.txt").read_text()


class TestPatients:
    """Fold 0 was pre-trained on; here it becomes the test fold."""

    SWAPPED = ("train_folds=[1]", "val_folds=[2]", "test_folds=[0]")

    @stages
    def test_a_test_patient_that_pretraining_saw_is_an_error_in_training(
        self, stage: str, cases: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = pretrained / "backbone.safetensors"
        assert small_stages.start(stage, cases, tmp_path / "results", f"dino_weights={file}", *self.SWAPPED, width=None) == 2
        assert capsys.readouterr().err == (
            f"{cases}: {file} has learnt from images of 2 patient(s) of the test folds: subject00 (rows 2); subject01 (rows 3). "
            "Choose other test_folds or other weights, or set allow_pretraining_overlap: true and say so with the result.\n"
        )
        assert not (tmp_path / "results" / stage / "checkpoints").exists()

    @stages
    def test_hashes_are_inherited_so_it_is_an_error_in_testing_too(
        self, stage: str, cases: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file, results = pretrained / "checkpoints" / "best.ckpt", tmp_path / "results"
        folder = small_stages.run(
            stage, cases, results, f"dino_weights={file}", "train_folds=[1]", "val_folds=[2]", "test_folds=[]", width=None
        )
        best = folder / "checkpoints" / "best.ckpt"
        names = [row["PatientID"] for row in csv.DictReader(cases.open())]
        assert overlap(names, read_checkpoint(best, "")["project"]["patients"]) == names[:4]
        capsys.readouterr()
        others = ("train_folds=[1]", "val_folds=[2]")
        assert small_stages.start(stage, cases, results, f"test_ckpt={best}", *others, "test_folds=[0]") == 2
        assert (
            f"{best} has learnt from images of 2 patient(s) of the test folds: subject00 (rows 2); subject01 (rows 3)"
            in capsys.readouterr().err
        )
        # Validation cases only chose the epoch.
        small_stages.run(stage, cases, results, f"test_ckpt={best}", "train_folds=[1]", "val_folds=[0]", "test_folds=[2]")
        # A second fine-tuning and a resumed run pass the hashes on.
        again = small_stages.run(
            stage,
            cases,
            results,
            f"dino_weights={best}",
            "train_folds=[2]",
            "val_folds=[1]",
            "test_folds=[]",
            width=None,
            experiment="again",
        )
        assert overlap(names, read_checkpoint(again / "checkpoints" / "last.ckpt", "")["project"]["patients"]) == names
        resumed = {"train_folds": [1], "val_folds": [2], "test_folds": [], "n_epochs": 2, "width": None}
        small_stages.run(stage, cases, results, f"resume_training_from={folder / 'checkpoints' / 'last.ckpt'}", **resumed)
        assert overlap(names, read_checkpoint(folder / "checkpoints" / "last.ckpt", "")["project"]["patients"]) == names[:4]

    @stages
    def test_it_can_be_allowed_and_is_told(self, stage: str, cases: Path, pretrained: Path, tmp_path: Path) -> None:
        words = (f"dino_weights={pretrained / 'backbone.safetensors'}", *self.SWAPPED, "allow_pretraining_overlap=true")
        small_stages.run(stage, cases, tmp_path / "results", *words, width=None)
        best = tmp_path / "results" / stage / "checkpoints" / "best.ckpt"
        folder = small_stages.run(stage, cases, tmp_path / "results", f"test_ckpt={best}", *self.SWAPPED, "allow_pretraining_overlap=true")
        patients = "2 patient(s) of the test folds: subject00 (rows 2); subject01 (rows 3)"
        text = f"has learnt from images of {patients}. allow_pretraining_overlap is set."
        assert text in (folder / "test" / "log.txt").read_text()
        assert text in (folder / "log.txt").read_text()
        report = folder / "test" / "report.html"
        assert stage == "dino" or "allow_pretraining_overlap is set" in report.read_text()


@pytest.mark.parametrize(("key", "right"), [("suprem_weights", "dino_weights"), ("dino_weights", "suprem_weights")])
def test_a_file_at_the_other_key(
    key: str, right: str, cases: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_suprem(tmp_path / "unet.pth", unet(2)) if key == "dino_weights" else pretrained / "backbone.safetensors"
    assert small_stages.start("segmentation", cases, tmp_path / "results", f"{key}={file}", width=None) == 2
    assert f"Give it as {right}" in capsys.readouterr().err
