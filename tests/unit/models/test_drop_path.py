"""Stochastic depth of the encoders with residual blocks, and the distances of an encoder's levels."""

from typing import Any

import pytest
import torch
from monai.networks.layers.drop_path import DropPath
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from fuse_examples.imaging.oai_example.catalogue import BACKBONES
from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.models.backbone import Backbone, build_backbone

SMALL: dict[str, dict[str, Any]] = {
    "unet3d": {"width": 2},
    "swin_unetr": {"width": 12},
    "segresnet": {"width": 8},
    "resnet3d": {"width": 2, "depth": 10, "norm_statistics": "instance"},
}
RESIDUAL = {"resnet3d": 4, "segresnet": 9, "swin_unetr": 8}
"""Residual blocks of the encoder; attention and MLP of a transformer block share a chance."""
SIZE = {"swin_unetr": (32, 32, 64)}


def small(name: str, **options: Any) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(name, **{**SMALL[name], **options})


def places(network: nn.Module) -> list[DropPath]:
    return [module for module in network.modules() if isinstance(module, DropPath)]


@pytest.mark.parametrize("name", RESIDUAL)
def test_the_chance_rises_in_a_straight_line_through_the_encoder_alone(name: str) -> None:
    backbone = small(name)
    keys = list(backbone.state_dict())
    assert [place.drop_prob for place in places(backbone)] == [0.0] * len(places(backbone))
    backbone.use_drop_path(0.3)
    rates = [place.drop_prob for place in places(backbone)]
    assert rates == [pytest.approx(0.3 * number / (RESIDUAL[name] - 1)) for number in range(RESIDUAL[name])]
    assert list(backbone.state_dict()) == keys
    assert len(places(small(name, with_decoder=False))) == RESIDUAL[name]
    assert "drop_path" not in backbone.options


def test_rates_of_swin_unetr_are_monais() -> None:
    theirs = SwinTransformer(1, 12, (7, 7, 7), (2, 2, 2), (2, 2, 2, 2), (3, 6, 12, 24), drop_path_rate=0.3)
    ours = small("swin_unetr")
    ours.use_drop_path(0.3)
    assert [place.drop_prob for place in places(ours)][1:] == pytest.approx([place.drop_prob for place in places(theirs)])


def test_a_volume_passes_a_resnet_block_by_or_gets_twice_its_branch() -> None:
    _check_each_volume(small("resnet3d").layer1[0], lambda x, branch: F.relu(x + branch), channels=2)  # type: ignore[index, operator]


def test_a_volume_passes_a_segresnet_block_by_or_gets_twice_its_branch() -> None:
    _check_each_volume(small("segresnet").down_layers[0][1], lambda x, branch: x + branch, channels=8)  # type: ignore[index, operator]


def _check_each_volume(block: nn.Module, joined: Any, channels: int) -> None:
    branches: list[Tensor] = []
    (place,) = places(block)
    place.register_forward_hook(lambda _, inputs, __: branches.append(inputs[0].clone()))
    place.drop_prob = 0.5
    x = torch.randn(24, channels, 4, 4, 4)
    with torch.no_grad():
        found = block.train()(x.clone())
    passed = torch.isclose(found, joined(x, torch.zeros_like(x)), atol=1e-5).flatten(1).all(dim=1)
    doubled = torch.isclose(found, joined(x, 2 * branches[0]), atol=1e-5).flatten(1).all(dim=1)
    assert (passed ^ doubled).all()
    assert 4 < passed.sum() < 20
    with torch.no_grad():
        assert torch.allclose(block.eval()(x.clone()), joined(x, branches[0]), atol=1e-5)


@pytest.mark.parametrize("name", RESIDUAL)
def test_training_differs_evaluation_does_not_and_checkpointing_computes_the_same(name: str) -> None:
    plain, dropping = small(name, with_decoder=False), small(name, with_decoder=False)
    dropping.use_drop_path(0.5)
    x = torch.randn(2, 1, *SIZE.get(name, (16, 16, 16)))
    with torch.no_grad():
        assert torch.equal(plain.eval().embed(x), dropping.eval().embed(x))
    found = []
    for checkpointing in (False, True):
        dropping.gradient_checkpointing = checkpointing
        dropping.zero_grad()
        torch.manual_seed(1)
        features = dropping.train().embed(x)
        features.square().sum().backward()
        found.append([features.detach(), *(value.grad.clone() for value in dropping.parameters() if value.grad is not None)])
    assert all(torch.allclose(one, other, atol=1e-5, rtol=1e-4) for one, other in zip(*found, strict=True))
    assert not torch.allclose(found[0][0], plain.train().embed(x), atol=1e-3)


def test_without_residual_blocks_it_is_refused() -> None:
    with pytest.raises(ConfigError) as told:
        small("unet3d").use_drop_path(0.2)
    assert str(told.value) == (
        "drop_path is 0.2, but unet3d has no residual blocks that could be passed by. Set drop_path: 0, or choose another backbone, such "
        "as resnet3d."
    )
    small("unet3d").use_drop_path(0.0)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_an_encoders_distances_do_not_depend_on_the_decoder(name: str) -> None:
    alone, whole = small(name, with_decoder=False).encoder_distances(), small(name).encoder_distances()
    assert alone == small(name, with_decoder=False).distances()
    assert {key: value for key, value in whole.items() if value} == alone
    assert sorted(set(alone.values())) == list(range(1, max(alone.values()) + 1))
    assert all(small(name).is_decoder_key(key) for key, value in whole.items() if not value)
