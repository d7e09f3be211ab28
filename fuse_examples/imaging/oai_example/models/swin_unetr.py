"""MONAI's Swin UNETR (Hatamizadeh et al. 2022, arXiv:2201.01266) as a backbone, with either order of patch merging."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from monai.networks.layers.drop_path import DropPath
from monai.networks.nets.swin_unetr import PatchMergingV2, SwinTransformerBlock
from monai.networks.nets.swin_unetr import SwinUNETR as MonaiSwinUNETR
from torch import Tensor
from torch.nn import functional as F

from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.models.backbone import Backbone, Option, Pooling, require_whole

MergingOrder = Literal["monai_1.5", "legacy"]
Offset = tuple[int, int, int]

# The (d, h, w) parity of the eight sub-grids that a merging layer joins. Before 1.5 MONAI took two of them twice and two never;
# weights trained then need that order, though all names and shapes are equal.
MERGING_OFFSETS: dict[str, tuple[Offset, ...]] = {
    "monai_1.5": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)),
    "legacy": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1)),
}


class SwinUNETR(Backbone):
    """Swin transformer encoder to 1/32 of the resolution and a convolutional decoder; names and shapes are MONAI's, less `out`.

    The encoder is the transformer alone, and its last hidden state, (B, 16·width, D/32, H/32, W/32), is the deepest map: it is what
    self-supervised files carry in full; it is normalised over channels, while the next block (`encoder10`) ends in an instance norm whose
    spatial mean is zero, which leaves little for average pooling to find; and it exists for views of 32 voxels. Everything that only
    segmentation needs, `encoder1` to `encoder10` among it, counts as decoder and is computed in `decode`.

    Args:
        in_channels: channels of the input image.
        width: channels after patch embedding (MONAI's feature_size), a multiple of 12; 48 is the published size (62,186,610 parameters).
        patch_merging: "monai_1.5", or "legacy" for weights that were trained with MONAI before 1.5.
        swin_v2: whether each of the four stages begins with a residual convolution block (MONAI's use_v2), as in VoCo's weights.
        pooling: how `embed` reduces the deepest map, "average" or "max".
        with_decoder: False leaves out everything but the transformer.
    """

    name = "swin_unetr"
    size_multiple = 32
    smallest_size = 32
    encoder_prefixes = ("swinViT.",)
    decoder_prefixes = ("encoder1.", "encoder2.", "encoder3.", "encoder4.", "encoder10.", "decoder")
    levels = (
        "swinViT.patch_embed.",
        ("swinViT.layers1.", "swinViT.layers1c."),
        ("swinViT.layers2.", "swinViT.layers2c."),
        ("swinViT.layers3.", "swinViT.layers3c."),
        ("swinViT.layers4.", "swinViT.layers4c."),
        "encoder10.",
        "decoder5.",
        ("encoder4.", "decoder4."),
        ("encoder3.", "decoder3."),
        ("encoder2.", "decoder2."),
        ("encoder1.", "decoder1."),
    )

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 48,
        patch_merging: MergingOrder = "monai_1.5",
        swin_v2: bool = False,
        pooling: Pooling = "average",
        *,
        with_decoder: bool = True,
    ) -> None:
        require_whole("in_channels", in_channels)
        require_whole("width", width, multiple=12)
        if not isinstance(swin_v2, bool):
            raise ConfigError(f"swin_v2 is {swin_v2!r}; it is true or false.")
        options: dict[str, Option] = {"in_channels": in_channels, "width": width, "swin_v2": swin_v2}
        super().__init__(options, pooling=pooling, with_decoder=with_decoder)
        self.feature_dim = 16 * width
        self.decoder_dim = width
        self.level_dims = (width, 2 * width)
        # MONAI builds the merging layers from this class: its annotation says module and means a module's class.
        merging: Any = PatchMerging
        network = MonaiSwinUNETR(in_channels=in_channels, out_channels=1, feature_size=width, downsample=merging, use_v2=swin_v2)
        self.swinViT = network.swinViT
        for module in self.swinViT.modules():
            if isinstance(module, SwinTransformerBlock):
                module.drop_path = DropPath()  # of attention and MLP alike
        if with_decoder:
            self.encoder1 = network.encoder1
            self.encoder2 = network.encoder2
            self.encoder3 = network.encoder3
            self.encoder4 = network.encoder4
            self.encoder10 = network.encoder10
            self.decoder5 = network.decoder5
            self.decoder4 = network.decoder4
            self.decoder3 = network.decoder3
            self.decoder2 = network.decoder2
            self.decoder1 = network.decoder1
        self.use_patch_merging(patch_merging)

    def _encode(self, x: Tensor) -> list[Tensor]:
        """Turn (B, C, D, H, W) into itself and the five hidden states, at 1/2 to 1/32 of the resolution."""
        for module in self.swinViT.modules():
            if isinstance(module, SwinTransformerBlock):
                module.use_checkpoint = self.gradient_checkpointing and torch.is_grad_enabled()
        return [x, *self.swinViT(x, True)]

    def _decode(self, features: Sequence[Tensor]) -> Tensor:
        """Turn _encode()'s six tensors into (B, width, D, H, W)."""
        return self._decode_levels(features)[0]

    def _decode_levels(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps of w, w and 2w channels at 1, 1/2 and 1/4 of the resolution."""
        image, half, quarter, eighth, sixteenth, deepest = features
        # The instance norms of encoder10, a residual block, would make a single voxel zero, and MONAI's refuse it: the residual remains.
        x = F.leaky_relu(deepest, 0.01) if deepest[0, 0].numel() == 1 else self._run(self.encoder10, deepest)
        x = self._run(self.decoder5, x, sixteenth)
        x = self._run(self.decoder4, x, self._run(self.encoder4, eighth))
        at_quarter = self._run(self.decoder3, x, self._run(self.encoder3, quarter))
        at_half = self._run(self.decoder2, at_quarter, self._run(self.encoder2, half))
        return [self._run(self.decoder1, at_half, self._run(self.encoder1, image)), at_half, at_quarter]

    @classmethod
    def options_shown_by(cls, tensors: Mapping[str, Tensor]) -> dict[str, Option]:
        """Width and version; the order of patch merging leaves no trace in names or shapes."""
        embedding = tensors.get("swinViT.patch_embed.proj.weight")
        if embedding is None or embedding.ndim == 0:
            return {}
        return {"width": embedding.shape[0], "swin_v2": any(name.startswith("swinViT.layers1c.") for name in tensors)}

    def use_patch_merging(self, order: str) -> None:
        """Switch all four merging layers to "monai_1.5" or "legacy"; no tensor changes. Raises ConfigError for another name."""
        if order not in get_args(MergingOrder):
            raise ConfigError(f"patch_merging is {order!r}; it is one of {', '.join(get_args(MergingOrder))}.")
        for module in self.modules():
            if isinstance(module, PatchMerging):
                module.offsets = MERGING_OFFSETS[order]
        self.options["patch_merging"] = order

    def adopt(self, choices: Mapping[str, Option]) -> tuple[str, ...]:
        """Switch to the order of patch merging that weights were trained with."""
        order = choices.get("patch_merging", self.options["patch_merging"])
        if order == self.options["patch_merging"]:
            return ()
        before = self.options["patch_merging"]
        self.use_patch_merging(str(order))
        return (f"patch_merging switched from {before} to {order}, the order these weights were trained with.",)


class PatchMerging(PatchMergingV2):
    """Join eight neighbouring tokens of (B, D, H, W, C) into one: (B, D/2, H/2, W/2, 2C), in the order `offsets` gives."""

    offsets: tuple[Offset, ...] = MERGING_OFFSETS["monai_1.5"]

    def forward(self, x: Tensor) -> Tensor:
        """Merge; sizes are even, since images are padded to multiples of 32."""
        joined = torch.cat([x[:, d::2, h::2, w::2] for d, h, w in self.offsets], dim=-1)
        merged: Tensor = self.reduction(self.norm(joined))
        return merged
