"""What every backbone of the catalogue keeps: sizes, names, options, embeddings."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.catalogue import BACKBONES, resolve
from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.models.backbone import Backbone, build_backbone, check_size

SMALL = {"unet3d": {"width": 2}, "swin_unetr": {"width": 12}}
SIZE = {"unet3d": (16, 16, 24), "swin_unetr": (32, 32, 64)}


def small(name: str, **options: object) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(name, **{**SMALL[name], **options})


@pytest.mark.parametrize("name", sorted(BACKBONES))
class TestEveryBackbone:
    def test_maps_have_the_promised_shapes(self, name: str) -> None:
        backbone = small(name).eval()
        x = torch.randn(1, 1, *SIZE[name])
        with torch.no_grad():
            features = backbone.encode(x)
            decoded = backbone.decode(features)
        reduced = tuple(length // backbone.size_multiple for length in SIZE[name])
        assert features[-1].shape == (1, backbone.feature_dim, *reduced)
        assert decoded.shape == (1, backbone.decoder_dim, *SIZE[name])

    @pytest.mark.parametrize("pooling", ["average", "max"])
    @pytest.mark.parametrize("batch", [1, 2])
    def test_embed_pools_the_deepest_map_and_keeps_the_batch_axis(self, name: str, pooling: str, batch: int) -> None:
        backbone = small(name, pooling=pooling, with_decoder=False).eval()
        x = torch.randn(batch, 1, *SIZE[name])
        with torch.no_grad():
            embedded = backbone.embed(x)
            deepest = backbone.encode(x)[-1].flatten(2)
        assert embedded.shape == (batch, backbone.feature_dim)
        assert torch.allclose(embedded, deepest.mean(2) if pooling == "average" else deepest.max(2).values, atol=1e-5)

    def test_options_rebuild_it(self, name: str) -> None:
        backbone = small(name, in_channels=2, pooling="max")
        assert all(isinstance(value, int | float | str | bool) for value in backbone.options.values())
        again = build_backbone(name, **backbone.options)
        assert again.options == backbone.options
        again.load_state_dict(backbone.state_dict())
        x = torch.randn(1, 2, *SIZE[name])
        with torch.no_grad():
            assert torch.equal(again.eval().embed(x), backbone.eval().embed(x))

    def test_each_name_is_encoder_or_decoder(self, name: str) -> None:
        backbone = small(name)
        encoder, decoder = backbone.encoder_parameter_names(), backbone.decoder_parameter_names()
        assert len(encoder) > 0
        assert len(decoder) > 0
        assert sorted(encoder + decoder) == sorted(backbone.state_dict())
        assert set(encoder).isdisjoint(decoder)

    def test_the_encoder_is_what_the_embedding_uses(self, name: str) -> None:
        backbone = small(name).train()
        backbone.embed(torch.randn(1, 1, *SIZE[name])).square().sum().backward()
        used = {key for key, parameter in backbone.named_parameters() if parameter.grad is not None}
        assert used <= set(backbone.encoder_parameter_names())
        unused = set(backbone.encoder_parameter_names()) - used - {key for key, _ in backbone.named_buffers()}
        # Swin's last merging layer feeds the last hidden state, so nothing of either encoder is idle.
        assert unused == set()

    def test_without_decoder_the_encoder_is_the_same(self, name: str) -> None:
        whole, half = small(name), small(name, with_decoder=False)
        assert set(half.state_dict()) == set(whole.encoder_parameter_names())
        assert half.decoder_parameter_names() == ()
        assert half.is_decoder_key(whole.decoder_parameter_names()[0])
        assert "with_decoder" not in half.options
        with pytest.raises(RuntimeError, match="built without its decoder"):
            half.decode([])

    def test_nothing_of_a_batch_stays_on_the_module(self, name: str) -> None:
        backbone = small(name).eval()
        before = {key: set(vars(module)) for key, module in backbone.named_modules()}
        with torch.no_grad():
            backbone.decode(backbone.encode(torch.randn(1, 1, *SIZE[name])))
        assert {key: set(vars(module)) for key, module in backbone.named_modules()} == before
        assert not [key for module in backbone.modules() for key, value in vars(module).items() if isinstance(value, torch.Tensor)]

    def test_an_image_of_a_wrong_size_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigError, match=r"the input's size is \[20, 40, 40\], but"):
            small(name).embed(torch.zeros(1, 1, 20, 40, 40))

    def test_its_name_is_the_catalogues(self, name: str) -> None:
        assert resolve(BACKBONES[name]).name == name

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"widht": 4}, "has no option 'widht'; its options are in_channels, width, "),
            ({"widht": 4}, "Did you mean 'width'?"),
            ({"width": 0}, "width is 0; it is"),
            ({"width": 2.0}, "width is 2.0; it is"),
            ({"width": True}, "width is True; it is"),
            ({"in_channels": -1}, "in_channels is -1; it is a whole number of 1 or more."),
            ({"pooling": "sum"}, "pooling is 'sum'; it is one of average, max."),
        ],
    )
    def test_bad_options_are_refused(self, name: str, options: dict[str, object], text: str) -> None:
        with pytest.raises(ConfigError) as caught:
            small(name, **options)
        assert text in str(caught.value)

    @given(size=st.tuples(*[st.integers(1, 260)] * 3))
    @settings(max_examples=40, deadline=None)
    def test_check_size_takes_multiples_and_nothing_else(self, name: str, size: tuple[int, int, int]) -> None:
        cls = resolve(BACKBONES[name])
        cells = [length / cls.size_multiple for length in size]
        if all(cell.is_integer() for cell in cells) and (name == "swin_unetr" or cells != [1, 1, 1]):
            check_size(cls, size, "resize_to")
        else:
            with pytest.raises(ConfigError, match="resize_to is"):
                check_size(cls, size, "resize_to")


def test_every_unknown_option_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build_backbone("unet3d", depth=3, patch_merging="legacy")
    assert len(caught.value.problems) == 2


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"backbone is 'unet'; it is one of swin_unetr, unet3d\. Did you mean 'unet3d'\?"):
        build_backbone("unet")


@pytest.mark.parametrize(
    ("name", "size", "text"),
    [
        (
            "swin_unetr",
            (40, 224, 224),
            "resize_to is [40, 224, 224], but swin_unetr takes multiples of 32 along every axis: 40 does not fit. "
            "The nearest that fit: [32, 224, 224] or [64, 224, 224].",
        ),
        ("unet3d", (4, 64, 65), "4, 65 does not fit. The nearest that fit: [8, 64, 64] or [8, 64, 72]."),
        ("unet3d", (0, 8, 16), "0 does not fit. The nearest that fit: [8, 8, 16]."),
        ("unet3d", (8, 8, 8), "resize_to is [8, 8, 8], which unet3d reduces to a map of a single voxel"),
        ("unet3d", (8, 8, 8), "for example [8, 16, 16]."),
    ],
)
def test_check_size_says_what_fits(name: str, size: tuple[int, int, int], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_size(resolve(BACKBONES[name]), size, "resize_to")
    assert text in str(caught.value)


def test_the_examples_default_size_fits_the_default_backbone() -> None:
    check_size(small("unet3d"), (40, 224, 224), "resize_to")


def test_an_average_over_a_large_bfloat16_map_keeps_float32() -> None:
    class Flat(Backbone):
        name = "flat"
        size_multiple = 1
        encoder_prefixes = decoder_prefixes = ()

        def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x]

        def decode(self, features: list[torch.Tensor]) -> torch.Tensor:
            return features[-1]

    x = torch.rand(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    embedded = Flat({}, pooling="average", with_decoder=True).embed(x)
    assert torch.allclose(embedded.double(), x.double().mean((2, 3, 4)), atol=1e-5)
