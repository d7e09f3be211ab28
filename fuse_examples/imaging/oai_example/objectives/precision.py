"""The precision of formulas that float32 is not enough for."""

import torch
from torch import Tensor


def in_float64(values: Tensor) -> Tensor:
    """The values as float64, which autocast leaves alone; as float32 on MPS, which has no other.

    For small tensors: whatever is small beside a network's pass costs nothing in float64.
    """
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)
