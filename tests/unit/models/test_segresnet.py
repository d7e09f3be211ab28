"""SegResNet: the published names and shapes, and MONAI's own network."""

import json
from pathlib import Path

import pytest
import torch
from monai.networks.nets.segresnet import SegResNet as MonaiSegResNet

from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.models.segresnet import SegResNet

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "segresnet_keys.json").read_text())


def test_names_and_shapes_are_the_published_ones_less_the_output() -> None:
    backbone = SegResNet()
    assert {key: list(value.shape) for key, value in backbone.state_dict().items()} == GOLDEN
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 4_700_880
    assert (backbone.feature_dim, backbone.decoder_dim) == (128, 16)
    assert (len(backbone.encoder_parameter_names()), len(backbone.decoder_parameter_names())) == (58, 23)


def test_decodes_to_what_monais_forward_gives() -> None:
    torch.manual_seed(0)
    ours = SegResNet(in_channels=2, width=8).eval()
    theirs = MonaiSegResNet(in_channels=2, init_filters=8, out_channels=3, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1)).eval()
    theirs.load_state_dict({**theirs.state_dict(), **ours.state_dict()})
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        theirs.load_state_dict({**theirs.state_dict(), **ours.state_dict()})
        x = torch.randn(2, 2, 16, 24, 8)
        features = ours.encode(x)
        assert torch.allclose(theirs.conv_final[2](ours.decode(features)), theirs(x), atol=1e-5)
        assert torch.equal(features[-1], theirs.encode(x)[0])
    assert [feature.shape[1] for feature in features] == [2, 8, 16, 32, 64]


@pytest.mark.parametrize("options", [{"width": 12}, {"width": 0}])
def test_groups_of_channels_need_multiples_of_eight(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=rf"width is {options['width']}; it is a positive multiple of 8\."):
        SegResNet(**options)
