"""Masked reconstruction: what stands in the place of masked voxels, and how well they are told from the others."""

import torch
from torch import Tensor


def hide(views: Tensor, hidden: Tensor) -> Tensor:
    """Replace the hidden voxels of each view and channel by the mean of those that are seen.

    Nothing of the result depends on a hidden voxel, one that is not a number included. The mean suits every kind of intensity, and moves
    the mean that the first normalisation takes least; zero would be air after `percentile` and tissue after `zscore`.

    Args:
        views: (B, C, D, H, W).
        hidden: (B, 1, D, H, W), True where a voxel is masked; some voxels of each view are seen.
    """
    seen = torch.where(hidden, 0.0, views).sum(dim=(2, 3, 4), keepdim=True)
    mean = seen / (~hidden).sum(dim=(2, 3, 4), keepdim=True)
    return torch.where(hidden, mean.to(views.dtype), views)


def reconstruction_loss(prediction: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Mean absolute difference over the hidden voxels and channels of each view, then over views.

    The L1 norm, as in SimMIM (Xie et al. 2022, arXiv 2111.09886): a squared difference would be ruled by the few voxels that noise or an
    outlier of the intensities has made extreme.

    Args:
        prediction: (B, C, D, H, W).
        target: the views without a mask, (B, C, D, H, W).
        hidden: (B, 1, D, H, W), True where a voxel counts.

    Returns:
        A scalar in float32 (float64 for float64 predictions), also under autocast.
    """
    precision = torch.float64 if prediction.dtype == torch.float64 else torch.float32
    differences = torch.where(hidden, (prediction.to(precision) - target.to(precision)).abs(), 0.0)
    return (differences.sum(dim=(1, 2, 3, 4)) / (hidden.sum(dim=(1, 2, 3, 4)) * target.shape[1])).mean()
