"""What each process of a run holds, brought together in all of them."""

from typing import Any

import torch
from lightning_fabric.utilities import move_data_to_device


def states_of_all(state: dict[str, Any], world_size: int) -> list[dict[str, Any]]:
    """The states of all processes in the order of their ranks; of several processes with tensors in the CPU's memory.

    Args:
        state: this process's, of tensors, plain values, lists and dictionaries of them.
        world_size: number of processes. Each of them must call this.
    """
    if world_size == 1:
        return [state]
    states: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(states, move_data_to_device(state, torch.device("cpu")))
    return states
