"""AdamW and its schedule: which parameters decay, and the learning rate of each optimiser step."""

import math
from collections.abc import Iterable
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
