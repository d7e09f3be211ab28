"""Test-time mirroring: a network's logits averaged over the mirror images of its input."""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from fuse_examples.imaging.oai_example.inference.windows import Network


def mirrored(network: Network, axes: Sequence[int], side_axis: int | None = None, pairs: Sequence[tuple[int, int]] = ()) -> Network:
    """The network averaged over all combinations of mirrored axes, 2 to the power of their number.

    Args:
        network: (B, C, d, h, w) to logits (B, K, d, h, w).
        axes: of the volume, 0 to 2; none gives the network itself.
        side_axis: the one that runs from left to right. Mirrored along it, the classes of each pair change places.
        pairs: classes that name the two sides.
    """
    if not axes:
        return network

    def averaged(view: Tensor) -> Tensor:
        total = network(view).float()
        turns = [turn for count in range(1, len(axes) + 1) for turn in combinations(axes, count)]
        for turn in turns:
            dims = [axis + 2 for axis in turn]
            logits = network(view.flip(dims)).float().flip(dims)
            total = total + (_exchanged(logits, pairs) if side_axis in turn else logits)
        return total / (len(turns) + 1)

    return averaged


def _exchanged(logits: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    order = torch.arange(logits.shape[1])
    for one, other in pairs:
        order[one], order[other] = other, one
    return logits[:, order]
