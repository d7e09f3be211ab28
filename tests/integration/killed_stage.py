"""Pre-training as a process of its own that kills itself with SIGKILL at a given place; for `test_dino_killed.py`."""

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import small_stages
import torch

from fuse_examples.imaging.oai_example.tasks.dino import DINOTask


class Place(NamedTuple):
    """Where a run ends: the `number`-th time (from 0) that a batch begins, a step is done, or a checkpoint is about to get its name."""

    what: Literal["batch", "step", "checkpoint"]
    number: int


def be_run(cases: Path, results: Path, place: Place | None, errors: Path, words: list[str], changes: dict[str, Any]) -> None:
    """Be a process of one's own, on one thread, and pre-train; up to `place`, if there is one."""
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # for the loader's workers, as in a process started by hand
    with errors.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if place is not None:
        _die_at(place)
    sys.exit(small_stages.start("dino", cases, results, *words, **changes))


def _die_at(place: Place) -> None:
    if place.what == "batch":
        DINOTask.training_step = dying_at(DINOTask.training_step, place.number, before=True)  # type: ignore[method-assign]
    elif place.what == "step":
        DINOTask.optimizer_step = dying_at(DINOTask.optimizer_step, place.number, before=False)  # type: ignore[method-assign]
    else:
        os.replace = dying_at(os.replace, place.number, before=True, only=".ckpt")


def dying_at(call: Callable[..., Any], number: int, *, before: bool, only: str = "") -> Callable[..., Any]:
    seen = iter(range(10**6))

    def counted(*arguments: Any, **named: Any) -> Any:
        is_it = (not only or str(arguments[1]).endswith(only)) and next(seen) == number
        if is_it and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*arguments, **named)
        if is_it:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return counted
