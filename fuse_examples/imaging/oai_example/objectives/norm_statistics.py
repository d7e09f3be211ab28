"""Control over the running statistics of batch normalisation: how far a forward pass moves them."""

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
def restore_statistics(network: nn.Module, sound: nn.Module) -> None:
    """Replace what is not finite in a network's buffers by the values of a network built alike.

    One voxel that is not a number makes the running statistics of every layer so for good, even where the step it spoilt is skipped.
    """
    replacements = dict(sound.named_buffers())
    for name, tensor in network.named_buffers():
        if tensor.is_floating_point():
            tensor.copy_(torch.where(tensor.isfinite(), tensor, replacements[name]))
