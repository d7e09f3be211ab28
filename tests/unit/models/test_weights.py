"""Weight files in their exact containers: what loads, what is reported, what is refused, and that nothing runs."""

import json
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from fuse_examples.imaging.oai_example.errors import WeightsError
from fuse_examples.imaging.oai_example.models.backbone import build_backbone
from fuse_examples.imaging.oai_example.models.sources import LICENCES, SUPREM_HEADS
from fuse_examples.imaging.oai_example.models.swin_unetr import SwinUNETR
from fuse_examples.imaging.oai_example.models.unet3d import UNet3D
from fuse_examples.imaging.oai_example.models.weights import load_backbone_weights, read_backbone_metadata, save_backbone

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "unet3d_keys.json").read_text())
WIDTH = 2
Tensors = dict[str, Tensor]

# The 13 tensors beside SuPreM's U-Net, reference shapes of the release with 32 organs.
HEAD_SHAPES = {
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


def unet(seed: int = 7, **options: Any) -> UNet3D:
    torch.manual_seed(seed)
    return UNet3D(**{"width": WIDTH, **options})


def trained(seed: int = 1, width: int = WIDTH) -> Tensors:
    """A published U-Net's tensors, random, at a small width; names from the golden list, counters and variances as after training."""
    draw = torch.Generator().manual_seed(seed)
    tensors: Tensors = {}
    for name, shape in GOLDEN.items():
        small = [length * width // 32 if length % 32 == 0 else length for length in shape]
        values = torch.randn(small, generator=draw)
        tensors[name] = torch.tensor(1234) if name.endswith("num_batches_tracked") else values.abs() if name.endswith("var") else values
    return tensors


def encoder_of(tensors: Tensors) -> Tensors:
    return {name: value for name, value in tensors.items() if name.startswith("down")}


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


def suprem(tensors: Tensors, prefix: str = "module.backbone.") -> dict[str, Any]:
    """What SuPreM's training saves: the wrapped network, its optimiser with moments, its scheduler, the epoch."""
    outer = "module." if prefix.startswith("module.") else ""
    heads = {outer + name: torch.zeros(shape) for name, shape in HEAD_SHAPES.items()}
    weights = [torch.nn.Parameter(value.clone()) for value in list(tensors.values())[:2]]
    optimizer = torch.optim.AdamW(weights, lr=1e-4)
    sum(weight.sum() for weight in weights).backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)
    net = OrderedDict({**prefixed(tensors, prefix), **heads})
    return {"net": net, "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(), "epoch": 2100}


def lightning(state: Tensors, **more: Any) -> dict[str, Any]:
    return {
        "epoch": 69,
        "global_step": 12345,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": OrderedDict(state),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 70}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": {"best_model_score": torch.tensor(1.0), "best_model_path": "/x"}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.002}]}],
        "lr_schedulers": [{"base_lrs": [0.002], "last_epoch": 70}],
        **more,
    }


def dino(teacher: Tensors, student: Tensors) -> Tensors:
    """The earlier example's state dict: both encoders, both heads with old-style weight norm, the centre."""
    heads: Tensors = {}
    for who in ("student", "teacher"):
        for layer in (0, 2, 4):
            heads |= {f"{who}_head.layers.{layer}.weight": torch.ones(4, 4), f"{who}_head.layers.{layer}.bias": torch.ones(4)}
        heads |= {f"{who}_head.last_layer.weight_g": torch.ones(8, 1), f"{who}_head.last_layer.weight_v": torch.ones(8, 4)}
    return {
        **prefixed(student, "student_backbone."),
        **prefixed(teacher, "teacher_backbone."),
        **heads,
        "criterion.center": torch.zeros(1, 1, 8),
    }


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def assert_loaded(backbone: UNet3D | SwinUNETR, tensors: Tensors) -> None:
    state = backbone.state_dict()
    assert [name for name, value in tensors.items() if not torch.equal(state[name], value)] == []


class TestSuPreM:
    def test_the_published_container(self, tmp_path: Path) -> None:
        tensors, backbone = trained(), unet()
        report = load_backbone_weights(backbone, saved(tmp_path / "unet.pth", suprem(tensors)), "suprem_weights")
        assert_loaded(backbone, tensors)
        assert len(report.matched) == 104
        assert (report.encoder.loaded, report.encoder.total) == (56, 56)
        assert (report.decoder.loaded, report.decoder.total) == (48, 48)
        assert sorted(report.dropped["language heads"]) == sorted(HEAD_SHAPES)
        assert (report.missing, report.unexpected, report.shape_mismatches) == ((), (), ())
        assert report.source == "SuPreM checkpoint"
        assert len(report.adaptations) == 1
        assert report.as_text() == (
            f"suprem_weights: {tmp_path / 'unet.pth'} -> unet3d\n"
            "  source     SuPreM checkpoint\n"
            f"  licence    {LICENCES['suprem']}\n"
            "  encoder    56 of 56 tensors (100%)\n"
            "  decoder    48 of 48 tensors (100%)\n"
            "  new        heads only\n"
            "  dropped    13 (language heads: organ_embedding, precls_conv.0.weight, precls_conv.0.bias, …)\n"
            "  note       The weights were trained with norm_statistics: batch; this network normalises with running."
        )

    def test_at_the_published_width(self, tmp_path: Path) -> None:
        tensors, backbone = trained(width=32), UNet3D(norm_statistics="batch")
        report = load_backbone_weights(backbone, saved(tmp_path / "unet.pth", suprem(tensors)), "suprem_weights")
        assert_loaded(backbone, tensors)
        assert report.adaptations == ()

    @given(
        prefix=st.sampled_from(["module.backbone.", "module.", "backbone.", ""]),
        contained=st.booleans(),
        old=st.booleans(),
        heads=st.booleans(),
    )
    @settings(max_examples=24, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_every_prefix_gives_equal_tensors(self, tmp_path: Path, prefix: str, contained: bool, old: bool, heads: bool) -> None:
        tensors, backbone = trained(), unet()
        content = suprem(tensors, prefix)
        if not heads:
            content["net"] = prefixed(tensors, prefix)
        path = tmp_path / "file"
        torch.save(content if contained else content["net"], path, _use_new_zipfile_serialization=not old)
        report = load_backbone_weights(backbone, path, "suprem_weights")
        assert_loaded(backbone, tensors)
        assert report.unexpected == ()
        assert report.source == ("SuPreM checkpoint" if contained or heads else "plain state dict")

    def test_heads_are_known_by_name_whatever_their_shape(self, tmp_path: Path) -> None:
        content = suprem(trained())
        for name in HEAD_SHAPES:
            content["net"][f"module.{name}"] = torch.zeros(3)
        report = load_backbone_weights(unet(), saved(tmp_path / "file", content), "suprem_weights")
        assert len(report.dropped["language heads"]) == 13
        assert set(HEAD_SHAPES) | {"organ_embedding.weight"} == SUPREM_HEADS

    @pytest.mark.parametrize("module", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
    def test_a_numpy_epoch_is_no_obstacle(self, tmp_path: Path, module: bytes) -> None:
        content = {**suprem(trained()), "epoch": np.int64(3), "scheduler": {"last": np.float64(0.5), "on": np.bool_(True)}}
        path = tmp_path / "file"
        torch.save(content, path, _use_new_zipfile_serialization=False)
        # The name under which NumPy 2 writes its numbers, and NumPy 1's.
        written = path.read_bytes()
        assert b"numpy._core.multiarray" in written
        path.write_bytes(written.replace(b"numpy._core.multiarray", module))
        assert load_backbone_weights(unet(), path, "suprem_weights").encoder.share == 1

    def test_a_stray_tensor_does_not_keep_the_prefix_on(self, tmp_path: Path) -> None:
        tensors, backbone = trained(), unet()
        content = {**prefixed(tensors, "module.backbone."), "temperature": torch.ones(1)}
        report = load_backbone_weights(backbone, saved(tmp_path / "file", content), "suprem_weights")
        assert_loaded(backbone, tensors)
        assert report.unexpected == ("temperature",)

    def test_a_swin_file_switches_to_its_merging_order(self, tmp_path: Path) -> None:
        torch.manual_seed(3)
        source, backbone = SwinUNETR(width=12), SwinUNETR(width=12)
        path = saved(tmp_path / "swin.pth", suprem(dict(source.state_dict())))
        report = load_backbone_weights(backbone, path, "suprem_weights")
        assert_loaded(backbone, dict(source.state_dict()))
        assert backbone.options["patch_merging"] == "legacy"
        assert "patch_merging switched from monai_1.5 to legacy" in report.as_text()

    def test_an_encoder_alone_takes_no_decoder(self, tmp_path: Path) -> None:
        tensors, backbone = trained(), unet(with_decoder=False)
        report = load_backbone_weights(backbone, saved(tmp_path / "file", suprem(tensors)), "suprem_weights")
        assert_loaded(backbone, encoder_of(tensors))
        assert len(report.dropped["decoder, which this stage does not use"]) == 48
        assert report.unexpected == ()
        assert "  decoder    not in this network" in report.as_text()


class TestDINO:
    def test_the_earlier_examples_file_fills_the_encoder_of_a_segmenter(self, tmp_path: Path) -> None:
        teacher, student = encoder_of(trained(1)), encoder_of(trained(2))
        backbone = unet()
        before = {name: value.clone() for name, value in backbone.state_dict().items()}
        report = load_backbone_weights(backbone, saved(tmp_path / "best.ckpt", lightning(dino(teacher, student))), "dino_weights")
        assert_loaded(backbone, teacher)
        assert_loaded(backbone, {name: value for name, value in before.items() if name not in teacher})
        assert report.source == "DINO checkpoint of the earlier OAI example, teacher"
        assert report.adaptations[1:] == ("The weights were trained with norm_statistics: batch; this network normalises with running.",)
        assert len(report.missing) == 48
        assert sum(name.endswith("num_batches_tracked") for name in report.missing) == 6
        assert all(backbone.is_decoder_key(name) for name in report.missing)
        assert report.unexpected == ()
        assert (
            "  new        48 tensors of the backbone (6 of them num_batches_tracked counters); heads always start new" in report.as_text()
        )
        assert "  decoder    0 of 48 tensors (0%)" in report.as_text()
        assert len(report.dropped["student, heads and losses"]) == 56 + 2 * 8 + 1

    @pytest.mark.parametrize("order", ["monai_1.5", "legacy"])
    def test_our_own_checkpoint_brings_its_options(self, tmp_path: Path, order: str) -> None:
        torch.manual_seed(3)
        source, backbone = SwinUNETR(width=12, with_decoder=False), SwinUNETR(width=12, with_decoder=False)
        project = {"format_version": 1, "backbone": "swin_unetr", "backbone_options": {"width": 12, "patch_merging": order}}
        state = {**prefixed(dict(source.state_dict()), "teacher_backbone."), "teacher_backbone_step": torch.tensor(3)}
        path = saved(tmp_path / "best.ckpt", lightning(state, project=project))
        report = load_backbone_weights(backbone, path, "dino_weights")
        assert_loaded(backbone, dict(source.state_dict()))
        assert backbone.options["patch_merging"] == order
        assert report.source == "DINO checkpoint of this project, teacher"
        assert report.unexpected == ("teacher_backbone_step",)
        assert read_backbone_metadata(path, "dino_weights") == project

    def test_a_student_alone_is_taken_and_named(self, tmp_path: Path) -> None:
        tensors, backbone = encoder_of(trained()), unet()
        path = saved(tmp_path / "file", lightning(prefixed(tensors, "student_backbone.")))
        assert load_backbone_weights(backbone, path, "dino_weights").source.endswith(", student")
        assert_loaded(backbone, tensors)

    def test_a_fine_tuned_checkpoint(self, tmp_path: Path) -> None:
        tensors, backbone = trained(), unet()
        state = {**prefixed(tensors, "backbone."), "head.conv.weight": torch.ones(3), "epoch_loss": torch.ones(1)}
        path = saved(tmp_path / "file", lightning(state, project={"format_version": 1}))
        report = load_backbone_weights(backbone, path, "dino_weights")
        assert_loaded(backbone, tensors)
        assert report.source == "fine-tuned checkpoint of this project"
        assert report.dropped == {"student, heads and losses": ("head.conv.weight",)}
        assert report.unexpected == ("epoch_loss",)


class TestOwnBackbone:
    METADATA: dict[str, Any] = {"preprocessing": {"orientation": "RAS", "size": [40, 64, 64]}, "patients": ["a1", "b2"]}  # noqa: RUF012

    def test_round_trip(self, tmp_path: Path) -> None:
        source = unet(norm_statistics="instance").to(memory_format=torch.channels_last_3d)
        path = tmp_path / "backbone.safetensors"
        save_backbone(path, source, self.METADATA)
        metadata = read_backbone_metadata(path, "dino_weights")
        assert metadata == {**self.METADATA, "format_version": 1, "backbone": "unet3d", "backbone_options": source.options}
        backbone = build_backbone(metadata["backbone"], **metadata["backbone_options"])
        report = load_backbone_weights(backbone, path, "dino_weights")
        assert_loaded(backbone, dict(source.state_dict()))
        assert report.source == "backbone file of this project"
        assert report.adaptations == ()
        assert "trained with norm_statistics: instance" in load_backbone_weights(unet(), path, "dino_weights").as_text()
        assert os.listdir(tmp_path) == ["backbone.safetensors"]

    def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "backbone.safetensors"
        save_backbone(path, unet(1), self.METADATA)
        before = path.read_bytes()

        def disk_is_full(file: int) -> None:
            assert len(os.listdir(tmp_path)) == 2  # the new file stands beside the old one
            raise OSError("no space left")

        monkeypatch.setattr(os, "fsync", disk_is_full)
        with pytest.raises(OSError, match="no space left"):
            save_backbone(path, unet(2), self.METADATA)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["backbone.safetensors"]

    def test_other_files_have_no_metadata(self, tmp_path: Path) -> None:
        assert read_backbone_metadata(saved(tmp_path / "file", suprem(trained())), "suprem_weights") == {}

    def test_a_later_format_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        save_file(trained(), path, metadata={"project": json.dumps({"format_version": 2})})
        with pytest.raises(WeightsError, match=r"has format version 2; this code reads 1\. Use the version that wrote it"):
            read_backbone_metadata(path, "dino_weights")

    def test_the_decoder_that_came_along_is_reported_as_loaded(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        save_file(trained(), path)
        assert load_backbone_weights(unet(), path, "dino_weights").source == "plain state dict"


def refusal(backbone: UNet3D | SwinUNETR, path: Path, key: str) -> str:
    """The text of the refusal; the network must be as it was before."""
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    options = dict(backbone.options)
    with pytest.raises(WeightsError) as caught:
        load_backbone_weights(backbone, path, key)
    assert_loaded(backbone, before)
    assert backbone.options == options
    assert str(caught.value).startswith(f"{key}: {path}")
    return str(caught.value)


class TestRefusals:
    def test_a_renamed_prefix(self, tmp_path: Path) -> None:
        text = refusal(unet(), saved(tmp_path / "file", {"net": prefixed(trained(), "foo.")}), "suprem_weights")
        assert "does not hold the whole encoder of unet3d: 0 of 56 tensors (0%). Nothing was loaded." in text
        assert "expected   down_tr64.ops.0.conv1.weight; nearest in the file: foo.down_tr64.ops.0.conv1.weight" in text
        assert "Choose weights that were trained with a unet3d." in text

    @pytest.mark.parametrize("lost", ["down_tr64.ops.0.conv1.weight", "down_tr512.ops.1.bn1.num_batches_tracked"])
    def test_one_encoder_tensor_missing(self, tmp_path: Path, lost: str) -> None:
        tensors = trained()
        del tensors[lost]
        text = refusal(unet(), saved(tmp_path / "file", suprem(tensors)), "suprem_weights")
        assert "55 of 56 tensors (98%)" in text
        assert f"expected   {lost}; nearest in the file: " in text

    def test_a_swin_file_for_a_unet(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "file", suprem(dict(SwinUNETR(width=12).state_dict())))
        text = refusal(unet(), path, "suprem_weights")
        assert text.endswith("These are names of swin_unetr: set backbone: swin_unetr, or choose weights of a unet3d.")
        assert "expected   down_tr64.ops.0.conv1.weight; nearest in the file: " in text

    def test_a_unet_file_for_a_swin(self, tmp_path: Path) -> None:
        text = refusal(SwinUNETR(width=12), saved(tmp_path / "file", suprem(trained())), "suprem_weights")
        assert text.endswith("These are names of unet3d: set backbone: unet3d, or choose weights of a swin_unetr.")

    def test_another_width(self, tmp_path: Path) -> None:
        text = refusal(unet(width=4), saved(tmp_path / "file", suprem(trained())), "suprem_weights")
        assert "shape      down_tr64.ops.0.conv1.weight: file (2, 1, 3, 3, 3), network (4, 1, 3, 3, 3)" in text
        assert "shape      … 90 in all" in text
        assert "8 of 56 tensors (14%)" in text  # the counters
        assert text.endswith("set width and the number of input channels that the weights were trained with.")

    def test_encoder_tensors_that_the_network_lacks(self, tmp_path: Path) -> None:
        # The second version of Swin UNETR has a convolution more in each stage: everything else fits, and the function is another.
        torch.manual_seed(0)
        source = dict(SwinUNETR(width=12).state_dict()) | {"swinViT.layers1c.0.layer.conv1.conv.weight": torch.ones(12, 12, 3, 3, 3)}
        text = refusal(SwinUNETR(width=12), saved(tmp_path / "file", {"state_dict": source}), "suprem_weights")
        assert "holds encoder tensors that this swin_unetr does not have (1, first swinViT.layers1c.0.layer.conv1.conv.weight)" in text

    def test_two_networks_in_one_file_are_not_mixed(self, tmp_path: Path) -> None:
        content, backbone = {**trained(1), **prefixed(trained(2), "backbone.")}, unet()
        report = load_backbone_weights(backbone, saved(tmp_path / "file", content), "suprem_weights")
        assert_loaded(backbone, trained(1))
        assert report.unexpected == tuple(prefixed(trained(2), "backbone."))

    def test_a_tensor_of_as_many_values_in_another_shape(self, tmp_path: Path) -> None:
        tensors = trained()
        tensors["down_tr128.ops.0.conv1.weight"] = tensors["down_tr128.ops.0.conv1.weight"].reshape(3, 4, 4, 3, 3)
        text = refusal(unet(), saved(tmp_path / "file", suprem(tensors)), "suprem_weights")
        assert "shape      down_tr128.ops.0.conv1.weight: file (3, 4, 4, 3, 3), network (4, 4, 3, 3, 3)" in text

    def test_numbers_that_are_not_finite(self, tmp_path: Path) -> None:
        tensors = trained()
        tensors["down_tr128.ops.0.conv1.bias"][1] = float("nan")
        text = refusal(unet(), saved(tmp_path / "file", suprem(tensors)), "suprem_weights")
        assert "holds numbers that are not finite, first in down_tr128.ops.0.conv1.bias." in text

    def test_numbers_that_are_infinite_in_the_networks_type(self, tmp_path: Path) -> None:
        tensors = trained()
        tensors["down_tr64.ops.0.conv1.weight"] = tensors["down_tr64.ops.0.conv1.weight"].double() * 1e300
        text = refusal(unet(), saved(tmp_path / "file", suprem(tensors)), "suprem_weights")
        assert "holds numbers that are not finite, first in down_tr64.ops.0.conv1.weight." in text

    @pytest.mark.parametrize(
        ("kind", "told"), [(torch.int8, "torch.int8"), (torch.bool, "torch.bool"), (torch.complex64, "torch.complex64")]
    )
    def test_numbers_of_another_kind(self, tmp_path: Path, kind: torch.dtype, told: str) -> None:
        name = "down_tr64.ops.0.conv1.weight"
        content = suprem(trained())
        content["net"][f"module.backbone.{name}"] = content["net"][f"module.backbone.{name}"].to(kind)
        text = refusal(unet(), saved(tmp_path / "file", content), "suprem_weights")
        assert f"holds numbers of type {kind} where the network has torch.float32 (1 tensors, first {name})." in text

    @pytest.mark.parametrize(
        "change",
        [
            lambda value: value.to_sparse(),
            lambda value: value.to("meta"),
            lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
        ],
    )
    def test_tensors_without_plain_values(self, tmp_path: Path, change: Callable[[Tensor], Tensor]) -> None:
        content = suprem(trained())
        name = "module.backbone.down_tr64.ops.0.conv1.weight"
        content["net"][name] = change(content["net"][name])
        text = refusal(unet(), saved(tmp_path / "file", content), "suprem_weights")
        assert f"holds tensors that are sparse, quantised or without values (1, first {name})." in text

    def test_a_name_that_is_a_number_is_reported(self, tmp_path: Path) -> None:
        backbone = unet()
        report = load_backbone_weights(backbone, saved(tmp_path / "file", {**trained(), 5: torch.ones(2)}), "suprem_weights")
        assert_loaded(backbone, trained())
        assert report.unexpected == ("5",)

    @pytest.mark.parametrize(
        ("content", "key", "text"),
        [
            (lambda: lightning(dino(trained(), trained())), "suprem_weights", "is a DINO checkpoint of the earlier OAI example, teacher."),
            (lambda: lightning(dino(trained(), trained())), "suprem_weights", "Give it as dino_weights"),
            (lambda: suprem(trained()), "dino_weights", "is a SuPreM checkpoint. Give it as suprem_weights"),
        ],
    )
    def test_the_other_keys_file(self, tmp_path: Path, content: Callable[[], Any], key: str, text: str) -> None:
        assert text in refusal(unet(), saved(tmp_path / "file", content()), key)

    @pytest.mark.parametrize("key", ["suprem_weights", "dino_weights"])
    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (b"", "is empty. Copy or download it again."),
            (b"<!DOCTYPE html><html>", "is a web page, not a weight file."),
            (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer, not the weights."),
            (b"PatientID,path,fold\n1,2,3\n", "is truncated or is no checkpoint ("),
            (b"PK\x03\x04 not a zip", "is truncated or is no checkpoint ("),
            (b"\x10\0\0\0\0\0\0\0{not json", "is truncated or is no checkpoint ("),
        ],
    )
    def test_what_is_no_weight_file(self, tmp_path: Path, key: str, content: bytes, text: str) -> None:
        path = tmp_path / "weights"
        path.write_bytes(content)
        assert text in refusal(unet(), path, key)

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            ([torch.ones(2)], "holds a list, not a checkpoint."),
            (
                {"epoch": 3, "weights": [1, 2]},
                "neither at its top nor under net, state_dict, model, network_weights or teacher; its entries: epoch, weights.",
            ),
            ({"state_dict": {}}, "its entries: state_dict."),
            ({}, "its entries: none."),
        ],
    )
    def test_a_file_without_named_tensors(self, tmp_path: Path, content: Any, text: str) -> None:
        assert text in refusal(unet(), saved(tmp_path / "file", content), "dino_weights")

    @pytest.mark.parametrize("form", ["zip", "old", "safetensors"])
    @pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 1.0])
    def test_a_truncated_file(self, tmp_path: Path, form: str, share: float) -> None:
        path = tmp_path / "file"
        if form == "safetensors":
            save_backbone(path, unet(), {})
        else:
            torch.save(suprem(trained()), path, _use_new_zipfile_serialization=form == "zip")
        whole = path.read_bytes()
        path.write_bytes(whole[: min(max(9, int(len(whole) * share)), len(whole) - 1)])
        assert "is truncated or is no checkpoint (" in refusal(unet(), path, "dino_weights")

    @pytest.mark.parametrize("address", ["https://example.org/unet.pth", "s3://bucket/unet.pth", "hf://x/y"])
    def test_an_address(self, address: str) -> None:
        with pytest.raises(WeightsError, match=r"is an address\. Weights are read from files only"):
            load_backbone_weights(unet(), Path(address), "suprem_weights")

    def test_a_missing_file_and_a_folder(self, tmp_path: Path) -> None:
        assert "is not there." in refusal(unet(), tmp_path / "nowhere.pth", "suprem_weights")
        assert "is a folder." in refusal(unet(), tmp_path, "suprem_weights")


class Touch:
    """Unpickled without care, it creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., int], tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("key", ["suprem_weights", "dino_weights"])
@pytest.mark.parametrize("form", ["zip", "old", 2, 4])
@pytest.mark.parametrize("read", [lambda path, key: load_backbone_weights(unet(), path, key), read_backbone_metadata])
def test_a_pickle_that_would_run_code_runs_nothing(tmp_path: Path, key: str, form: str | int, read: Callable[..., Any]) -> None:
    target, path = tmp_path / "made by the pickle", tmp_path / "file.pth"
    content = {**suprem(trained()), "scheduler": Touch(target)}
    if isinstance(form, int):
        path.write_bytes(pickle.dumps({"net": {"a": 1}, "epoch": Touch(target)}, protocol=form))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(WeightsError) as caught:
        read(path, key)
    assert not target.exists()
    assert str(caught.value).startswith(f"{key}: {path} ")
    if form == 4:
        assert "is a pickle of Python's own, of protocol 4, which cannot be read without running what it holds." in str(caught.value)
    elif form != 2:
        assert "is not only tensors: reading it would run posix.mkdir. Nothing was run." in str(caught.value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_message_about_a_pickle_advises_to_load_it_without_care(tmp_path: Path, protocol: int) -> None:
    target, path = tmp_path / "made by the pickle", tmp_path / "file.pth"
    path.write_bytes(pickle.dumps({"net": {"a": 1}, "epoch": Touch(target)}, protocol))
    text = refusal(unet(), path, "dino_weights")
    assert not target.exists()
    assert "was run." in text
    assert "weights_only" not in text
    assert "Re-running" not in text


def test_the_test_pickle_does_run_when_read_without_care(tmp_path: Path) -> None:
    target = tmp_path / "made by the pickle"
    pickle.loads(pickle.dumps(Touch(target)))
    assert target.exists()


def test_half_precision_is_converted_and_listed(tmp_path: Path) -> None:
    tensors = {name: value.half() if value.is_floating_point() else value for name, value in trained().items()}
    backbone = unet()
    report = load_backbone_weights(backbone, saved(tmp_path / "file", tensors), "suprem_weights")
    assert "90 tensors converted from torch.float16 to torch.float32." in report.adaptations
    assert_loaded(backbone, {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()})


def test_the_report_is_plain(tmp_path: Path) -> None:
    tensors = trained()
    tensors["up_tr64.up_conv.bias"] = torch.ones(3)
    tensors["up_tr64.extra"] = torch.ones(1)
    report = load_backbone_weights(unet(), saved(tmp_path / "file", tensors), "suprem_weights")
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain == report.as_dict()
    assert plain["shape_mismatches"] == [{"name": "up_tr64.up_conv.bias", "file": [3], "network": [8]}]
    assert plain["decoder"] == {"loaded": 47, "total": 48, "share": 47 / 48}
    assert plain["unexpected"] == ["up_tr64.extra"]
    assert plain["dropped"] == {}
    assert plain["key"] == "suprem_weights"
    assert len(plain["matched"]) == 103
    assert report.new == ("up_tr64.up_conv.bias",)
