"""Values that change from one optimiser step to the next, as pure functions of the step: nothing to save, nothing to restore."""

import math


def linear_warmup(step: int, start: float, end: float, warmup_steps: int) -> float:
    """Straight line from `start` at step 0 to `end` at step `warmup_steps - 1`; `end` from there on.

    Reaching `end` at the last step of the warm-up, rather than the one after it, is how DINO's reference implementation counts
    (Caron et al. 2021, arXiv 2104.14294); a warm-up of one step stays at `start` for that step.

    Raises:
        ValueError: a negative step or length.
    """
    _check_not_negative(step=step, warmup_steps=warmup_steps)
    if step >= warmup_steps:
        return end
    if warmup_steps == 1:
        return start
    return start + (end - start) * step / (warmup_steps - 1)


def cosine_schedule(step: int, start: float, end: float, n_steps: int, warmup_steps: int = 0, warmup_start: float = 0.0) -> float:
    """Linear warm-up from `warmup_start` to `start`, then half a cosine from `start` towards `end`.

    With N = `n_steps` and W = `warmup_steps`, step i >= W has the value
    end + (start - end) / 2 * (1 + cos(pi * (i - W) / (N - W))): `start` at i = W, and `end` is what step N would have.
    From step N on the value is `end`. A warm-up longer than the run is cut off with it.

    Raises:
        ValueError: a negative step or length.
    """
    _check_not_negative(step=step, n_steps=n_steps, warmup_steps=warmup_steps)
    if step >= n_steps:
        return end
    if step < warmup_steps:
        return linear_warmup(step, warmup_start, start, warmup_steps)
    share = (step - warmup_steps) / (n_steps - warmup_steps)
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * share))


def _check_not_negative(**counts: int) -> None:
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"{name} cannot be negative: {count}")
