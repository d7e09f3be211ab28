"""MONAI's SegResNet (Myronenko 2018, arXiv:1810.11654, without the autoencoder) as a backbone."""

from collections.abc import Mapping, Sequence

from monai.networks.blocks.segresnet_block import ResBlock
from monai.networks.layers.drop_path import DropPath
from monai.networks.nets.segresnet import SegResNet as MonaiSegResNet
from torch import Tensor, nn

from fuse_examples.imaging.oai_example.models.backbone import Backbone, Option, Pooling, require_whole


class SegResNet(Backbone):
    """A residual encoder to 1/8 of the resolution, and a decoder that adds its maps back up; names and shapes are MONAI's.

    Blocks are 1, 2, 2, 4 down and 1, 1, 1 up, as in SuPreM's published file. MONAI's last convolution, `conv_final.2`, gives a logit per
    class and is a head here; the norm before it, `conv_final.0`, belongs to the decoder. Normalisation is by groups of channels within
    each case, so there are no statistics to choose, and a batch of one works.

    Args:
        in_channels: channels of the input image.
        width: channels of the first convolution (MONAI's init_filters), a multiple of 8; 16 is the published size (4,700,880 parameters).
        pooling: how `embed` reduces the deepest map, "average" or "max".
        with_decoder: False leaves the decoder out.
    """

    name = "segresnet"
    size_multiple = 8
    smallest_size = 8
    encoder_prefixes = ("convInit.", "down_layers.")
    decoder_prefixes = ("up_layers.", "up_samples.", "conv_final.")
    levels = (
        "convInit.",
        *(f"down_layers.{level}." for level in range(4)),
        *((f"up_samples.{level}.", f"up_layers.{level}.") for level in range(3)),
        "conv_final.",
    )

    def __init__(self, in_channels: int = 1, width: int = 16, pooling: Pooling = "average", *, with_decoder: bool = True) -> None:
        require_whole("in_channels", in_channels)
        require_whole("width", width, multiple=8)
        super().__init__({"in_channels": in_channels, "width": width}, pooling=pooling, with_decoder=with_decoder)
        self.feature_dim = 8 * width
        self.decoder_dim = width
        self.level_dims = (2 * width, 4 * width)
        network = MonaiSegResNet(in_channels=in_channels, init_filters=width, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1))
        self.convInit = network.convInit
        self.down_layers = network.down_layers
        for module in self.down_layers.modules():
            if isinstance(module, ResBlock):
                module.conv2.add_module("drop_path", DropPath())  # the last of its residual branch; it has no tensors
        if with_decoder:
            self.up_layers = network.up_layers
            self.up_samples = network.up_samples
            self.conv_final = nn.Sequential(network.conv_final[0], network.conv_final[1])

    @classmethod
    def options_shown_by(cls, tensors: Mapping[str, Tensor]) -> dict[str, Option]:
        """The width."""
        first = tensors.get("convInit.conv.weight")
        return {} if first is None or first.ndim == 0 else {"width": first.shape[0]}

    def _encode(self, x: Tensor) -> list[Tensor]:
        """Turn (B, C, D, H, W) into maps of w, 2w, 4w and 8w channels at 1, 1/2, 1/4 and 1/8 of the resolution."""
        x = self.convInit(x)
        maps = []
        for down in self.down_layers:
            x = self._run(down, x)
            maps.append(x)
        return maps

    def _decode(self, features: Sequence[Tensor]) -> Tensor:
        """Turn _encode()'s four maps into (B, w, D, H, W)."""
        return self._decode_levels(features)[0]

    def _decode_levels(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps of w, 2w and 4w channels at 1, 1/2 and 1/4 of the resolution."""
        *skips, x = features
        maps = []
        for raise_resolution, convolve, skip in zip(self.up_samples, self.up_layers, reversed(skips), strict=True):
            x = self._run(convolve, raise_resolution(x) + skip)
            maps.append(x)
        quarter, half, full = maps
        return [self._run(self.conv_final, full), half, quarter]
