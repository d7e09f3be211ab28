"""Centring by Sinkhorn-Knopp: a batch of the teacher's outputs is made to use all prototypes alike (arXiv 2006.09882)."""

import torch
from torch import Tensor

from fuse_examples.imaging.oai_example.objectives.precision import in_float64
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
    # At the small temperatures of teachers float32 loses the sixth digit, and exponentials of logits that lie far apart are zero, so that a
    # prototype or a row would have no mass to be scaled.
    logarithms = in_float64(logits) / temperature
    for _ in range(n_iterations):
        # Without the 1/K of each prototype, a constant that the rows' scaling takes out again.
        logarithms = torch.log_softmax(logarithms - _log_sum_over_rows(logarithms), dim=1)
    return logarithms.exp().to(logits.dtype)


def _log_sum_over_rows(logarithms: Tensor) -> Tensor:
    """log of the sum of exp(logarithms) over the rows of all processes, (K,)."""
    # A process without rows takes part with what decides nothing.
    lowest = logarithms.new_full((1, logarithms.shape[1]), torch.finfo(logarithms.dtype).min)
    largest = over_processes(torch.cat([logarithms, lowest]).amax(dim=0), "max")
    return largest + over_processes((logarithms - largest).exp().sum(dim=0), "sum").log()
