"""Sliding-window prediction of volumes larger than a network input."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product

import numpy as np
import torch
from torch import Tensor

Network = Callable[[Tensor], Tensor]
_SIGMA_SHARE = 1 / 8  # of the window's edge, as in nnU-Net (Isensee 2021)


def predict_volume(
    network: Network, image: Tensor, window: Sequence[int] | None, overlap: float = 0.5, windows_at_once: int | None = None
) -> Tensor:
    """Logits of a whole volume at once, (K, D, H, W) float32; arguments as for `predict_slabs`."""
    return torch.cat([slab.clone() for _, slab in predict_slabs(network, image, window, overlap, windows_at_once)], dim=1)


def predict_slabs(
    network: Network, image: Tensor, window: Sequence[int] | None, overlap: float = 0.5, windows_at_once: int | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Logits of a volume, slab after slab along its first axis, so that never more than a window's depth of them is in memory.

    A slab is final once the next row of windows begins behind it. Windows are averaged with a Gaussian weight, since a window's borders
    lack context.

    Args:
        network: (B, C, d, h, w) to logits (B, K, d, h, w).
        image: (C, D, H, W), along no axis smaller than the window.
        window: voxels of a window, or None to pass the volume whole.
        overlap: share of a window's edge that neighbouring windows share.
        windows_at_once: windows in one forward pass, at most; None for what is fast on the image's device.

    Yields:
        The first plane, and logits (K, n, H, W) float32 of n planes, which are overwritten when the next slab is asked for.

    Raises:
        ValueError: the image is smaller than the window. How it is made larger is the preprocessing's choice.
    """
    if window is None:
        yield 0, network(image[None])[0].float()
        return
    if any(size < edge for size, edge in zip(image.shape[1:], window, strict=True)):
        raise ValueError(f"an image of {tuple(image.shape[1:])} voxels is smaller than the window of {tuple(window)}")
    windows_at_once = windows_at_once or _quick_number(image.device)
    weight = gaussian_weight(window).to(image.device)
    rows, *others = (window_starts(size, edge, overlap) for size, edge in zip(image.shape[1:], window, strict=True))
    columns = [tuple(slice(s, s + edge) for s, edge in zip(start, window[1:], strict=True)) for start in product(*others)]
    # Passes of nearly equal size: in fp32 a CPU takes longer for the one window that would be left over than for its share of a batch.
    n_passes = -(-len(columns) // windows_at_once)
    groups = [columns[len(columns) * n // n_passes : len(columns) * (n + 1) // n_passes] for n in range(n_passes)]
    row_weight = torch.zeros(window[0], *image.shape[2:], device=image.device)
    for column in columns:
        row_weight[(slice(None), *column)] += weight
    total, weights = torch.empty(0), torch.zeros_like(row_weight)
    for start, following in pairwise([*rows, image.shape[1]]):
        for chosen in groups:
            views = torch.stack([image[(slice(None), slice(start, start + window[0]), *column)] for column in chosen])
            logits = network(views)
            if not total.numel():
                total = torch.zeros((logits.shape[1], *row_weight.shape), device=image.device)
            for column, part in zip(chosen, logits, strict=True):
                total[(slice(None), slice(None), *column)].addcmul_(part.float(), weight)
        weights += row_weight
        n_final = following - start
        final = total[:, :n_final].div_(weights[:n_final])
        yield start, final
        _shift(total, n_final, axis=1)
        _shift(weights, n_final, axis=0)


def _quick_number(device: torch.device) -> int:
    """One in bf16 on a CPU, where maps of one window stay in its cache: 0.75 of the time of four; in fp32 four take 0.87 of one's."""
    return 1 if device.type == "cpu" and torch.is_autocast_enabled("cpu") else 4


def _shift(buffer: Tensor, n_planes: int, axis: int) -> None:
    """Move planes to the front, in place and without a copy of the buffer, and clear those behind."""
    kept = buffer.shape[axis] - n_planes
    for plane in range(kept):
        buffer.select(axis, plane).copy_(buffer.select(axis, plane + n_planes))
    buffer.narrow(axis, kept, n_planes).zero_()


def window_starts(size: int, edge: int, overlap: float) -> list[int]:
    """First voxels of evenly spaced windows that cover `size` voxels and share at least `overlap` of their edge."""
    if size <= edge:
        return [0]
    step = max(1, int(edge * (1 - overlap)))
    count = int(np.ceil((size - edge) / step)) + 1
    return [int(start) for start in np.linspace(0, size - edge, count).round()]


def gaussian_weight(window: Sequence[int]) -> Tensor:
    """Weight of each voxel of a window, (d, h, w): a Gaussian of one eighth of the edge, never below 1e-3, as in MONAI."""
    profiles = []
    for edge in window:
        distance = torch.arange(edge, dtype=torch.float32) - (edge - 1) / 2
        profiles.append(torch.exp(-0.5 * (distance / (edge * _SIGMA_SHARE)) ** 2))
    weight = profiles[0][:, None, None] * profiles[1][None, :, None] * profiles[2][None, None, :]
    return weight.clamp_min(1e-3)
