"""Control over the running statistics of batch normalisation: how far a pass moves them, and what is done when it spoilt them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

MISFIT_SHARE = 0.1
"""Statistics do not fit where more than this share of some layer's channels misfit (`misfit_share`)."""


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


def keeps_statistics(network: nn.Module) -> bool:
    """Whether passes in training mode move running statistics of any layer."""
    return any(isinstance(module, _BatchNorm) and getattr(module, "statistics", "running") != "instance" for module in network.modules())


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


@torch.no_grad()
def reestimate_statistics(
    network: nn.Module, compute: Callable[[torch.Tensor], object], images: Iterable[torch.Tensor], *, always: bool
) -> float | None:
    """Take a frozen network's running statistics anew from other images, where its own do not fit them (Li et al. 2016, arXiv:1603.04779).

    Each layer is measured as its input arrives with the layers before it normalised by the batch, and averaged over batches. Batches that
    make statistics which are not finite are left out. Modes, momenta and counters stay as they are.

    Args:
        network: its parameters stay.
        compute: a pass through it.
        images: batches.
        always: take them even where the network's own fit.

    Returns:
        `misfit_share`, None for a network that keeps none.
    """
    norms = [
        module for module in network.modules() if isinstance(module, _BatchNorm) and getattr(module, "statistics", "running") == "running"
    ]
    own = [_buffers(norm) for norm in norms]
    found, n_batches = own, 0
    modes = [norm.training for norm in norms]
    for norm in norms:
        norm.train()
    try:
        for image in images:
            with statistics_momentum(network, 1 / (n_batches + 1)):
                compute(image)
            measured = [_buffers(norm) for norm in norms]
            if all(value.isfinite().all() for buffers in measured for value in buffers.values()):
                found, n_batches = measured, n_batches + 1
            else:
                _set_buffers(norms, found)
    finally:
        for norm, mode in zip(norms, modes, strict=True):
            norm.train(mode)
    # Layers that the pass does not come through (a decoder, in embedding) have counted nothing.
    met = [place for place, (before, after) in enumerate(zip(own, found, strict=True)) if before[_COUNTER] != after[_COUNTER]]
    share = misfit_share([_moments(own[place]) for place in met], [_moments(found[place]) for place in met]) if met else None
    taken = always or (share is not None and share > MISFIT_SHARE)
    _set_buffers(norms, [{**new, _COUNTER: old[_COUNTER]} for old, new in zip(own, found, strict=True)] if taken else own)
    return share


def misfit_share(own: Iterable[tuple[torch.Tensor, torch.Tensor]], found: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Share of channels that misfit, in the layer where it is largest.

    A channel misfits where the mean that was found lies more than one of its own standard deviations away, or it spreads less than half
    or more than twice as widely. One layer decides: other intensities show in the first layers, whose normalised output looks to the
    deeper ones as it always did.

    Args:
        own, found: (mean, variance) of each layer, (C,).
    """
    shares = []
    for (own_mean, own_var), (mean, var) in zip(own, found, strict=True):
        deviation = (own_var + _EPSILON).sqrt()
        spread = (var + _EPSILON).sqrt() / deviation
        misfits = ((mean - own_mean).abs() > deviation) | (spread > 2) | (spread < 0.5)
        shares.append(float(misfits.float().mean()))
    return max(shares)


_EPSILON = 1e-5  # that of the layers: below it differences change nothing


_COUNTER = "num_batches_tracked"


def _buffers(norm: _BatchNorm) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in norm.named_buffers()}


def _moments(buffers: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return buffers["running_mean"], buffers["running_var"]


def _set_buffers(norms: Iterable[_BatchNorm], values: Iterable[Mapping[str, torch.Tensor]]) -> None:
    for norm, buffers in zip(norms, values, strict=True):
        for name, value in buffers.items():
            norm.get_buffer(name).copy_(value)
