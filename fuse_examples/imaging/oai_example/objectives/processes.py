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


def weight_of_process(n_rows: int, device: torch.device) -> float:
    """The factor for a mean over this process's rows, so that its mean over processes is the mean over all rows.

    1 where all processes hold as many. 0 where none holds any, which tells all of them alike.
    """
    if not is_distributed():
        return float(n_rows > 0)
    total = float(over_processes(torch.tensor(float(n_rows), device=device), "sum"))
    return n_rows * torch.distributed.get_world_size() / total if total else 0.0


def any_process(n_rows: int, device: torch.device) -> bool:
    """Whether some process holds rows."""
    if not is_distributed():
        return n_rows > 0
    return bool(over_processes(torch.tensor(float(n_rows), device=device), "max") > 0)


def is_distributed() -> bool:
    """Whether there is a group of processes."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
