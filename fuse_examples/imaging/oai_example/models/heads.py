"""What stands behind a backbone: the last layers of a segmenter, of a classifier and of DINO."""

from torch import Tensor, nn


class SegmentationHead(nn.Module):
    """One 1×1×1 convolution from the decoder's map to a logit per class.

    Args:
        decoder_dim: channels of the decoder's map.
        n_classes: classes, background included.
    """

    def __init__(self, decoder_dim: int, n_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(decoder_dim, n_classes, kernel_size=1)
        nn.init.normal_(self.conv.weight, std=0.01)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]  # a convolution made with its default bias has one

    def forward(self, decoded: Tensor) -> Tensor:
        """Turn (B, decoder_dim, D, H, W) into logits (B, n_classes, D, H, W)."""
        logits: Tensor = self.conv(decoded)
        return logits
