"""UNet3D: the published names and shapes, and the function they stand for."""

import json
from math import prod
from pathlib import Path

import published_files as files
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.models.unet3d import UNet3D
from fuse_examples.imaging.oai_example.models.weights import load_backbone_weights

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "unet3d_keys.json").read_text())


def shapes(module: nn.Module) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in module.state_dict().items()}


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        backbone = UNet3D()
    assert shapes(backbone) == GOLDEN
    assert list(backbone.state_dict()) == list(GOLDEN)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 19_073_600
    assert len(backbone.encoder_parameter_names()) == 56
    assert len(backbone.decoder_parameter_names()) == 48
    parameters = dict(backbone.named_parameters())
    assert sum(prod(GOLDEN[key]) for key in backbone.encoder_parameter_names() if key in parameters) == 7_027_776
    assert (backbone.feature_dim, backbone.decoder_dim) == (512, 64)


@pytest.mark.parametrize("width", [1, 8])
def test_width_scales_every_channel(width: int) -> None:
    with torch.device("meta"):
        found = shapes(UNet3D(width=width))
    for key, shape in GOLDEN.items():
        # Every channel count of the published network is a multiple of 32, the single input channel apart.
        assert found[key] == [length * width // 32 if length % 32 == 0 else length for length in shape], key


def by_hand(state: dict[str, torch.Tensor], x: torch.Tensor, over: tuple[int, ...] = (2, 3, 4)) -> tuple[torch.Tensor, torch.Tensor]:
    """The network written out from its names, with statistics over the axes `over`: (deepest map, decoded map)."""

    def twice(name: str, x: torch.Tensor) -> torch.Tensor:
        for step in (f"{name}.ops.0", f"{name}.ops.1"):
            x = F.conv3d(x, state[f"{step}.conv1.weight"], state[f"{step}.conv1.bias"], padding=1)
            mean = x.mean(over, keepdim=True)
            variance = x.var(over, correction=0, keepdim=True)
            weight, bias = (state[f"{step}.bn1.{kind}"].view(1, -1, 1, 1, 1) for kind in ("weight", "bias"))
            x = ((x - mean) / (variance + 1e-5).sqrt() * weight + bias).clamp(min=0)
        return x

    skips = []
    for name in ("down_tr64", "down_tr128", "down_tr256"):
        skips.append(twice(name, x))
        x = F.max_pool3d(skips[-1], 2)
    deepest = x = twice("down_tr512", x)
    for name, skip in zip(("up_tr256", "up_tr128", "up_tr64"), reversed(skips), strict=True):
        raised = F.conv_transpose3d(x, state[f"{name}.up_conv.weight"], state[f"{name}.up_conv.bias"], stride=2)
        x = twice(name, torch.cat([raised, skip], dim=1))
    return deepest, x


def test_a_suprem_file_computes_the_published_function_with_statistics_of_the_batch(tmp_path: Path) -> None:
    """From the container to the maps: what SuPreM's network computes in evaluation, where it too takes the batch's statistics."""
    tensors = files.unet()
    torch.save(files.suprem_unet(tensors), tmp_path / "supervised_suprem_unet_2100.pth")
    backbone = UNet3D(width=2, norm_statistics="batch").eval()
    load_backbone_weights(backbone, tmp_path / "supervised_suprem_unet_2100.pth", "suprem_weights")
    x = torch.randn(2, 1, 16, 24, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = by_hand({name: value.double() for name, value in tensors.items()}, x, over=(0, 2, 3, 4))
    with torch.no_grad():
        features = backbone.double().encode(x)
        for found, wanted in zip((features[-1], backbone.decode(features)), expected, strict=True):
            assert float((found - wanted).abs().max()) < 1e-5
    alone = by_hand({name: value.double() for name, value in tensors.items()}, x)
    assert float((alone[0] - expected[0]).abs().max()) > 1e-3


def test_computes_the_published_function() -> None:
    torch.manual_seed(0)
    backbone = UNet3D(width=3, in_channels=2, norm_statistics="instance").double()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        x = torch.randn(2, 2, 16, 24, 16, dtype=torch.float64)
        deepest, decoded = by_hand(backbone.state_dict(), x)
        features = backbone.encode(x)
        assert torch.allclose(features[-1], deepest, atol=1e-9)
        assert torch.allclose(backbone.decode(features), decoded, atol=1e-9)
    assert [feature.shape[1] for feature in features] == [2, 6, 12, 24, 48]


def test_initialisation_keeps_the_signal() -> None:
    torch.manual_seed(0)
    backbone = UNet3D(width=4, norm_statistics="running").eval()  # evaluation with fresh statistics: norms are the identity
    x = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        features = backbone.encode(x)
        decoded = backbone.decode(features)
    for feature in [*features[1:], decoded]:
        assert 0.2 < feature.square().mean().sqrt() < 5
    assert all((module.bias == 0).all() for module in backbone.modules() if isinstance(module, nn.Conv3d))


def test_norm_statistics_reach_every_norm() -> None:
    with pytest.raises(ConfigError, match="norm_statistics is 'none'"):
        UNet3D(width=1, norm_statistics="none")
    backbone = UNet3D(width=1, norm_statistics="batch")
    assert {module.statistics for module in backbone.modules() if hasattr(module, "statistics")} == {"batch"}
    assert backbone.options == {"in_channels": 1, "width": 1, "norm_statistics": "batch", "pooling": "average"}


def test_bfloat16_stays_near_float32() -> None:
    torch.manual_seed(0)
    backbone = UNet3D(width=4, norm_statistics="instance")
    x = torch.randn(2, 1, 16, 16, 16)
    with torch.no_grad():
        full = backbone.embed(x)
        with torch.autocast("cpu", torch.bfloat16):
            half = backbone.embed(x)
    assert half.dtype == torch.float32
    assert (half - full).norm() / full.norm() < 0.03
