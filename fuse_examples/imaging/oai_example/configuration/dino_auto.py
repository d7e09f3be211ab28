"""`auto` in pre-training: values that depend on the number of volumes, the batch and the length of the run, each by a stated rule.

The published recipes were found on a million images and batches of a thousand; a run on two hundred scans that copies their numbers
spends all its steps in warm-up, under a teacher that hardly moves. The tables by number of images are those of lightly-train
(documentation of its DINO method); the bounds by the length of the run are this project's.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.configuration.settings import settings_of
from fuse_examples.imaging.oai_example.configuration.wording import shown

AUTO = "auto"
Value = TypeVar("Value", int, float)
PROTOTYPES = ((20_000, 1024), (50_000, 2048), (100_000, 4096), (200_000, 16_384), (500_000, 32_768))
MOST_PROTOTYPES = 65_536
FEW_VOLUMES, MANY_VOLUMES = 20_000, 1_000_000
REFERENCE_RATE, REFERENCE_BATCH = 5e-4, 64
SHARE_OF_RUN = 20


@dataclass(frozen=True)
class RunSize:
    """What the rules go by.

    Attributes:
        n_volumes: training volumes.
        batch: volumes per optimiser step, over all processes and accumulated batches.
        n_epochs: of the whole run.
    """

    n_volumes: int
    batch: int
    n_epochs: int

    @property
    def n_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.n_epochs * math.ceil(self.n_volumes / self.batch)


Rule = Callable[[DINOConfig, RunSize], tuple[Any, str]]


def without_auto(config: DINOConfig, size: RunSize) -> tuple[DINOConfig, tuple[str, ...]]:
    """The configuration with a number in place of each `auto`, and for each a line with the number and the rule that gave it."""
    values, lines = config.dump(), []
    for key, rule in RULES.items():
        *blocks, name = key.split(".")
        block = values
        for one in blocks:
            block = block[one]
        if block[name] == AUTO:
            block[name], because = rule(config, size)
            lines.append(f"auto: {key}: {shown(block[name])}, {because}")
    origins = {key: config.origin(key) for key in settings_of(type(config))}
    return type(config).model_validate(values).with_origins(origins), tuple(lines)


def number(value: Value | Literal["auto"]) -> Value:
    """The number that a setting of a resolved configuration holds."""
    assert value != "auto"
    return value


def _prototypes(_: DINOConfig, size: RunSize) -> tuple[int, str]:
    number = next((prototypes for volumes, prototypes in PROTOTYPES if size.n_volumes <= volumes), MOST_PROTOTYPES)
    return number, f"for {size.n_volumes} volumes"


def _teacher_temperature(_: DINOConfig, size: RunSize) -> tuple[float, str]:
    return round(_by_volumes(size, 0.02, 0.07), 4), f"for {size.n_volumes} volumes; with few, a softer teacher ends in uniform outputs"


def _first_temperature(config: DINOConfig, size: RunSize) -> tuple[float, str]:
    final = config.teacher_temperature
    reached = _teacher_temperature(config, size)[0] if final == "auto" else final
    return min(0.04, reached), "teacher_temperature, but at most 0.04"


def _momentum(config: DINOConfig, size: RunSize) -> tuple[float, str]:
    by_volumes = min(_by_volumes(size, 0.99, 0.996), config.momentum_end)
    by_length = max(0.9, 1 - SHARE_OF_RUN / size.n_steps)
    if by_length < by_volumes:
        return round(by_length, 4), f"for a teacher that remembers a {SHARE_OF_RUN}th of the run's {size.n_steps} steps"
    return round(by_volumes, 4), f"for {size.n_volumes} volumes"


def _learning_rate(_: DINOConfig, size: RunSize) -> tuple[float, str]:
    rate = REFERENCE_RATE * math.sqrt(size.batch / REFERENCE_BATCH)
    return float(f"{rate:.3g}"), f"{REFERENCE_RATE:g} x sqrt({size.batch} volumes per step / {REFERENCE_BATCH})"


def _warmup(share: float, most: int) -> Rule:
    def rule(_: DINOConfig, size: RunSize) -> tuple[int, str]:
        return min(most, max(1, round(share * size.n_epochs))), f"{share:.0%} of {size.n_epochs} epochs, at most {most}"

    return rule


def _by_volumes(size: RunSize, few: float, many: float) -> float:
    """`few` up to 20,000 volumes, `many` from a million on, and in between along their logarithm."""
    share = math.log(max(size.n_volumes, 1) / FEW_VOLUMES) / math.log(MANY_VOLUMES / FEW_VOLUMES)
    return few + (many - few) * min(max(share, 0.0), 1.0)


RULES: Mapping[str, Rule] = {
    "head.n_prototypes": _prototypes,
    "teacher_temperature_start": _first_temperature,
    "teacher_temperature": _teacher_temperature,
    "teacher_temperature_warmup_epochs": _warmup(0.3, 30),
    "momentum_start": _momentum,
    "learning_rate": _learning_rate,
    "warmup_epochs": _warmup(0.1, 10),
}
