"""The 3D U-Net of Models Genesis (Zhou et al. 2019, arXiv:1908.06912), which SuPreM and many others publish weights for.

Names and shapes of its state dict are those of the published files, so their weights load by name.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fuse_examples.imaging.oai_example.models.backbone import Backbone, Option, Pooling, require_whole
from fuse_examples.imaging.oai_example.models.convolution import Conv3d
from fuse_examples.imaging.oai_example.models.norm import Norm3d, Statistics


class UNet3D(Backbone):
    """Four encoder stages to 1/8 of the resolution, three decoder stages back.

    Each stage is two 3×3×3 convolutions, each followed by normalisation and ReLU; 2×2×2 max pooling in between. With `width` w the
    stages end in 2w, 4w, 8w and 16w channels; 32 is the published size (19,073,600 parameters, 7,027,776 of them in the encoder).

    Args:
        in_channels: channels of the input image.
        width: channels of the first convolution.
        norm_statistics: see `Norm3d`; "batch" is how the published network computes.
        pooling: how `embed` reduces the deepest map, "average" or "max".
        with_decoder: False leaves the decoder out; not an option that travels, since each stage decides it for itself.
    """

    name = "unet3d"
    size_multiple = 8
    smallest_size = 8
    smallest_map = 2
    encoder_prefixes = ("down_tr64.", "down_tr128.", "down_tr256.", "down_tr512.")
    decoder_prefixes = ("up_tr256.", "up_tr128.", "up_tr64.")

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 32,
        norm_statistics: Statistics = "running",
        pooling: Pooling = "average",
        *,
        with_decoder: bool = True,
    ) -> None:
        require_whole("in_channels", in_channels)
        require_whole("width", width)
        options: dict[str, Option] = {"in_channels": in_channels, "width": width, "norm_statistics": norm_statistics}
        super().__init__(options, pooling=pooling, with_decoder=with_decoder)
        self.feature_dim = 16 * width
        self.decoder_dim = 2 * width
        self.level_dims = (4 * width, 8 * width)
        self.down_tr64 = _Stage(in_channels, width, 2 * width, norm_statistics)
        self.down_tr128 = _Stage(2 * width, 2 * width, 4 * width, norm_statistics)
        self.down_tr256 = _Stage(4 * width, 4 * width, 8 * width, norm_statistics)
        self.down_tr512 = _Stage(8 * width, 8 * width, 16 * width, norm_statistics)
        if with_decoder:
            self.up_tr256 = _UpStage(16 * width, 8 * width, norm_statistics)
            self.up_tr128 = _UpStage(8 * width, 4 * width, norm_statistics)
            self.up_tr64 = _UpStage(4 * width, 2 * width, norm_statistics)
        self.apply(_initialise)

    def _encode(self, x: Tensor) -> list[Tensor]:
        """Turn (B, C, D, H, W) into maps of 2w, 4w, 8w and 16w channels at 1, 1/2, 1/4 and 1/8 of the resolution."""
        skip64 = self._run(self.down_tr64, x)
        skip128 = self._run(self.down_tr128, F.max_pool3d(skip64, 2))
        skip256 = self._run(self.down_tr256, F.max_pool3d(skip128, 2))
        return [skip64, skip128, skip256, self._run(self.down_tr512, F.max_pool3d(skip256, 2))]

    def _decode(self, features: Sequence[Tensor]) -> Tensor:
        """Turn _encode()'s four maps into (B, 2w, D, H, W)."""
        return self._decode_levels(features)[0]

    def _decode_levels(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps of 2w, 4w and 8w channels at 1, 1/2 and 1/4 of the resolution."""
        skip64, skip128, skip256, deepest = features
        at_quarter = self._run(self.up_tr256, deepest, skip256)
        at_half = self._run(self.up_tr128, at_quarter, skip128)
        return [self._run(self.up_tr64, at_half, skip64), at_half, at_quarter]

    @classmethod
    def options_shown_by(cls, tensors: Mapping[str, Tensor]) -> dict[str, Option]:
        """The width."""
        first = tensors.get("down_tr64.ops.0.conv1.weight")
        return {} if first is None or first.ndim == 0 else {"width": first.shape[0]}

    def adopt(self, choices: Mapping[str, Option]) -> tuple[str, ...]:
        """Keep its own statistics, which a configuration chose, and say where the weights were trained with others."""
        trained, own = choices.get("norm_statistics", self.options["norm_statistics"]), self.options["norm_statistics"]
        if trained == own:
            return ()
        return (f"The weights were trained with norm_statistics: {trained}; this network normalises with {own}.",)


class _Convolution(nn.Module):
    """3×3×3 convolution, normalisation, ReLU. The attribute names are the published state dict's."""

    def __init__(self, in_channels: int, out_channels: int, statistics: Statistics) -> None:
        super().__init__()
        self.conv1 = Conv3d(in_channels, out_channels, kernel_size=3, padding=1)
        self.bn1 = Norm3d(out_channels, statistics)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)), inplace=True)


class _Stage(nn.Module):
    def __init__(self, in_channels: int, middle: int, out_channels: int, statistics: Statistics) -> None:
        super().__init__()
        self.ops = nn.Sequential(_Convolution(in_channels, middle, statistics), _Convolution(middle, out_channels, statistics))

    def forward(self, x: Tensor) -> Tensor:
        convolved: Tensor = self.ops(x)
        return convolved


class _UpStage(nn.Module):
    """Double the resolution, join the encoder's map of that resolution behind it, convolve twice."""

    def __init__(self, in_channels: int, out_channels: int, statistics: Statistics) -> None:
        super().__init__()
        self.up_conv = nn.ConvTranspose3d(in_channels, in_channels, kernel_size=2, stride=2)
        # The encoder's map has as many channels as this stage puts out.
        joined = in_channels + out_channels
        self.ops = nn.Sequential(_Convolution(joined, out_channels, statistics), _Convolution(out_channels, out_channels, statistics))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        convolved: Tensor = self.ops(torch.cat((self.up_conv(x), skip), dim=1))
        return convolved


def _initialise(module: nn.Module) -> None:
    # He et al. 2015 (arXiv:1502.01852): variance is kept through a convolution and the ReLU behind it.
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    elif isinstance(module, nn.ConvTranspose3d):
        # With kernel and stride 2 each output voxel has one tap per input channel, and no ReLU follows.
        nn.init.normal_(module.weight, std=module.in_channels**-0.5)
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d) and module.bias is not None:
        nn.init.zeros_(module.bias)
