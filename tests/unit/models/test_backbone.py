"""What every backbone of the catalogue keeps: sizes, names, options, embeddings."""

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.graph import saved_tensors_hooks

from fuse_examples.imaging.oai_example.catalogue import BACKBONES, resolve
from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.models.backbone import Backbone, build_backbone, check_size, describe_padding
from fuse_examples.imaging.oai_example.models.padding import average_over_image, crop, maximum_over_image, pad, padded_size

SMALL = {"unet3d": {"width": 2}, "swin_unetr": {"width": 12}, "segresnet": {"width": 8}, "resnet3d": {"width": 2, "depth": 10}}
SIZE = {"unet3d": (16, 16, 24), "swin_unetr": (32, 32, 64), "segresnet": (16, 16, 24), "resnet3d": (16, 16, 24)}
FIRST_AND_LAST = {
    "unet3d": ("down_tr64.ops.0.conv1.weight", "up_tr64.ops.1.bn1.bias"),
    "swin_unetr": ("swinViT.patch_embed.proj.weight", "decoder1.conv_block.conv2.conv.weight"),
    "segresnet": ("convInit.conv.weight", "conv_final.0.bias"),
    "resnet3d": ("conv1.weight", "decoder.finish.0.weight"),
}


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

    def test_levels_begin_with_the_decoded_map_and_halve_the_padded_size(self, name: str) -> None:
        backbone = small(name).eval()
        x = torch.randn(1, 1, *(length - 3 for length in SIZE[name]))
        with torch.no_grad():
            features = backbone.encode(x)
            finest, *coarser = backbone.decode_levels(features)
            assert torch.allclose(finest, backbone.decode(features), atol=1e-6)
        sizes = [tuple(length // 2**level for length in SIZE[name]) for level in (1, 2)]
        expected = [(1, dim, *size) for dim, size in zip(backbone.level_dims, sizes, strict=bool(backbone.level_dims))]
        assert [tuple(level.shape) for level in coarser] == expected

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

    @pytest.mark.parametrize("pooling", ["average", "max"])
    def test_any_size_is_padded_inside_and_the_padding_does_not_count(self, name: str, pooling: str) -> None:
        backbone = small(name, pooling=pooling).eval()
        multiple = backbone.size_multiple
        size = (SIZE[name][0] - 3, SIZE[name][1], multiple + multiple // 4)
        x = torch.randn(2, 1, *size)
        with torch.no_grad():
            by_hand = pad(x, multiple)
            features, of_padded = backbone.encode(x), backbone.encode(by_hand)
            # What was padded by hand is image to the network: the same maps, of which decode() gives the part that `x` fills ...
            assert all(torch.equal(one, other) for one, other in zip(features[1:], of_padded[1:], strict=True))
            assert torch.equal(backbone.decode(features), crop(backbone.decode(of_padded), size, multiple))
            # ... and embed() the pooled cells, each with the share that `x` fills.
            pool = maximum_over_image if pooling == "max" else average_over_image
            assert torch.equal(backbone.embed(x), pool(features[-1], size, multiple))
        assert features[0] is x

    def test_a_case_does_not_depend_on_the_padding_of_its_batch_mates(self, name: str) -> None:
        backbone = small(name, with_decoder=False).eval()
        x = torch.randn(2, 1, *(length - 2 for length in SIZE[name]))
        with torch.no_grad():
            assert torch.allclose(backbone.embed(x)[:1], backbone.embed(x[:1]), atol=1e-5)

    def test_it_trains_on_the_smallest_size_that_it_states(self, name: str) -> None:
        backbone = small(name).train()
        edge, cells = backbone.smallest_size, max(1, backbone.smallest_map)
        size = (edge, edge, edge + (cells - 1) * backbone.size_multiple)
        check_size(backbone, size, "resize_to")
        backbone.decode(backbone.encode(torch.randn(1, 1, *size))).square().mean().backward()
        assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in backbone.parameters())
        with pytest.raises(ConfigError, match="resize_to is"):
            check_size(backbone, (edge - 1, *size[1:]), "resize_to")

    def test_gradient_checkpointing_changes_memory_and_nothing_else(self, name: str) -> None:
        whole, sparing = small(name).train(), small(name).train()
        sparing.gradient_checkpointing = True
        x = torch.randn(1, 1, *SIZE[name])
        kept = []
        for backbone in (whole, sparing):
            stored: dict[int, int] = {}
            with saved_tensors_hooks(
                lambda tensor, stored=stored: stored.update({tensor.data_ptr(): tensor.nbytes}) or tensor, lambda t: t
            ):
                loss = backbone.decode(backbone.encode(x)).square().mean() + backbone.embed(x).square().mean()
            weights = {parameter.data_ptr() for parameter in backbone.parameters()}
            kept.append(sum(size for place, size in stored.items() if place not in weights))
            loss.backward()
        assert kept[1] < 0.6 * kept[0]
        for (key, one), (_, other) in zip(whole.named_parameters(), sparing.named_parameters(), strict=True):
            assert (one.grad is None) == (other.grad is None), key
            assert one.grad is None or torch.allclose(one.grad, other.grad, rtol=1e-6, atol=1e-6 * float(one.grad.abs().max())), key
        # Statistics and counters move once, not again in the backward pass.
        assert all(torch.equal(one, other) for one, other in zip(whole.buffers(), sparing.buffers(), strict=True))

    def test_distances_grow_from_the_output_to_the_image(self, name: str) -> None:
        backbone = small(name)
        distances = backbone.distances()
        assert list(distances) == [key for key, _ in backbone.named_parameters()]
        assert sorted(set(distances.values())) == list(range(1, max(distances.values()) + 1))
        first, last = FIRST_AND_LAST[name]
        assert distances[first] == max(distances.values())
        assert distances[last] == 1
        encoder = small(name, with_decoder=False).distances()
        # Without a decoder the encoder's last level is the output's next.
        shift = distances[first] - encoder[first]
        assert {key: distance + shift for key, distance in encoder.items()}.items() <= distances.items()
        assert min(encoder.values()) == 1

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
    def test_check_size_takes_every_size_from_the_smallest_on(self, name: str, size: tuple[int, int, int]) -> None:
        cls = resolve(BACKBONES[name])
        n_cells = prod(length / cls.size_multiple for length in padded_size(size, cls.size_multiple))
        if min(size) >= cls.smallest_size and n_cells >= cls.smallest_map:
            check_size(cls, size, "resize_to")
        else:
            with pytest.raises(ConfigError, match="resize_to is"):
                check_size(cls, size, "resize_to")

    def test_the_examples_default_size_is_taken(self, name: str) -> None:
        check_size(resolve(BACKBONES[name]), (40, 224, 224), "resize_to")


def test_every_unknown_option_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build_backbone("unet3d", depth=3, patch_merging="legacy")
    assert len(caught.value.problems) == 2


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"backbone is 'unet'; it is one of resnet3d, segresnet, swin_unetr, unet3d\. Did you mean 'unet3d'\?"
    ):
        build_backbone("unet")


@pytest.mark.parametrize(
    ("name", "size", "text"),
    [
        (
            "swin_unetr",
            (16, 224, 31),
            "resize_to is [16, 224, 31], but swin_unetr trains on 32 voxels or more along every axis: 16, 31 is too few. "
            "Use a larger size, for example [32, 224, 32].",
        ),
        ("unet3d", (4, 64, 65), "4 is too few. Use a larger size, for example [8, 64, 65]."),
        ("unet3d", (8, 8, 8), "resize_to is [8, 8, 8], which unet3d reduces to a map of a single voxel"),
        ("unet3d", (8, 8, 8), "for example [8, 16, 16]."),
        ("unet3d", (7, 7, 7), "7 is too few. Use a larger size, for example [8, 16, 16]."),  # which is itself taken
    ],
)
def test_check_size_says_what_is_enough(name: str, size: tuple[int, int, int], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_size(resolve(BACKBONES[name]), size, "resize_to")
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("name", "size", "text"),
    [
        ("unet3d", (40, 224, 224), None),
        ("unet3d", (38, 224, 220), "crops.local_size [38, 224, 220] becomes [40, 224, 224] in unet3d, 7% of it padding"),
        (
            "swin_unetr",
            (40, 224, 224),
            "warning: crops.local_size [40, 224, 224] becomes [64, 224, 224] in swin_unetr, 38% of it padding, which costs time and enters "
            "the normalisation. These sizes need none: [32, 224, 224] or [64, 224, 224].",
        ),
    ],
)
def test_padding_is_told_and_much_of_it_is_a_warning(name: str, size: tuple[int, int, int], text: str | None) -> None:
    assert describe_padding(resolve(BACKBONES[name]), size, "crops.local_size") == text


@pytest.mark.parametrize(("length", "warns"), [(46, False), (44, True)])  # of 64: 28 and 31 per cent padding
def test_the_warning_starts_above_thirty_per_cent(length: int, warns: bool) -> None:
    text = describe_padding(resolve(BACKBONES["swin_unetr"]), (64, 64, length), "resize_to")
    assert text is not None
    assert text.startswith("warning: ") == warns
