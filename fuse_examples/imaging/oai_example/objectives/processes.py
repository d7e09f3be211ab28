"""What the processes of a distributed run hold together; with one process each of these is what that process holds."""

from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["sum", "max"]


def over_processes(value: Tensor, reduction: Reduction) -> Tensor:
    """The sum or largest of a tensor of one shape over all processes, in place and returned."""
    if is_distributed():
        kinds = {"sum": torch.distributed.ReduceOp.SUM, "max": torch.distributed.ReduceOp.MAX}
        torch.distributed.all_reduce(value, op=kinds[reduction])
    return value


def rows_of_all(n_rows: int, device: torch.device) -> int:
    """How many rows all processes hold together."""
    return int(over_processes(torch.tensor(n_rows, device=device), "sum")) if is_distributed() else n_rows


def weight_of_process(n_rows: int, n_of_all: int) -> float:
    """The factor for a mean over this process's rows, so that its mean over processes is the mean over all rows, at least one."""
    return n_rows * n_processes() / n_of_all


def n_processes() -> int:
    """How many processes there are."""
    return torch.distributed.get_world_size() if is_distributed() else 1


def is_distributed() -> bool:
    """Whether there is a group of processes."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
