"""3D ResNets with the names of MedicalNet (Chen et al. 2019, arXiv:1904.00625) and MONAI, and a light decoder of their own."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from monai.networks.layers.drop_path import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.models.backbone import Backbone, Option, Pooling, require_whole
from fuse_examples.imaging.oai_example.models.norm import Norm3d, Statistics

Layout = Literal["medicalnet", "monai"]
Shortcut = Literal["A", "B"]

BLOCKS: dict[int, tuple[int, int, int, int]] = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Residual blocks of the four layers, by depth."""
SHORTCUTS: dict[int, Shortcut] = {10: "B", 18: "A", 34: "A", 50: "B"}
"""The kind of shortcut of MedicalNet's published files, by depth."""
STEPS: dict[Layout, tuple[tuple[int, int], ...]] = {
    "medicalnet": ((1, 1), (2, 1), (1, 2), (1, 4)),
    "monai": ((1, 1), (2, 1), (2, 1), (2, 1)),
}
"""(stride, dilation) of layers 1 to 4. No tensor shows them."""


class ResNet3D(Backbone):
    """A residual encoder (He et al. 2016, arXiv:1512.03385) and a decoder that adds its maps up from coarse to fine.

    Names of the encoder are MedicalNet's and MONAI's: `conv1`, `bn1`, `layer1` to `layer4`. With `width` w the layers end in w, 2w, 4w and
    8w channels, four times as many at depth 50.

    Args:
        in_channels: channels of the input image.
        width: channels of the first convolution; 64 is the published size.
        depth: 10, 18, 34 or 50 layers with weights.
        shortcut: where a block changes size, "A" takes every other voxel and fills new channels with zeros, "B" convolves. The default is
            that of MedicalNet's files: A for 18 and 34, B for 10 and 50.
        layout: "medicalnet" dilates layers 3 and 4 and stays at 1/8 of the resolution, as MedicalNet's weights were trained; "monai"
            halves the resolution there, to 1/32, as MONAI's ResNetFeatures does with the same weights. It is quicker, and not the
            function they were trained for.
        norm_statistics: see `Norm3d`.
        pooling: how `embed` reduces the deepest map, "average" or "max".
        with_decoder: False leaves the decoder out.
    """

    name = "resnet3d"
    size_multiple = 8
    smallest_size = 8
    smallest_map = 2
    encoder_prefixes = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")
    decoder_prefixes = ("decoder.",)
    levels = (("conv1.", "bn1."), "layer1.", "layer2.", "layer3.", "layer4.", "decoder.")

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 64,
        depth: int = 18,
        shortcut: Shortcut | None = None,
        layout: Layout = "medicalnet",
        norm_statistics: Statistics = "running",
        pooling: Pooling = "average",
        *,
        with_decoder: bool = True,
    ) -> None:
        require_whole("in_channels", in_channels)
        require_whole("width", width)
        if depth not in BLOCKS:
            raise ConfigError(f"depth is {depth!r}; it is one of {', '.join(map(str, BLOCKS))}.")
        shortcut = SHORTCUTS[depth] if shortcut is None else shortcut
        if shortcut not in get_args(Shortcut):
            raise ConfigError(f"shortcut is {shortcut!r}; it is one of {', '.join(get_args(Shortcut))}.")
        options: dict[str, Option] = {"in_channels": in_channels, "width": width, "depth": depth, "shortcut": shortcut}
        super().__init__({**options, "norm_statistics": norm_statistics}, pooling=pooling, with_decoder=with_decoder)
        expansion = 4 if depth >= 50 else 1
        out_channels = [width * 2**level * expansion for level in range(4)]
        self.feature_dim = out_channels[-1]
        self.decoder_dim = max(1, width // 2)
        self.conv1 = nn.Conv3d(in_channels, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = Norm3d(width, norm_statistics)
        make = _Bottleneck if expansion > 1 else _BasicBlock
        before = [width, *out_channels]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _Layer(make, before[level], width * 2**level, BLOCKS[depth][level], shortcut, norm_statistics) for level in range(4)
        )
        if with_decoder:
            self.decoder = _Decoder(in_channels, before, self.decoder_dim, norm_statistics)
        self.use_layout(layout)
        self.apply(_initialise)

    def _encode(self, x: Tensor) -> list[Tensor]:
        """Turn (B, C, D, H, W) into itself, the first convolution's map at 1/2 of the resolution and those of the four layers."""
        stem = F.relu(self.bn1(self.conv1(x)))
        maps = [x, stem]
        deepest = F.max_pool3d(stem, kernel_size=3, stride=2, padding=1)
        for layer in self._layers():
            # Block by block: a layer of six blocks keeps too much, and its output is a map of the same size anyway.
            for block in layer:
                deepest = self._run(block, deepest)
            maps.append(deepest)
        return maps

    def _decode(self, features: Sequence[Tensor]) -> Tensor:
        """Turn _encode()'s six tensors into (B, w/2, D, H, W)."""
        return self._run(self.decoder, *features)

    def use_layout(self, layout: str) -> None:
        """Switch strides and dilations to "medicalnet" or "monai"; no tensor changes. Raises ConfigError for another name."""
        if layout not in get_args(Layout):
            raise ConfigError(f"layout is {layout!r}; it is one of {', '.join(get_args(Layout))}.")
        steps = STEPS["monai" if layout == "monai" else "medicalnet"]
        for layer, (stride, dilation) in zip(self._layers(), steps, strict=True):
            layer.use_steps(stride, dilation)
        # Of the image to the deepest map: the first convolution and the pooling halve it each.
        self.size_multiple = self.smallest_size = 4 * steps[1][0] * steps[2][0] * steps[3][0]
        self.options["layout"] = layout

    @classmethod
    def options_shown_by(cls, tensors: Mapping[str, Tensor]) -> dict[str, Option]:
        """Width, depth and kind of shortcut; the layout leaves no trace in names or shapes."""
        first = tensors.get("conv1.weight")
        if first is None or first.ndim == 0:
            return {}
        blocks = tuple(len({name.split(".")[1] for name in tensors if name.startswith(f"layer{level}.")}) for level in range(1, 5))
        bottleneck = "layer1.0.conv3.weight" in tensors
        depth = next((depth for depth in BLOCKS if BLOCKS[depth] == blocks and (depth >= 50) == bottleneck), None)
        shortcut: Shortcut = "B" if "layer2.0.downsample.0.weight" in tensors else "A"
        return {"width": first.shape[0], "shortcut": shortcut, **({} if depth is None else {"depth": depth})}

    def adopt(self, choices: Mapping[str, Option]) -> tuple[str, ...]:
        """Switch to the layout that weights were trained with; keep its own norm statistics, and say where the weights had others."""
        sentences = []
        layout, own = choices.get("layout", self.options["layout"]), self.options["layout"]
        if layout != own:
            self.use_layout(str(layout))
            sentences.append(f"layout switched from {own} to {layout}, which these weights were trained with.")
        trained, own = choices.get("norm_statistics", self.options["norm_statistics"]), self.options["norm_statistics"]
        if trained != own:
            sentences.append(f"The weights were trained with norm_statistics: {trained}; this network normalises with {own}.")
        return tuple(sentences)

    def _layers(self) -> "tuple[_Layer, ...]":
        return self.layer1, self.layer2, self.layer3, self.layer4


class _Block(nn.Module):
    """What both kinds of block share: convolutions beside a shortcut, added, and a ReLU. Attribute names are the published ones."""

    conv1: nn.Conv3d
    conv2: nn.Conv3d
    downsample: nn.Module | None

    def __init__(self) -> None:
        super().__init__()
        self.drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.drop_path(self._convolve(x)) + (x if self.downsample is None else self.downsample(x)))

    def _convolve(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class _BasicBlock(_Block):
    """Two 3x3x3 convolutions; the first has the stride, both the dilation."""

    expansion = 1

    def __init__(self, in_channels: int, middle: int, downsample: nn.Module | None, statistics: Statistics) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, middle, kernel_size=3, padding=1, bias=False)
        self.bn1 = Norm3d(middle, statistics)
        self.conv2 = nn.Conv3d(middle, middle, kernel_size=3, padding=1, bias=False)
        self.bn2 = Norm3d(middle, statistics)
        self.downsample = downsample

    def _convolve(self, x: Tensor) -> Tensor:
        convolved: Tensor = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return convolved


class _Bottleneck(_Block):
    """1x1x1 to fewer channels, 3x3x3 with stride and dilation, 1x1x1 to four times as many."""

    expansion = 4

    def __init__(self, in_channels: int, middle: int, downsample: nn.Module | None, statistics: Statistics) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, middle, kernel_size=1, bias=False)
        self.bn1 = Norm3d(middle, statistics)
        self.conv2 = nn.Conv3d(middle, middle, kernel_size=3, padding=1, bias=False)
        self.bn2 = Norm3d(middle, statistics)
        self.conv3 = nn.Conv3d(middle, 4 * middle, kernel_size=1, bias=False)
        self.bn3 = Norm3d(4 * middle, statistics)
        self.downsample = downsample

    def _convolve(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        convolved: Tensor = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(x)))))
        return convolved


class _ZeroFilled(nn.Module):
    """Shortcut A: every other voxel, and zeros in the new channels. No tensors of its own; gradients pass, unlike in MedicalNet's."""

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.new_channels, self.stride = new_channels, (1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        d, h, w = self.stride
        return F.pad(x[:, :, ::d, ::h, ::w], (0, 0, 0, 0, 0, 0, 0, self.new_channels))


class _Layer(nn.Sequential):
    """Blocks of one width; the first alone changes channels and resolution."""

    def __init__(
        self,
        make: "type[_BasicBlock | _Bottleneck]",
        in_channels: int,
        middle: int,
        n_blocks: int,
        shortcut: Shortcut,
        statistics: Statistics,
    ) -> None:
        out_channels = middle * make.expansion
        downsample: nn.Module | None = None
        if in_channels != out_channels and shortcut == "A":
            downsample = _ZeroFilled(out_channels - in_channels)
        elif in_channels != out_channels:
            convolution = nn.Conv3d(in_channels, out_channels, kernel_size=1, bias=False)
            downsample = nn.Sequential(convolution, Norm3d(out_channels, statistics))
        first = make(in_channels, middle, downsample, statistics)
        super().__init__(first, *(make(out_channels, middle, None, statistics) for _ in range(1, n_blocks)))

    def use_steps(self, stride: int, dilation: int) -> None:
        """Give the 3x3x3 convolutions of all blocks a dilation, and the first block a stride."""
        for module in self.modules():
            if isinstance(module, nn.Conv3d) and module.kernel_size == (3, 3, 3):
                module.dilation = module.padding = (dilation,) * 3
        first = self[0]
        assert isinstance(first, _Block)
        strided = first.conv2 if isinstance(first, _Bottleneck) else first.conv1
        strided.stride = (stride,) * 3
        shortcut = first.downsample[0] if isinstance(first.downsample, nn.Sequential) else first.downsample
        if isinstance(shortcut, _ZeroFilled | nn.Conv3d):
            shortcut.stride = (stride,) * 3


class _Decoder(nn.Module):
    """From coarse to fine: each map is reduced to a few channels, added to what comes from below, and convolved (Lin et al. 2017,
    arXiv:1612.03144); at full resolution, where the encoder has no map, the image itself joins."""

    def __init__(self, in_channels: int, channels: Sequence[int], width: int, statistics: Statistics) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv3d(count, width, kernel_size=1) for count in channels)
        self.convolve = nn.ModuleList(_Convolution(width, width, statistics) for _ in channels[:-1])
        self.finish = _Convolution(width + in_channels, width, statistics)

    def forward(self, image: Tensor, *maps: Tensor) -> Tensor:
        x = self.reduce[-1](maps[-1])
        for reduce, convolve, finer in zip(reversed(self.reduce[:-1]), reversed(self.convolve), reversed(maps[:-1]), strict=True):
            x = convolve(_raised(x, finer) + reduce(finer))
        finished: Tensor = self.finish(torch.cat((_raised(x, image), image), dim=1))
        return finished


class _Convolution(nn.Sequential):
    def __init__(self, in_channels: int, out_channels: int, statistics: Statistics) -> None:
        convolution = nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        super().__init__(convolution, Norm3d(out_channels, statistics), nn.ReLU(inplace=True))


def _raised(x: Tensor, finer: Tensor) -> Tensor:
    return x if x.shape[2:] == finer.shape[2:] else F.interpolate(x, size=finer.shape[2:], mode="trilinear", align_corners=False)


def _initialise(module: nn.Module) -> None:
    # He et al. 2015 (arXiv:1502.01852), as MedicalNet and MONAI start theirs.
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
