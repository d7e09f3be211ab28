"""What every backbone is: an encoder to a deep feature map, an optional decoder back to full resolution, and its own options."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from functools import partial
from inspect import signature
from math import prod
from typing import Any, ClassVar, Literal, get_args

import torch
from monai.networks.layers.drop_path import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fuse_examples.imaging.oai_example.catalogue import BACKBONES, resolve
from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.models.norm import unmoved_statistics
from fuse_examples.imaging.oai_example.models.padding import (
    average_over_image,
    cell_grid,
    crop,
    maximum_over_image,
    pad,
    padded_size,
    padding_share,
)

Pooling = Literal["average", "max"]
Option = int | float | str | bool
MUCH_PADDING = 0.3
"""Share of padding above which `--check` warns: more than that is mostly computed for nothing, and normalisation takes it in."""


class Backbone(nn.Module, ABC):
    """A 3D network in two halves. A new one is one file with these members and one line in the catalogue.

    Class attributes:
        name: its name in the catalogue and in a YAML's `backbone`.
        size_multiple: what every spatial size is padded to, along each axis. An option may change it, and the next, in the instance.
        smallest_size: voxels along each axis that it trains on at least.
        smallest_map: voxels that the deepest map needs at least, for normalisation to have something to measure.
        encoder_prefixes, decoder_prefixes: how the state-dict names of the two halves begin.
        levels: the same names from the image to the output, a prefix or several a level, for learning rates that fall with the distance
            from the output. Empty: each prefix above is a level, in its order.

    Attributes:
        feature_dim: channels of the deepest feature map.
        decoder_dim: channels of decode()'s full-resolution map.
        level_dims: channels of the coarser maps of decode_levels(); none where the decoder has no such maps.
        options: constructor options that rebuild it, plain values; they travel in checkpoints.
        has_decoder: False for pre-training and classification, where a decoder would only be carried along untrained.
        gradient_checkpointing: whether training keeps only the maps between parts of the network and computes those within again in the
            backward pass (Chen et al. 2016, arXiv:1604.06174): less memory, more time, the same result. It does not travel.
    """

    name: ClassVar[str]
    size_multiple: int
    smallest_size: int
    smallest_map: ClassVar[int] = 1
    encoder_prefixes: ClassVar[tuple[str, ...]]
    decoder_prefixes: ClassVar[tuple[str, ...]]
    levels: ClassVar[tuple[str | tuple[str, ...], ...]] = ()

    feature_dim: int
    decoder_dim: int
    level_dims: tuple[int, ...] = ()

    def __init__(self, options: Mapping[str, Option], *, pooling: Pooling, with_decoder: bool) -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            raise ConfigError(f"pooling is {pooling!r}; it is one of {', '.join(get_args(Pooling))}.")
        self.options: dict[str, Option] = {**options, "pooling": pooling}
        self.pooling = pooling
        self.has_decoder = with_decoder
        self.gradient_checkpointing = False

    @abstractmethod
    def _encode(self, x: Tensor) -> list[Tensor]:
        """Turn (B, C, D, H, W), multiples of `size_multiple`, into what `_decode` needs and, last, the map (B, feature_dim, d, h, w)."""

    @abstractmethod
    def _decode(self, features: Sequence[Tensor]) -> Tensor:
        """Turn `_encode`'s list into a map (B, decoder_dim, D, H, W) of the padded size."""

    def encode(self, x: Tensor) -> list[Tensor]:
        """Turn (B, C, D, H, W) of any size into what decode() needs and, last, the deepest map (B, feature_dim, d, h, w).

        The first is `x` itself; the others belong to the padded image (`models.padding`).
        """
        return [x, *self._encode(pad(x, self.size_multiple))]

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Turn encode()'s list into a map (B, decoder_dim, D, H, W) of the image's own size."""
        self._require_decoder()
        x, *of_padded = features
        return crop(self._decode(of_padded), x.shape[2:], self.size_multiple)

    def decode_levels(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Turn encode()'s list into decode()'s map and, coarser and coarser, the decoder's maps before it, for deep supervision.

        The coarser ones, (B, level_dims[i], d, h, w), belong to the padded image: a cropped edge would lie inside their cells.
        """
        self._require_decoder()
        x, *of_padded = features
        finest, *coarser = self._decode_levels(of_padded)
        return [crop(finest, x.shape[2:], self.size_multiple), *coarser]

    def _decode_levels(self, features: Sequence[Tensor]) -> list[Tensor]:
        """`_decode`'s map and then those of `level_dims`; to be overridden together with them."""
        return [self._decode(features)]

    def embed(self, x: Tensor) -> Tensor:
        """Pool the deepest map of (B, C, D, H, W) over space to (B, feature_dim), a batch of one included.

        Padding does not count: an average weighs each cell by the share of its voxels that are image; a maximum leaves out cells
        without any.
        """
        return self.pool(self.encode(x)[-1], x.shape[2:])

    def pool(self, deepest: Tensor, size: Sequence[int]) -> Tensor:
        """`embed` for a deepest map (B, feature_dim, d, h, w) that is there already, of an image of `size`: (B, feature_dim)."""
        pool = maximum_over_image if self.pooling == "max" else average_over_image
        return pool(deepest, size, self.size_multiple)

    def encoder_parameter_names(self) -> tuple[str, ...]:
        """State-dict names, buffers included, of the encoder."""
        return tuple(key for key in self.state_dict() if self.is_encoder_key(key))

    def decoder_parameter_names(self) -> tuple[str, ...]:
        """State-dict names, buffers included, of the decoder; none without one."""
        return tuple(key for key in self.state_dict() if self.is_decoder_key(key))

    def distances(self) -> dict[str, int]:
        """How many levels each parameter lies below what stands on the backbone: 1 for the last level that it was built with."""
        levels = self.levels or (*self.encoder_prefixes, *self.decoder_prefixes)
        level_of = {name: _level_of(name, levels) for name, _ in self.named_parameters()}
        present = sorted(set(level_of.values()), reverse=True)
        return {name: present.index(level) + 1 for name, level in level_of.items()}

    def encoder_distances(self) -> dict[str, int]:
        """As `distances`, from what stands on the deepest map: 1 for the encoder's last level; the decoder stands there too and has 0."""
        distances = self.distances()
        before = min(distance for name, distance in distances.items() if self.is_encoder_key(name)) - 1
        return {name: distance - before if self.is_encoder_key(name) else 0 for name, distance in distances.items()}

    def use_drop_path(self, rate: float) -> None:
        """In training pass residual blocks of the encoder by at random, for each volume anew (Huang et al. 2016, arXiv:1603.09382).

        The chance rises in a straight line from 0 at the first block to `rate` at the last, as in vision transformers. It does not travel.
        A backbone takes part by an encoder whose residual branches end in a `DropPath`, in their order from the image.

        Raises:
            ConfigError: there are no residual blocks.
        """
        places = [module for module in self.modules() if isinstance(module, DropPath)]
        if rate and not places:
            raise ConfigError(
                f"drop_path is {rate}, but {self.name} has no residual blocks that could be passed by. Set drop_path: 0, or choose another "
                "backbone, such as resnet3d."
            )
        last = len(places) - 1
        for number, place in enumerate(places):
            place.drop_prob = rate * number / last if last else rate

    @classmethod
    def is_encoder_key(cls, key: str) -> bool:
        """Whether a state-dict name belongs to the encoder."""
        return key.startswith(cls.encoder_prefixes)

    @classmethod
    def is_decoder_key(cls, key: str) -> bool:
        """Whether a state-dict name belongs to the decoder, whether or not this backbone was built with one."""
        return key.startswith(cls.decoder_prefixes)

    @classmethod
    def options_shown_by(cls, tensors: Mapping[str, Tensor]) -> dict[str, Option]:
        """Constructor options that the names and shapes of a state dict of this network tell; {} where none is read from them."""
        return {}

    def adopt(self, choices: Mapping[str, Option]) -> tuple[str, ...]:
        """Switch to choices that weights were trained with and no tensor shows; return a sentence for each switch made."""
        return ()

    def _run(self, part: nn.Module, *inputs: Tensor) -> Tensor:
        """Run a part of the network, under `gradient_checkpointing` as one whose inner maps are not kept."""
        if not (self.gradient_checkpointing and torch.is_grad_enabled()):
            result: Tensor = part(*inputs)
            return result
        # The second pass would move running statistics a second time.
        contexts = partial(_first_and_second_pass, part)
        recomputed: Tensor = checkpoint(part, *inputs, use_reentrant=False, context_fn=contexts)
        return recomputed

    def _require_decoder(self) -> None:
        if not self.has_decoder:
            raise RuntimeError(f"this {self.name} was built without its decoder")


def _level_of(name: str, levels: Sequence[str | tuple[str, ...]]) -> int:
    return next(index for index, prefixes in enumerate(levels) if name.startswith(prefixes))


def _first_and_second_pass(part: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), unmoved_statistics(part)


def build_backbone(name: str, *, with_decoder: bool = True, **options: Any) -> Backbone:
    """Build the backbone that the catalogue knows as `name`.

    Raises:
        ConfigError: unknown name, unknown options (all of them) or an option's value that the backbone cannot take.
    """
    if name not in BACKBONES:
        raise ConfigError(f"backbone is {name!r}; it is one of {', '.join(sorted(BACKBONES))}.{_did_you_mean(name, BACKBONES)}")
    cls: type[Backbone] = resolve(BACKBONES[name])
    known = [option for option in signature(cls).parameters if option != "with_decoder"]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ConfigError(
            f"{name} has no option {option!r}; its options are {', '.join(known)}.{_did_you_mean(option, known)}" for option in unknown
        )
    backbone: Backbone = cls(with_decoder=with_decoder, **options)
    # Half the time of a training step in bf16 on a CPU (benchmarks), and what tensor cores want; values and names stay the same.
    backbone.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stubs leave memory_format out
    return backbone


def check_size(backbone: Backbone | type[Backbone], size: Sequence[int], key: str) -> None:
    """Raise ConfigError where a backbone cannot be trained on a spatial size (D, H, W), in voxels.

    The message names `key` (the configuration key that gave the size), what was found and a size that is large enough.
    """
    short = [length for length in size if length < backbone.smallest_size]
    if short:
        enough = [max(length, backbone.smallest_size) for length in size]
        if prod(cell_grid(enough, backbone.size_multiple)) < backbone.smallest_map:
            enough[1:] = [length * 2 for length in enough[1:]]
        raise ConfigError(
            f"{key} is {list(size)}, but {backbone.name} trains on {backbone.smallest_size} voxels or more along every axis: "
            f"{', '.join(str(length) for length in dict.fromkeys(short))} is too few. Use a larger size, for example {enough}."
        )
    if prod(cell_grid(size, backbone.size_multiple)) < backbone.smallest_map:
        larger = [size[0], size[1] * 2, size[2] * 2]
        raise ConfigError(
            f"{key} is {list(size)}, which {backbone.name} reduces to a map of a single voxel, and a single voxel cannot be normalised. "
            f"Use a larger size, for example {larger}."
        )


def check_cells(backbone: Backbone | type[Backbone], size: Sequence[int], key: str) -> None:
    """Raise ConfigError where the deepest map of an image of `size` is a single cell, of which no part can be masked."""
    if prod(cell_grid(size, backbone.size_multiple)) < 2:
        larger = [size[0], size[1] * 2, size[2] * 2]
        raise ConfigError(
            f"{key} is {list(size)}, which {backbone.name} reduces to a single cell of {backbone.size_multiple} voxels, and masking hides "
            f"some cells and shows others. Use a larger size, for example {larger}, or set the weights in masking to 0."
        )


def describe_padding(backbone: Backbone | type[Backbone], size: Sequence[int], key: str) -> str | None:
    """What `--check` says of a size that is padded, a warning where much of it is; None for a size that fits."""
    multiple = backbone.size_multiple
    share = padding_share(size, multiple)
    if share == 0:
        return None
    text = f"{key} {list(size)} becomes {list(padded_size(size, multiple))} in {backbone.name}, {share:.0%} of it padding"
    if share <= MUCH_PADDING:
        return text
    below = [max(multiple, length // multiple * multiple) for length in size]
    nearest = " or ".join(dict.fromkeys(f"{fitting}" for fitting in (below, list(padded_size(size, multiple)))))
    return f"warning: {text}, which costs time and enters the normalisation. These sizes need none: {nearest}."


def require_whole(key: str, value: object, *, multiple: int = 1) -> int:
    """Return `value` where it is a positive whole number and a multiple of `multiple`, else raise ConfigError naming `key`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or value % multiple:
        wanted = "a whole number of 1 or more" if multiple == 1 else f"a positive multiple of {multiple}"
        raise ConfigError(f"{key} is {value!r}; it is {wanted}.")
    return value


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
