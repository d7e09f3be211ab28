"""SwinUNETR against MONAI's own network, and the two orders of patch merging."""

import json
import runpy
from itertools import product
from pathlib import Path

import pytest
import torch
from monai.networks.nets.swin_unetr import PatchMerging as MonaiPatchMerging
from monai.networks.nets.swin_unetr import SwinUNETR as MonaiSwinUNETR

from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.models.swin_unetr import MERGING_OFFSETS, PatchMerging, SwinUNETR

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "swin_unetr_keys.json").read_text())

FEATURES = Path(__file__).parents[2] / "golden" / "swin_unetr_features_before_monai_1.5.json"


@pytest.fixture(scope="module")
def pair() -> tuple[SwinUNETR, MonaiSwinUNETR]:
    """Ours and MONAI's network with the same weights, width 12."""
    torch.manual_seed(0)
    ours = SwinUNETR(width=12).eval()
    theirs = MonaiSwinUNETR(in_channels=1, out_channels=3, feature_size=12).eval()
    theirs.load_state_dict({**theirs.state_dict(), **ours.state_dict()})
    return ours, theirs


def test_names_and_shapes_are_monais_less_the_output() -> None:
    backbone = SwinUNETR()
    assert {key: list(value.shape) for key, value in backbone.state_dict().items()} == GOLDEN
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 62_186_610
    assert (backbone.feature_dim, backbone.decoder_dim) == (768, 48)
    assert all(key.startswith("swinViT.") == backbone.is_encoder_key(key) for key in GOLDEN)


def test_decodes_to_what_monais_forward_gives(pair: tuple[SwinUNETR, MonaiSwinUNETR]) -> None:
    ours, theirs = pair
    x = torch.randn(1, 1, 32, 64, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = ours.encode(x)
        found, expected = theirs.out(ours.decode(features)), theirs(x)
        hidden = theirs.swinViT(x, True)
    assert (found - expected).abs().max() < 1e-6
    assert torch.equal(features[-1], hidden[4])


def test_one_deepest_voxel_takes_the_residual(pair: tuple[SwinUNETR, MonaiSwinUNETR]) -> None:
    ours, _ = pair
    with torch.no_grad():
        features = ours.encode(torch.randn(2, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1)))
        decoded = ours.decode(features)
        block = ours.encoder10.layer
        # The block by hand, where a norm over one voxel is (x - x) / sqrt(0 + eps) = 0.
        inner = block.conv2(block.lrelu(block.conv1(features[-1]) * 0)) * 0
        expected = [*features[:-1], torch.where(inner + features[-1] > 0, features[-1], 0.01 * features[-1])]
        x = ours.decoder5(expected[-1], expected[5])
        for name, skip in (("4", expected[4]), ("3", expected[3]), ("2", expected[2]), ("1", expected[1])):
            x = ours.get_submodule(f"decoder{name}")(x, ours.get_submodule(f"encoder{name}")(skip))
    assert decoded.shape == (2, 12, 32, 32, 32)
    assert torch.allclose(decoded, x, atol=1e-6)


@pytest.mark.parametrize(("kind", "swin_v2"), [("swin_unetr", False), ("swin_unetr_v2", True)])
def test_the_legacy_order_computes_what_monai_before_1_5_computed(kind: str, swin_v2: bool) -> None:
    """Features of MONAI 1.4's own network, written by the script beside them; the newer order is far from them."""
    made = runpy.run_path(str(FEATURES.with_name("make_swin_unetr_features.py")))
    golden = json.loads(FEATURES.read_text())
    assert golden["monai"].startswith("1.4.")
    backbone = SwinUNETR(width=made["WIDTH"], patch_merging="legacy", swin_v2=swin_v2).double().eval()
    made["seed"](backbone)
    with torch.no_grad():
        features = backbone.encode(made["image"]())
        found = made["samples"]([*features[-5:], backbone.decode(features)])
        backbone.use_patch_merging("monai_1.5")
        newer = made["samples"]([*backbone.encode(made["image"]())[-5:], features[-1]])
    assert all(len(values) > 90 for values in found.values())
    for name in made["MAPS"]:
        assert max(abs(a - b) for a, b in zip(found[name], golden[kind][name], strict=True)) < 1e-5, name
        if name not in ("half", "decoded"):
            there, here = torch.tensor(golden[kind][name]), torch.tensor(newer[name])
            assert float((here - there).norm() / there.norm()) > 0.3, name


def joined_by_index(x: torch.Tensor, offsets: list[str]) -> torch.Tensor:
    """Each output token's channels, picked one token at a time."""
    batch, depth, height, width, channels = x.shape
    out = torch.empty(batch, depth // 2, height // 2, width // 2, 8 * channels)
    for d, h, w in product(range(depth // 2), range(height // 2), range(width // 2)):
        for place, bits in enumerate(offsets):
            token = x[:, 2 * d + int(bits[0]), 2 * h + int(bits[1]), 2 * w + int(bits[2])]
            out[:, d, h, w, place * channels : (place + 1) * channels] = token
    return out


@pytest.mark.parametrize(
    ("order", "offsets"),
    [("legacy", "000,100,010,001,101,010,001,111"), ("monai_1.5", "000,100,010,001,110,101,011,111")],
)
def test_each_order_joins_the_documented_sub_grids(order: str, offsets: str) -> None:
    torch.manual_seed(0)
    merging = PatchMerging(dim=3)
    merging.offsets = MERGING_OFFSETS[order]
    x = torch.randn(2, 4, 2, 6, 3)
    joined = joined_by_index(x, offsets.split(","))
    expected = torch.nn.functional.layer_norm(joined, [24], merging.norm.weight, merging.norm.bias) @ merging.reduction.weight.T
    assert torch.allclose(merging(x), expected, atol=1e-5)


def test_the_default_order_is_the_installed_monais() -> None:
    torch.manual_seed(0)
    ours, theirs = PatchMerging(dim=4), MonaiPatchMerging(dim=4)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 4, 4, 6, 4)
    assert torch.equal(ours(x), theirs(x))


def test_the_order_is_an_option_that_changes_every_stage_and_no_name() -> None:
    torch.manual_seed(0)
    new = SwinUNETR(width=12, with_decoder=False).eval()
    old = SwinUNETR(width=12, with_decoder=False, patch_merging="legacy").eval()
    old.load_state_dict(new.state_dict())
    assert (new.options["patch_merging"], old.options["patch_merging"]) == ("monai_1.5", "legacy")
    x = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        differing = [not torch.allclose(a, b, atol=1e-3) for a, b in zip(new.encode(x), old.encode(x), strict=True)]
        assert differing == [False, False, False, True, True, True, True]
        assert new.adopt({"patch_merging": "legacy"}) == (
            "patch_merging switched from monai_1.5 to legacy, the order these weights were trained with.",
        )
        assert torch.equal(new.embed(x), old.embed(x))
    assert new.options["patch_merging"] == "legacy"
    assert new.adopt({"patch_merging": "legacy"}) == ()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"width": 16}, "width is 16; it is a positive multiple of 12."),
        ({"swin_v2": "yes"}, "swin_v2 is 'yes'; it is true or false."),
        ({"patch_merging": "old"}, "patch_merging is 'old'; it is one of monai_1.5, legacy."),
    ],
)
def test_what_it_cannot_be_is_refused(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SwinUNETR(**options)
    assert text in str(caught.value)
