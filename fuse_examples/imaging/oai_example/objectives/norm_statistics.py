"""Control over the running statistics of batch normalisation: how far a pass moves them, and what is done when it spoilt them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def statistics_momentum(network: nn.Module, momentum: float) -> Iterator[None]:
    """Within, passes in training mode move running statistics by `momentum`: 0 leaves them, 1 sets them to the batch's own."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = momentum
    try:
        yield
    finally:
        for norm, old in zip(norms, before, strict=True):
            norm.momentum = old


@torch.no_grad()
def restore_buffers(network: nn.Module, sound: nn.Module) -> bool:
    """Replace what is not finite in a network's buffers by the values of a network built alike; return whether anything was.

    One voxel that is not a number makes the running statistics of every layer so for good, even where the step it spoilt is skipped.
    """
    was_spoilt = False
    for mine, theirs in zip(network.buffers(), sound.buffers(), strict=True):
        if mine.is_floating_point() and not (finite := mine.isfinite()).all():
            mine.copy_(torch.where(finite, mine, theirs))
            was_spoilt = True
    return was_spoilt


def differ_in_buffers(network: nn.Module, other: nn.Module) -> bool:
    """Whether any buffer of two networks built alike differs."""
    return any(not torch.equal(mine, theirs) for mine, theirs in zip(network.buffers(), other.buffers(), strict=True))
