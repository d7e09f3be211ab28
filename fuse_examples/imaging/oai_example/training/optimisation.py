"""AdamW and its schedule: which parameters decay, and the learning rate of each optimiser step."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Split trainable parameters into those that decay and the 1-D ones (biases, norm scales) that do not.

    Lists of several calls, with other learning rates, can be joined. Empty groups are left out.
    """
    trainable = [parameter for _, parameter in named if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "lr": learning_rate, "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "lr": learning_rate, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def layered_parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], distances: Mapping[str, int], learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Groups as `parameter_groups`, whose learning rate falls by `layer_decay` with each level of distance from the output.

    A parameter at distance k learns with learning_rate * layer_decay**k (Clark et al. 2020, arXiv:2003.10555; Bao et al. 2022,
    arXiv:2106.08254): what a pre-trained network's first layers know changes least. Groups come from the output downwards.

    Args:
        named: names and parameters of one network.
        distances: name -> levels from the output, 0 for what learns with the full rate.
        learning_rate, weight_decay: of distance 0.
        layer_decay: factor per level; 1 for one rate throughout.
    """
    by_distance: dict[int, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in named:
        by_distance.setdefault(distances[name] if layer_decay != 1 else 0, []).append((name, parameter))
    return [
        group
        for distance in sorted(by_distance)
        for group in parameter_groups(by_distance[distance], learning_rate * layer_decay**distance, weight_decay)
    ]


def is_frozen(freeze: bool | int, epoch: int) -> bool:
    """Whether what is frozen altogether (True), not at all (False) or in the first epochs (their number) is so in `epoch`, from 0."""
    return freeze if isinstance(freeze, bool) else epoch < freeze


def warmup_cosine(step: int, n_steps: int, n_warmup: int, floor: float = 0.0) -> float:
    """Factor of the learning rate at optimiser step `step`, counted from 0.

    Linear from 1/n_warmup to 1 over the first `n_warmup` steps, then half a cosine from 1 down to `floor` at the last of `n_steps`
    (Loshchilov and Hutter, SGDR, 2017, one period); `floor` after it.
    """
    if step < n_warmup:
        return (step + 1) / n_warmup
    progress = min(1.0, (step - n_warmup) / max(1, n_steps - 1 - n_warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def adamw_with_schedule(
    groups: list[dict[str, Any]], *, n_steps: int, n_warmup: int, floor: float = 0.0, betas: tuple[float, float] = (0.9, 0.999)
) -> dict[str, Any]:
    """Return what `configure_optimizers` returns: AdamW (Loshchilov and Hutter 2019) and `warmup_cosine` per optimiser step.

    Args:
        groups: from `parameter_groups`.
        n_steps: optimiser steps of the whole run, `trainer.estimated_stepping_batches`.
        n_warmup: steps of linear warm-up; at most `n_steps`.
        floor: the schedule's end, as a fraction of the learning rate.
        betas: decay of the first and second moments.
    """
    optimiser = AdamW(groups, betas=betas)
    schedule = LambdaLR(optimiser, lambda step: warmup_cosine(step, n_steps, min(n_warmup, n_steps), floor))
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
