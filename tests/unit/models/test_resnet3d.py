"""ResNet3D: MONAI's names and shapes at every depth, MONAI's function, and MedicalNet's with dilated layers."""

import json
from pathlib import Path

import pytest
import torch
from monai.networks.nets.resnet import ResNet as MonaiResNet
from torch import Tensor, nn
from torch.nn import functional as F

from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.models.resnet3d import BLOCKS, SHORTCUTS, ResNet3D

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "resnet3d_keys.json").read_text())
"""Names and shapes of MedicalNet's files by depth, less its output `conv_seg`, as MONAI 1.5.2's `resnet10` to `resnet50` have them."""


def monais(depth: int, width: int, shortcut: str) -> MonaiResNet:
    return MonaiResNet(
        "bottleneck" if depth == 50 else "basic",
        list(BLOCKS[depth]),
        [width, 2 * width, 4 * width, 8 * width],
        n_input_channels=1,
        conv1_t_stride=2,
        shortcut_type=shortcut,
        feed_forward=False,
        bias_downsample=False,
    )


def trained(network: ResNet3D) -> ResNet3D:
    """As after training: no parameter and no statistic is what a new network has."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.add_(torch.rand_like(value) if name.endswith("var") else torch.randn_like(value) * 0.05)
    return network.eval()


@pytest.mark.parametrize("depth", [10, 18, 34, 50])
def test_names_and_shapes_are_monais_and_medicalnets(depth: int) -> None:
    with torch.device("meta"):
        ours, theirs = ResNet3D(depth=depth, with_decoder=False), monais(depth, 64, SHORTCUTS[depth])
    expected = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in ours.state_dict().items()} == expected
    assert [(key, list(value.shape)) for key, value in ours.state_dict().items()] == list(GOLDEN[str(depth)].items())
    assert ours.feature_dim == (2048 if depth == 50 else 512)
    assert ours.options["shortcut"] == {10: "B", 18: "A", 34: "A", 50: "B"}[depth]


@pytest.mark.parametrize(("depth", "shortcut"), [(10, "A"), (10, "B"), (34, "A"), (50, "A"), (50, "B")])
def test_the_layout_of_monai_computes_what_monais_network_does(depth: int, shortcut: str) -> None:
    ours = trained(ResNet3D(width=2, depth=depth, shortcut=shortcut, layout="monai", with_decoder=False))
    theirs = monais(depth, 2, shortcut).eval()
    theirs.load_state_dict(ours.state_dict())
    theirs.avgpool = nn.Identity()
    x = torch.randn(2, 1, 32, 64, 32)
    with torch.no_grad():
        assert torch.allclose(ours.encode(x)[-1].flatten(1), theirs(x), rtol=1e-4, atol=1e-5)


def by_hand(state: dict[str, Tensor], x: Tensor, depth: int, shortcut: str) -> Tensor:
    """MedicalNet's encoder written out from its names: layers 3 and 4 keep the resolution and are dilated by 2 and 4."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{part}"].view(1, -1, 1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def convolved(x: Tensor, name: str, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        padding = dilation if weight.shape[-1] == 3 else 0
        return F.conv3d(x, weight, stride=stride, padding=padding, dilation=dilation)

    x = norm(F.conv3d(x, state["conv1.weight"], stride=2, padding=3), "bn1").clamp(min=0)
    x = F.max_pool3d(x, 3, stride=2, padding=1)
    for layer, (stride, dilation) in enumerate([(1, 1), (2, 1), (1, 2), (1, 4)], start=1):
        for block in range(BLOCKS[depth][layer - 1]):
            name, step = f"layer{layer}.{block}", stride if block == 0 else 1
            if depth == 50:
                y = norm(convolved(x, f"{name}.conv1"), f"{name}.bn1").clamp(min=0)
                y = norm(convolved(y, f"{name}.conv2", step, dilation), f"{name}.bn2").clamp(min=0)
                y = norm(convolved(y, f"{name}.conv3"), f"{name}.bn3")
            else:
                y = norm(convolved(x, f"{name}.conv1", step, dilation), f"{name}.bn1").clamp(min=0)
                y = norm(convolved(y, f"{name}.conv2", 1, dilation), f"{name}.bn2")
            if y.shape != x.shape and shortcut == "B":
                x = norm(convolved(x, f"{name}.downsample.0", step), f"{name}.downsample.1")
            elif y.shape != x.shape:
                x = x[:, :, ::step, ::step, ::step]
                x = torch.cat([x, x.new_zeros(x.shape[0], y.shape[1] - x.shape[1], *x.shape[2:])], dim=1)
            x = (x + y).clamp(min=0)
    return x


@pytest.mark.parametrize(("depth", "shortcut"), [(10, "B"), (18, "A"), (50, "B")])
def test_the_layout_of_medicalnet_dilates_layers_three_and_four(depth: int, shortcut: str) -> None:
    ours = trained(ResNet3D(width=2, depth=depth, with_decoder=False)).double()
    x = torch.randn(1, 1, 16, 24, 16, dtype=torch.float64)
    with torch.no_grad():
        deepest = ours.encode(x)[-1]
        assert torch.allclose(deepest, by_hand(ours.state_dict(), x, depth, shortcut), atol=1e-9)
    assert deepest.shape[2:] == (2, 3, 2)
    assert ours.options["layout"] == "medicalnet"


def test_the_layout_is_a_choice_that_weights_bring_along() -> None:
    backbone = trained(ResNet3D(width=2, depth=10, layout="monai"))
    assert (backbone.size_multiple, backbone.smallest_size) == (32, 32)
    other = trained(ResNet3D(width=2, depth=10))
    assert (other.size_multiple, other.smallest_size) == (8, 8)
    assert backbone.adopt({"layout": "medicalnet"}) == ("layout switched from monai to medicalnet, which these weights were trained with.",)
    other.load_state_dict(backbone.state_dict())
    x = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(backbone.embed(x), other.embed(x))
    assert backbone.options == other.options
    assert backbone.adopt({"norm_statistics": "batch"}) == (
        "The weights were trained with norm_statistics: batch; this network normalises with running.",
    )


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_gradients_pass_the_shortcut(shortcut: str) -> None:
    backbone = ResNet3D(width=2, depth=10, shortcut=shortcut, with_decoder=False)
    for name, module in backbone.named_modules():
        if name.endswith("bn2"):
            nn.init.zeros_(module.weight)  # the convolutions add nothing; what arrives went through the shortcuts
    x = torch.randn(1, 1, 16, 16, 16, requires_grad=True)
    backbone.embed(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("layout", ["medicalnet", "monai"])
@pytest.mark.parametrize("depth", [10, 50])
def test_the_decoder_uses_every_map_and_the_image(layout: str, depth: int) -> None:
    torch.manual_seed(0)
    backbone = ResNet3D(width=2, depth=depth, layout=layout)
    features = [feature.detach().requires_grad_() for feature in backbone.encode(torch.randn(1, 1, 32, 64, 32))]
    decoded = backbone.decode(features)
    assert decoded.shape == (1, 1, 32, 64, 32)
    decoded.square().sum().backward()
    assert [feature.grad is not None and bool(feature.grad.abs().sum() > 0) for feature in features] == [False, *[True] * 6]


def test_the_published_sizes_decoder_is_light() -> None:
    with torch.device("meta"):
        counts = {key: value.numel() for key, value in ResNet3D(depth=50).named_parameters() if key.startswith("decoder.")}
    assert sum(counts.values()) < 300_000


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"depth": 20}, "depth is 20; it is one of 10, 18, 34, 50."),
        ({"shortcut": "C"}, "shortcut is 'C'; it is one of A, B."),
        ({"layout": "strided"}, "layout is 'strided'; it is one of medicalnet, monai."),
        ({"norm_statistics": "group"}, "norm_statistics is 'group'"),
    ],
)
def test_what_it_cannot_be_is_refused(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ResNet3D(width=1, **options)
    assert text in str(caught.value)
