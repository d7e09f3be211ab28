"""Each published source in its exact container: named, covered as stated, every tensor the file's, and computing as it was trained."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import published_files as files
import pytest
import torch
from torch import Tensor

from fuse_examples.imaging.oai_example.errors import WeightsError
from fuse_examples.imaging.oai_example.models.backbone import Backbone, build_backbone
from fuse_examples.imaging.oai_example.models.load_report import LoadReport
from fuse_examples.imaging.oai_example.models.sources import LICENCES, network_of
from fuse_examples.imaging.oai_example.models.weights import load_backbone_weights, look_at_weights, save_backbone

WIDTHS = {"unet3d": 2, "swin_unetr": 12, "segresnet": 8, "resnet3d": 2}


@dataclass(frozen=True)
class Source:
    """A published file: what it is called, the tensors it must give, its content made of them, and what becomes of the rest."""

    named: str
    network: str
    tensors: Callable[[], dict[str, Tensor]]
    content: Callable[[Any], Any]
    n_dropped: int
    decoder: bool = True
    key: str = "suprem_weights"
    licence: str = "unknown"
    options: Mapping[str, Any] = field(default_factory=dict)


def medicalnet(depth: int) -> Source:
    shown = {"depth": depth, "shortcut": "A" if depth in (18, 34) else "B"}
    make = partial(files.resnet, depth)
    return Source("MedicalNet ResNet", "resnet3d", make, files.medicalnet, 3, False, licence="medicalnet", options=shown)


def v2() -> dict[str, Tensor]:
    return files.swin(v2=True)


SOURCES = {
    "suprem_unet": Source("SuPreM checkpoint", "unet3d", files.unet, files.suprem_unet, 13, licence="suprem"),
    "suprem_swin": Source("SuPreM checkpoint", "swin_unetr", files.swin, files.suprem_swin, 13, licence="suprem"),
    "universal_swin": Source("SuPreM checkpoint", "swin_unetr", files.swin, files.universal_swin, 13, licence="suprem"),
    "suprem_alone": Source("SuPreM checkpoint", "unet3d", files.unet, files.suprem_backbone_alone, 0, licence="suprem"),
    "suprem_segresnet": Source("SuPreM checkpoint", "segresnet", files.segresnet, files.suprem_segresnet, 2, licence="suprem"),
    "medicalnet_10": medicalnet(10),
    "medicalnet_18": medicalnet(18),
    "medicalnet_34": medicalnet(34),
    "medicalnet_50": medicalnet(50),
    "models_genesis": Source("Models Genesis", "unet3d", files.unet, files.models_genesis, 2, licence="genesis"),
    "model_swinvit": Source(
        "MONAI self-supervised Swin transformer", "swin_unetr", files.swin, files.model_swinvit, 8, decoder=False, licence="monai"
    ),
    "ssl_pretrained_weights": Source(
        "MONAI self-supervised Swin UNETR (DAE)", "swin_unetr", files.swin, files.ssl_pretrained_weights, 5, licence="monai"
    ),
    "ssl_head": Source("MONAI Swin UNETR", "swin_unetr", files.swin, files.ssl_head_of_one_gpu, 3, decoder=False, licence="monai"),
    "monai_segmenter": Source("MONAI Swin UNETR", "swin_unetr", files.swin, files.monai_segmenter, 2, licence="monai"),
    "voco_cvpr": Source("VoCo Swin UNETR", "swin_unetr", v2, files.voco_cvpr, 2, decoder=False, options={"swin_v2": True}),
    "voco_omni": Source("VoCo Swin UNETR", "swin_unetr", v2, files.voco_omni, 2, options={"swin_v2": True}),
    "earlier_dino": Source(
        "DINO checkpoint of the earlier OAI example, teacher", "unet3d", files.unet, files.earlier_dino, 73, False, "dino_weights"
    ),
    "earlier_mae": Source("MAE or fine-tuning checkpoint of the earlier OAI example", "unet3d", files.unet, files.earlier_mae, 2),
    "earlier_classifier": Source(
        "MAE or fine-tuning checkpoint of the earlier OAI example", "unet3d", files.unet, files.earlier_classifier, 1, decoder=False
    ),
}
every_source = pytest.mark.parametrize("name", SOURCES)


def backbone_for(source: Source, **options: Any) -> Backbone:
    torch.manual_seed(5)
    return build_backbone(source.network, width=WIDTHS[source.network], **source.options, **options)


def load(source: Source, path: Path, backbone: Backbone, *, old_format: bool = False) -> LoadReport:
    torch.save(source.content(source.tensors()), path, _use_new_zipfile_serialization=not old_format)
    return load_backbone_weights(backbone, path, source.key)


def differing(backbone: Backbone, tensors: dict[str, Tensor]) -> list[str]:
    state = backbone.state_dict()
    return [name for name, value in tensors.items() if not torch.equal(state[name], value)]


@every_source
def test_it_is_named_and_every_tensor_is_the_files(name: str, tmp_path: Path) -> None:
    source = SOURCES[name]
    backbone = backbone_for(source)
    made = {key: value.clone() for key, value in backbone.state_dict().items()}
    # Both of torch's formats that can be read safely; which source comes in which does not matter.
    report = load(source, tmp_path / "weights", backbone, old_format=len(name) % 2 == 0)
    tensors = source.tensors() if source.decoder else files.encoder(source.tensors())
    assert differing(backbone, tensors) == []
    assert differing(backbone, {key: value for key, value in made.items() if key not in tensors}) == []
    assert sorted(report.matched) == sorted(tensors)
    assert (report.source, report.licence) == (source.named, LICENCES[source.licence])
    assert report.encoder.share == 1
    assert report.decoder.loaded == (report.decoder.total if source.decoder else 0)
    assert (report.unexpected, report.shape_mismatches, report.adapted) == ((), (), {})
    assert sum(len(names) for names in report.dropped.values()) == source.n_dropped
    if source.network == "swin_unetr":
        assert backbone.options["patch_merging"] == "legacy"
        assert "patch_merging switched from monai_1.5 to legacy" in report.as_text()


@pytest.mark.parametrize("prefix", ["module.backbone.", "module.", "backbone.", ""])
@pytest.mark.parametrize("name", ["suprem_swin", "suprem_segresnet"])
def test_suprems_other_networks_behind_every_prefix(name: str, prefix: str, tmp_path: Path) -> None:
    source = SOURCES[name]
    beside = {key: value for key, value in source.content(source.tensors())["net"].items() if "conv_final.2." in key}
    outputs = {prefix + key.removeprefix("module."): value for key, value in beside.items()}
    torch.save({"net": files.prefixed(source.tensors(), prefix) | outputs, "epoch": 800}, tmp_path / "weights")
    backbone = backbone_for(source)
    report = load_backbone_weights(backbone, tmp_path / "weights", source.key)
    assert (report.source, report.unexpected, report.missing) == ("SuPreM checkpoint", (), ())
    assert differing(backbone, source.tensors()) == []
    assert sum(map(len, report.dropped.values())) == len(outputs)


@every_source
def test_what_names_and_shapes_tell(name: str, tmp_path: Path) -> None:
    source = SOURCES[name]
    torch.save(source.content(source.tensors()), tmp_path / "weights")
    found, metadata = look_at_weights(tmp_path / "weights", source.key)
    assert (found.network, metadata) == (source.network, {})
    swin = {"swin_v2": False} if source.network == "swin_unetr" else {}
    assert found.shown == {"width": WIDTHS[source.network], **swin, **source.options}
    assert found.settings == ({"orientation": "LIP"} if name.startswith("earlier") else {})


def test_the_configuration_can_insist_on_an_order_of_patch_merging(tmp_path: Path) -> None:
    source = SOURCES["suprem_swin"]
    torch.save(source.content(source.tensors()), tmp_path / "weights")
    backbone = backbone_for(source)
    report = load_backbone_weights(backbone, tmp_path / "weights", source.key, {"patch_merging": "monai_1.5"})
    assert backbone.options["patch_merging"] == "monai_1.5"
    assert report.adaptations == ("patch_merging is monai_1.5 as the configuration says; weights of this kind were trained with legacy.",)


def test_medicalnets_weights_switch_to_their_layout(tmp_path: Path) -> None:
    backbone = backbone_for(SOURCES["medicalnet_10"], layout="monai")
    report = load(SOURCES["medicalnet_10"], tmp_path / "weights", backbone)
    assert backbone.options["layout"] == "medicalnet"
    assert report.adaptations == ("layout switched from monai to medicalnet, which these weights were trained with.",)


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith("earlier")])
def test_the_earlier_examples_axes_are_in_the_report(name: str, tmp_path: Path) -> None:
    report = load(SOURCES[name], tmp_path / "weights", backbone_for(SOURCES[name]))
    assert (
        "  note       These weights were trained on arrays with axes LIP (slice, row, column of sagittal DICOM series), so orientation "
        "is LIP." in report.as_text()
    )


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("models_genesis", "module."),
        ("models_genesis", "_orig_mod."),
        ("models_genesis", "_orig_mod.module."),
        ("monai_segmenter", "model."),
        ("medicalnet_10", ""),
    ],
)
def test_wrappers_are_taken_off(name: str, prefix: str, tmp_path: Path) -> None:
    source = SOURCES[name]
    bare = {name.removeprefix("module."): value for name, value in source.content(source.tensors())["state_dict"].items()}
    content = files.prefixed(bare, prefix)
    torch.save(content, tmp_path / "weights")
    backbone = backbone_for(source)
    report = load_backbone_weights(backbone, tmp_path / "weights", "suprem_weights")
    assert (report.source, differing(backbone, source.tensors())) == (source.named, [])


@pytest.mark.parametrize("level", ["", "1."])
def test_the_deeper_level_of_ssl_pretrained_weights(level: str, tmp_path: Path) -> None:
    tensors = files.swin()
    content = files.renamed(
        files.encoder(tensors), lambda name: name.replace("swinViT.", "encoder.").replace(".0.blocks", f".0.{level}blocks")
    )
    torch.save({"model": content}, tmp_path / "weights")
    backbone = backbone_for(SOURCES["ssl_pretrained_weights"], with_decoder=False)
    load_backbone_weights(backbone, tmp_path / "weights", "suprem_weights")
    assert differing(backbone, files.encoder(tensors)) == []


def test_a_segmenter_with_many_classes_is_not_models_genesis(tmp_path: Path) -> None:
    tensors = {**files.unet(), "out_tr.final_conv.weight": torch.ones(9, 4, 1, 1, 1), "out_tr.final_conv.bias": torch.ones(9)}
    torch.save({"state_dict": tensors}, tmp_path / "weights")
    report = load_backbone_weights(backbone_for(SOURCES["models_genesis"]), tmp_path / "weights", "dino_weights")
    assert (report.source, report.dropped) == (
        "plain state dict",
        {"output layer": ("out_tr.final_conv.weight", "out_tr.final_conv.bias")},
    )


def test_a_version_two_file_for_a_version_one_network_is_refused_with_the_remedy(tmp_path: Path) -> None:
    source = SOURCES["voco_omni"]
    torch.save(source.content(source.tensors()), tmp_path / "weights")
    with pytest.raises(WeightsError) as caught:
        load_backbone_weights(build_backbone("swin_unetr", width=12), tmp_path / "weights", "suprem_weights")
    assert "does not have (8, first swinViT.layers1c.0.layer.conv1.conv.weight); set backbone_options: null, or {swin_v2: true}" in str(
        caught.value
    )


def test_names_of_no_network_are_of_none() -> None:
    assert network_of(["layer.weight", "decoder.bias"]) is None
    assert network_of(files.unet()) == "unet3d"
    assert network_of(["swinViT.patch_embed.proj.weight"]) == "swin_unetr"


def test_the_own_export_in_suprems_layout_brings_its_own_order(tmp_path: Path) -> None:
    """SuPreM's container with our metadata: what computed it is written there, so the rule for published files does not apply."""
    tensors = files.swin()
    project = {"format_version": 1, "backbone_options": {"patch_merging": "monai_1.5"}}
    torch.save({"net": files.prefixed(tensors, "module.backbone."), "epoch": 3, "project": project}, tmp_path / "weights")
    for key in ("suprem_weights", "dino_weights"):
        backbone = build_backbone("swin_unetr", width=12)
        report = load_backbone_weights(backbone, tmp_path / "weights", key)
        assert (report.source, backbone.options["patch_merging"]) == ("SuPreM-shaped file of this project", "monai_1.5")
        assert (differing(backbone, tensors), report.licence) == ([], "")


def test_torchs_tar_format_and_torchscript_are_refused_by_name(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "weights.pth", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(WeightsError, match="is in torch's tar format from before 2018, which cannot be read without running"):
        look_at_weights(tmp_path / "weights.pth", "suprem_weights")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(WeightsError, match="is a TorchScript archive, which cannot be read without running"):
        look_at_weights(tmp_path / "script.pt", "suprem_weights")


@pytest.mark.parametrize("name", ["file", "closed/file"])
def test_a_file_that_may_not_be_read(name: str, locked: Path) -> None:
    with pytest.raises(WeightsError) as error:
        look_at_weights(locked / name, "suprem_weights")
    told = "Give this account the right to read it and to enter every folder above it, or name a file that it may read."
    assert str(error.value) == f"suprem_weights: {locked / name} cannot be read: Permission denied. {told}"


def test_the_report_of_a_whole_file(tmp_path: Path) -> None:
    """The words as a user sees them."""
    source = SOURCES["model_swinvit"]
    report = load(source, tmp_path / "model_swinvit.pt", backbone_for(source))
    assert report.as_text() == (
        f"suprem_weights: {tmp_path / 'model_swinvit.pt'} -> swin_unetr\n"
        "  source     MONAI self-supervised Swin transformer\n"
        "  licence    MONAI: the code is Apache-2.0. Read what the page that the weights come from declares.\n"
        "  encoder    126 of 126 tensors (100%)\n"
        "  decoder    0 of 31 tensors (0%)\n"
        "  new        31 tensors of the backbone; heads always start new\n"
        "  dropped    8 (self-supervised heads: norm.weight, norm.bias, rotation_head.weight, …)\n"
        "  note       patch_merging switched from monai_1.5 to legacy, the order these weights were trained with."
    )
    assert json.loads(json.dumps(report.as_dict())) == report.as_dict()


def test_own_weights_have_their_licence_in_their_metadata(tmp_path: Path) -> None:
    save_backbone(tmp_path / "backbone.safetensors", backbone_for(SOURCES["suprem_unet"]), {})
    report = load_backbone_weights(backbone_for(SOURCES["suprem_unet"]), tmp_path / "backbone.safetensors", "dino_weights")
    assert (report.licence, "licence" in report.as_text()) == ("", False)
