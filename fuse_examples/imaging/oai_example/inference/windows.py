"""Sliding-window prediction of volumes larger than a network input."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Network = Callable[[Tensor], Tensor]
_SIGMA_SHARE = 1 / 8  # of the window's edge, as in nnU-Net (Isensee 2021)


def predict_volume(network: Network, image: Tensor, window: Sequence[int] | None, overlap: float = 0.5, windows_at_once: int = 4) -> Tensor:
    """Logits of a whole volume.

    Args:
        network: (B, C, d, h, w) to logits (B, K, d, h, w).
        image: (C, D, H, W).
        window: voxels of a window, or None to pass the volume whole.
        overlap: share of a window's edge that neighbouring windows share.
        windows_at_once: windows in one forward pass.

    Returns:
        (K, D, H, W) float32; windows are averaged with a Gaussian weight, since a window's borders lack context.
    """
    if window is None:
        return network(image[None])[0].float()
    shape = image.shape[1:]
    missing = [max(0, need - size) for need, size in zip(window, shape, strict=True)]
    if any(missing):
        image = F.pad(image[None], (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")[0]
    weight = gaussian_weight(window).to(image.device)
    total: Tensor | None = None
    weights = torch.zeros(image.shape[1:], device=image.device)
    starts = list(product(*(window_starts(size, edge, overlap) for size, edge in zip(image.shape[1:], window, strict=True))))
    for first in range(0, len(starts), windows_at_once):
        boxes = [
            tuple(slice(s, s + edge) for s, edge in zip(start, window, strict=True)) for start in starts[first : first + windows_at_once]
        ]
        logits = network(torch.stack([image[(slice(None), *box)] for box in boxes])).float()
        if total is None:
            total = torch.zeros((logits.shape[1], *image.shape[1:]), device=image.device)
        for box, part in zip(boxes, logits, strict=True):
            total[(slice(None), *box)] += part * weight
            weights[box] += weight
    assert total is not None
    return (total / weights)[:, : shape[0], : shape[1], : shape[2]]


def window_starts(size: int, edge: int, overlap: float) -> list[int]:
    """First voxels of evenly spaced windows that cover `size` voxels and share at least `overlap` of their edge."""
    if size <= edge:
        return [0]
    step = max(1, int(edge * (1 - overlap)))
    count = int(np.ceil((size - edge) / step)) + 1
    return [int(start) for start in np.linspace(0, size - edge, count).round()]


def gaussian_weight(window: Sequence[int]) -> Tensor:
    """Weight of each voxel of a window, (d, h, w): a Gaussian of one eighth of the edge, 1 in the middle, never below 1e-3."""
    profiles = []
    for edge in window:
        distance = torch.arange(edge, dtype=torch.float32) - (edge - 1) / 2
        profiles.append(torch.exp(-0.5 * (distance / (edge * _SIGMA_SHARE)) ** 2))
    weight = profiles[0][:, None, None] * profiles[1][None, :, None] * profiles[2][None, None, :]
    return (weight / weight.max()).clamp_min(1e-3)
