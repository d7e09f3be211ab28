"""Centring by Sinkhorn-Knopp: a batch of the teacher's outputs is made to use all prototypes alike (arXiv 2006.09882)."""

import torch
from torch import Tensor

from fuse_examples.imaging.oai_example.objectives.processes import over_processes


@torch.no_grad()
def sinkhorn_knopp(logits: Tensor, temperature: float, n_iterations: int = 3) -> Tensor:
    """Distributions over the prototypes whose mean over the batch is close to uniform.

    exp(logits / temperature) is scaled in turn so that each prototype gets 1/K and each row 1/N of the mass; rows last, so that each
    is a distribution (algorithm of arXiv 2006.09882, appendix A; three iterations as in DINOv2, arXiv 2304.07193).

    Args:
        logits: (N, K), this process's rows of the batch. All processes are balanced together; they may hold different numbers of rows,
            none included.
        temperature: of the teacher.
        n_iterations: scalings of each kind.

    Returns:
        (N, K), each row summing to 1.

    Raises:
        ValueError: a temperature that is not positive, or no iteration.
    """
    if temperature <= 0 or n_iterations < 1:
        raise ValueError(f"temperature must be positive and n_iterations 1 or more, not {temperature} and {n_iterations}")
    scaled = logits / temperature
    # A process without rows takes part with what decides nothing.
    largest = scaled.amax() if scaled.numel() else scaled.new_tensor(torch.finfo(scaled.dtype).min)
    # One constant for all rows and processes: it cancels in the first scaling, and the exponential cannot overflow.
    mass = torch.exp(scaled - over_processes(largest, "max"))
    tiny = torch.finfo(mass.dtype).tiny
    for _ in range(n_iterations):
        mass = mass / (over_processes(mass.sum(dim=0), "sum") * mass.shape[1]).clamp_min(tiny)
        mass = mass / mass.sum(dim=1, keepdim=True).clamp_min(tiny)
    return mass
