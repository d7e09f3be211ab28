"""What the processes of a distributed run hold together; with one process each of these is what that process holds."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

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


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes, in the order of the processes, and the index of this process's first.

    Gradients flow to the rows of every process: a row's is the sum of what all processes say of it. Processes may hold different numbers
    of rows, or none.
    """
    if n_processes() == 1:
        return rows, 0
    rank = torch.distributed.get_rank()
    counts = torch.zeros(n_processes(), dtype=torch.int64, device=rows.device)
    counts[rank] = len(rows)
    n_rows = over_processes(counts, "sum").tolist()
    # The last batch of an epoch may be dealt out unevenly, and processes exchange tensors of one shape.
    parts = _AllGather.apply(functional.pad(rows, (0, 0, 0, max(n_rows) - len(rows))))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return torch.cat([part[:count] for part, count in zip(parts, n_rows, strict=True)]), sum(n_rows[:rank])


class _AllGather(torch.autograd.Function):
    """(N, F) of this process to (processes, N, F).

    torch's own takes the group that is there at its import and keeps it for good, and with it threads that can abort a process as it ends.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        """Gather the rows, of one shape in all processes."""
        parts = rows.new_empty(n_processes(), *rows.shape)
        torch.distributed.all_gather(list(parts), rows.contiguous())
        return parts

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Add up what all processes say of this one's rows."""
        return over_processes(gradients[0].clone(), "sum")[torch.distributed.get_rank()]


def weight_of_process(n_rows: int, n_of_all: int) -> float:
    """The factor for a mean over this process's rows, so that its mean over processes is the mean over all rows, at least one."""
    return n_rows * n_processes() / n_of_all


def n_processes() -> int:
    """How many processes there are."""
    return torch.distributed.get_world_size() if is_distributed() else 1


def is_distributed() -> bool:
    """Whether there is a group of processes."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
