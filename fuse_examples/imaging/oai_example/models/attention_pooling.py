"""Pooling that learns where to look: a weighted mean of the deepest map, whose weights are learnt (gated attention)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fuse_examples.imaging.oai_example.models.padding import image_shares


class AttentionPooling(nn.Module):
    """Gated attention over the cells of a feature map (Ilse, Tomczak and Welling 2018, arXiv:1802.04712, equation 9).

    Cells count by the share of their voxels that are image, as in `Backbone.embed`: cells of padding alone have no weight.

    Args:
        feature_dim: channels of the map.
        hidden_dim: width of the two layers that score a cell.
    """

    def __init__(self, feature_dim: int, hidden_dim: int = 64) -> None:
        super().__init__()
        self.content = nn.Linear(feature_dim, hidden_dim)
        self.gate = nn.Linear(feature_dim, hidden_dim)
        self.score = nn.Linear(hidden_dim, 1)

    def forward(self, cells: Tensor, size: Sequence[int], multiple: int) -> Tensor:
        """Pool a map (B, F, d, h, w) of images of `size` (D, H, W), padded to multiples of `multiple`, to (B, F), float32."""
        shares = [image_shares(*pair, multiple) for pair in zip(size, cells.shape[2:], strict=True)]
        depth, height, width = (torch.tensor(share, device=cells.device) for share in shares)
        with torch.autocast(cells.device.type, enabled=False):
            there = torch.einsum("d,h,w->dhw", depth, height, width).flatten()
            rows = cells.float().flatten(2).transpose(1, 2)  # (B, cells, F)
            scores = self.score(torch.tanh(self.content(rows)) * torch.sigmoid(self.gate(rows)))[..., 0]
            weights = (scores + there.log()).softmax(dim=1)
            pooled: Tensor = torch.einsum("bn,bnf->bf", weights, rows)
        return pooled
