"""What stands behind a backbone: the last layers of a segmenter, of a classifier and of DINO."""

from collections.abc import Mapping
from itertools import pairwise
from urllib.parse import quote

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from fuse_examples.imaging.oai_example.errors import ConfigError


class SegmentationHead(nn.Module):
    """One 1×1×1 convolution from the decoder's map to a logit per class.

    Args:
        decoder_dim: channels of the decoder's map.
        n_classes: classes, background included.
        independent: each structure on its own, against a background whose logit is always 0: a structure is there where its own logit is
            above 0, a probability of one half.
    """

    def __init__(self, decoder_dim: int, n_classes: int, independent: bool = False) -> None:
        super().__init__()
        self.independent = independent
        self.conv = nn.Conv3d(decoder_dim, n_classes - independent, kernel_size=1)

    def forward(self, decoded: Tensor) -> Tensor:
        """Turn (B, decoder_dim, D, H, W) into logits (B, n_classes, D, H, W)."""
        logits: Tensor = self.conv(decoded)
        return F.pad(logits, (0, 0, 0, 0, 0, 0, 1, 0)) if self.independent else logits


class ClassificationHeads(nn.Module):
    """One head per target on a backbone's embedding: dropout and a linear layer, or a hidden layer in between.

    Args:
        feature_dim: length of the embedding.
        n_classes: target (any column name) -> its number of classes.
        hidden_dim: width of a hidden layer with ReLU; None for linear heads.
        dropout: share of features that training sets to zero before each linear layer.
    """

    def __init__(self, feature_dim: int, n_classes: Mapping[str, int], *, hidden_dim: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout is {dropout!r}; it is at least 0 and less than 1.")
        self.targets = tuple(n_classes)
        self.heads = nn.ModuleDict(
            {_module_name(target): _head(feature_dim, count, hidden_dim, dropout) for target, count in n_classes.items()}
        )

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Turn (B, feature_dim) into target -> logits (B, its number of classes)."""
        return {target: self.heads[_module_name(target)](features) for target in self.targets}


class DINOProjectionHead(nn.Module):
    """DINO's head: an MLP to a bottleneck, L2 normalisation, and a weight-normalised layer of prototypes (arXiv:2104.14294, appendix C).

    It computes in float32 under autocast too: bfloat16 logits divided by a temperature of 0.04 would be steps, not values.

    Args:
        in_dim: length of the backbone's embedding.
        hidden_dim: width of the hidden layers.
        bottleneck_dim: length of the normalised vector.
        n_prototypes: number of logits.
        n_layers: linear layers of the MLP, the one to the bottleneck included.
        use_batch_norm: batch normalisation after each hidden linear layer.
        norm_last_layer: keep every prototype at length 1, so that logits are cosines; otherwise its length is learned.
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        n_prototypes: int = 65536,
        n_layers: int = 3,
        *,
        use_batch_norm: bool = False,
        norm_last_layer: bool = True,
    ) -> None:
        super().__init__()
        if n_layers < 1:
            raise ConfigError(f"n_layers is {n_layers}; a projection head has at least 1.")
        sizes = [in_dim, *[hidden_dim] * (n_layers - 1), bottleneck_dim]
        layers: list[nn.Module] = []
        for size, following in pairwise(sizes[:-1]):
            layers += [nn.Linear(size, following), *([nn.BatchNorm1d(following)] if use_batch_norm else []), nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-2], bottleneck_dim))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = weight_norm(nn.Linear(bottleneck_dim, n_prototypes, bias=False))
        length = self.last_layer.parametrizations["weight"].original0
        nn.init.ones_(length)
        length.requires_grad_(not norm_last_layer)

    def forward(self, features: Tensor) -> Tensor:
        """Turn (B, in_dim) into logits (B, n_prototypes), float32."""
        with torch.autocast(features.device.type, enabled=False):
            projected = self.layers(features.float())
            logits: Tensor = self.last_layer(F.normalize(projected, dim=-1))
        return logits


def _head(feature_dim: int, n_classes: int, hidden_dim: int | None, dropout: float) -> nn.Module:
    if hidden_dim is None:
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(feature_dim, n_classes))
    hidden = [nn.Dropout(dropout), nn.Linear(feature_dim, hidden_dim), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Dropout(dropout), nn.Linear(hidden_dim, n_classes))


def _module_name(target: str) -> str:
    """Turn any column name into one that PyTorch takes: no dots, and nothing that is already an attribute of a module."""
    return "target_" + quote(target, safe="").replace(".", "%2E")
