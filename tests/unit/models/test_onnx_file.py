"""ONNX files compute what the network does, with any batch; a wrong one is not kept."""

import builtins
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from fuse_examples.imaging.oai_example.errors import UserError
from fuse_examples.imaging.oai_example.models.backbone import Backbone, build_backbone
from fuse_examples.imaging.oai_example.models.onnx_file import write_onnx
from fuse_examples.imaging.oai_example.models.published_layout import PREFIXES, suprem_shaped

SMALL: dict[str, dict[str, Any]] = {"unet3d": {"width": 2}, "segresnet": {"width": 8}, "resnet3d": {"width": 2, "depth": 10}}


class Embedded(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone.embed(image)
        return features, self.backbone.decode(self.backbone.encode(image))


@pytest.mark.slow  # an export takes seconds, a Swin UNETR's a minute; tests/integration/test_export.py has two quick ones
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unet3d", {}),
        ("unet3d", {"norm_statistics": "instance", "pooling": "max"}),
        ("unet3d", {"norm_statistics": "batch"}),
        ("segresnet", {}),
        ("resnet3d", {}),
        ("swin_unetr", {"width": 12, "patch_merging": "legacy"}),
    ],
)
def test_the_file_computes_what_the_network_does(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    """A size that is padded inside, and a batch that neither the export nor its own check has seen."""
    torch.manual_seed(0)
    network = Embedded(build_backbone(name, **{**SMALL.get(name, {}), **options})).eval()
    shape = (1, 32, 32, 36) if name == "swin_unetr" else (1, 16, 16, 20)
    path = tmp_path / "network.onnx"
    assert write_onnx(network, path, inputs={"image": shape}, outputs=("features", "map"), metadata={"project": "{}"}) < 1e-4
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["features", "map"]
    assert session.get_inputs()[0].shape == ["batch", *shape]
    assert session.get_modelmeta().custom_metadata_map["project"] == "{}"
    image = torch.randn(3, *shape)
    with torch.no_grad():
        expected = network(image)
    for found, wanted in zip(session.run(None, {"image": image.numpy()}), expected, strict=True):
        assert torch.allclose(torch.from_numpy(found), wanted, atol=1e-4)


class Drifting(nn.Module):
    """Another function at each call, as a file of a wrong export would be another than the network."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return image * self.calls


def test_a_file_that_computes_something_else_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"wrong\.onnx: ONNX Runtime differs from PyTorch by .* of the largest output, more than 0\.0001"):
        write_onnx(Drifting(), tmp_path / "wrong.onnx", inputs={"image": (1, 4, 4, 4)}, outputs=("out",), metadata={})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "onnxscript":
            raise ImportError(name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="ONNX needs the package onnxscript: install onnx, onnxscript and onnxruntime"):
        write_onnx(Drifting(), tmp_path / "x.onnx", inputs={"image": (1, 4, 4, 4)}, outputs=("out",), metadata={})


@pytest.mark.parametrize("name", sorted(PREFIXES))
def test_suprems_rules_find_every_tensor_of_the_suprem_shaped_file(name: str) -> None:
    """Its loaders drop one or two leading parts of a name, and copy what the network has (documented behaviour)."""
    backbone = build_backbone(name, **SMALL.get(name, {"width": 12}))
    content = suprem_shaped(backbone, {"patients": []})
    assert list(content) == ["net", "optimizer", "scheduler", "epoch", "project"]
    n_parts = 1 if name == "segresnet" else 2
    stripped = {".".join(key.split(".")[n_parts:]): value for key, value in content["net"].items()}
    state = backbone.state_dict()
    assert list(stripped) == list(state)
    assert all(torch.equal(stripped[key], value) for key, value in state.items())
    assert all(key.startswith("module.") and ("backbone" in key) == (name != "segresnet") for key in content["net"])
    assert content["project"]["backbone_options"] == backbone.options
