"""The KoLeo regulariser, which keeps the features of different scans apart (Sablayrolles et al. 2019, arXiv 1806.03198)."""

import torch
from torch import Tensor
from torch.nn import functional

from fuse_examples.imaging.oai_example.objectives.precision import in_float64
from fuse_examples.imaging.oai_example.objectives.processes import gather_rows, n_processes, over_processes

_SMALLEST = 1e-8


def koleo_loss(features: Tensor) -> Tensor:
    """- mean over i of log(distance of row i to its nearest other row), rows brought to length 1.

    The estimator of differential entropy of Kozachenko and Leonenko up to constants, as DINOv2 uses it (arXiv 2304.07193): small where
    features spread evenly over the sphere. A row that has an exact twin is left out: moving it would have no direction, and its
    logarithm no bound. With fewer than two rows there is nothing to keep apart and the loss is 0.

    Args:
        features: (B, F), one row a scan: views of one scan must not be kept apart. The rows of all processes are compared.

    Returns:
        A scalar in float32 (float64 for float64 features), also under autocast. Its mean over processes is the loss of all rows, however
        many of them each process holds.
    """
    # Of features that lie close together, half precision takes a wrong row for the nearest, and float32 loses digits of the distance.
    rows = functional.normalize(in_float64(features), dim=-1)
    everyone, first = gather_rows(rows)
    precision = torch.promote_types(features.dtype, torch.float32)
    if len(everyone) < 2:
        return rows.sum().to(precision) * 0.0
    with torch.no_grad():
        similarity = rows @ everyone.T
        own = torch.arange(len(rows), device=rows.device)
        similarity[own, first + own] = -2.0
        nearest = similarity.argmax(dim=1)
    squared = (rows - everyone[nearest]).square().sum(dim=1)
    apart = squared > _SMALLEST**2
    n_apart = over_processes(apart.sum(), "sum").clamp_min(1)
    loss = -0.5 * torch.log(torch.where(apart, squared, torch.ones_like(squared))).sum() * n_processes() / n_apart
    return loss.to(precision)
