"""What is changed to fit, and nothing else: input channels and windows."""

from pathlib import Path

import published_files as files
import pytest
import torch
from torch.nn import functional as F

from fuse_examples.imaging.oai_example.errors import WeightsError
from fuse_examples.imaging.oai_example.models.adaptation import adapt
from fuse_examples.imaging.oai_example.models.backbone import build_backbone
from fuse_examples.imaging.oai_example.models.weights import load_backbone_weights

FIRST = {
    "unet3d": ["down_tr64.ops.0.conv1.weight"],
    "swin_unetr": ["swinViT.patch_embed.proj.weight", "encoder1.layer.conv1.conv.weight", "encoder1.layer.conv3.conv.weight"],
}
TABLE = "swinViT.layers2.0.blocks.1.attn.relative_position_bias_table"


@pytest.mark.parametrize(("network", "width", "channels"), [("unet3d", 2, 2), ("unet3d", 2, 3), ("swin_unetr", 12, 2)])
def test_equal_channels_give_what_one_channel_gave(network: str, width: int, channels: int, tmp_path: Path) -> None:
    tensors = files.unet() if network == "unet3d" else files.swin()
    torch.save(tensors, tmp_path / "weights")
    one, more = (build_backbone(network, width=width, in_channels=n).eval() for n in (1, channels))
    load_backbone_weights(one, tmp_path / "weights", "suprem_weights")
    report = load_backbone_weights(more, tmp_path / "weights", "suprem_weights")
    assert report.adapted == {f"1 input channel repeated over {channels} and divided by {channels}": tuple(FIRST[network])}
    assert (report.encoder.share, report.decoder.share, report.shape_mismatches, report.new) == (1, 1, (), ())
    assert f"adapted    {len(FIRST[network])} (1 input channel repeated over {channels}" in report.as_text()
    assert set(report.matched) == set(tensors) - set(FIRST[network])
    x = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = one.embed(x), more.embed(x.expand(1, channels, 32, 32, 32))
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_several_channels_are_added_up_for_a_network_of_one() -> None:
    weight, x = torch.randn(4, 3, 3, 3, 3), torch.randn(1, 1, 5, 5, 5)
    adapted = adapt("conv1.weight", weight, torch.empty(4, 1, 3, 3, 3), 1)
    assert adapted is not None
    assert adapted.how == "3 input channels added up into 1"
    assert torch.allclose(F.conv3d(x, adapted.tensor), F.conv3d(x.expand(1, 3, 5, 5, 5), weight), atol=1e-5)


@pytest.mark.parametrize(
    ("found", "wanted", "in_channels"),
    [
        ((4, 2, 3, 3, 3), (4, 3, 3, 3, 3), 3),  # two channels to three: no one knows which is which
        ((4, 1, 3, 3, 3), (8, 2, 3, 3, 3), 2),
        ((4, 1, 5, 5, 5), (4, 2, 3, 3, 3), 2),
        ((4, 1, 3, 3, 3), (4, 2, 3, 3, 3), 1),  # not a convolution of the image
        ((4,), (8,), 2),
        ((4, 1), (4, 2), 2),
    ],
)
def test_nothing_else_is_adapted(found: tuple[int, ...], wanted: tuple[int, ...], in_channels: int) -> None:
    assert adapt("conv1.weight", torch.ones(found), torch.ones(wanted), in_channels) is None


@pytest.mark.parametrize("window", [4, 8])
def test_a_table_of_another_window_is_interpolated(window: int, tmp_path: Path) -> None:
    """A table that is linear in the offset stays that line, and its ends stay its ends."""
    edge, tensors = 2 * window - 1, files.swin()
    offsets = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, edge)] * 3, indexing="ij"))
    heads = tensors[TABLE].shape[1]
    slopes = torch.randn(heads, 3, generator=torch.Generator().manual_seed(3))
    for name in list(tensors):
        if name.endswith("relative_position_bias_table"):
            tensors[name] = torch.ones(edge**3, tensors[name].shape[1])
        elif name.endswith("relative_position_index"):
            tensors[name] = torch.zeros(window**3, window**3, dtype=torch.long)
    tensors[TABLE] = torch.einsum("hk,kxyz->xyzh", slopes, offsets).reshape(-1, heads)
    torch.save({"state_dict": tensors}, tmp_path / "weights")
    backbone = build_backbone("swin_unetr", width=12)
    index = {name: value.clone() for name, value in backbone.state_dict().items() if name.endswith("position_index")}
    report = load_backbone_weights(backbone, tmp_path / "weights", "suprem_weights")
    here = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 13)] * 3, indexing="ij"))
    state = backbone.state_dict()
    assert torch.allclose(state[TABLE], torch.einsum("hk,kxyz->xyzh", slopes, here).reshape(-1, heads), atol=1e-5)
    assert all(torch.equal(state[name], value) for name, value in index.items())
    assert {how: len(names) for how, names in report.adapted.items()} == {
        f"linearly interpolated from window {window} to window 7": 8,
        f"the network's own kept, which follows from its window: file {window**3}×{window**3}, network 343×343": 8,
    }
    assert report.encoder.share == 1


def test_a_table_of_a_window_that_is_no_cube_is_refused(tmp_path: Path) -> None:
    tensors = files.swin()
    tensors[TABLE] = torch.ones(100, tensors[TABLE].shape[1])
    torch.save({"state_dict": tensors}, tmp_path / "weights")
    with pytest.raises(
        WeightsError, match=r"shape      swinViT\.layers2\.0\.blocks\.1\.attn\.relative_position_bias_table: file \(100, 6\)"
    ):
        load_backbone_weights(build_backbone("swin_unetr", width=12), tmp_path / "weights", "suprem_weights")


def test_a_number_that_is_not_finite_is_seen_behind_an_adaptation(tmp_path: Path) -> None:
    tensors = files.unet()
    tensors[FIRST["unet3d"][0]][0] = float("inf")
    torch.save(tensors, tmp_path / "weights")
    with pytest.raises(WeightsError, match=r"not finite, first in down_tr64\.ops\.0\.conv1\.weight"):
        load_backbone_weights(build_backbone("unet3d", width=2, in_channels=2), tmp_path / "weights", "suprem_weights")
