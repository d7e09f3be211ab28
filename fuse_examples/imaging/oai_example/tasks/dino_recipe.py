"""The values of a DINO run that change while it trains."""

import math
from dataclasses import dataclass, fields

from fuse_examples.imaging.oai_example.objectives.schedules import cosine_schedule, linear_warmup


@dataclass(frozen=True)
class StepValues:
    """What one optimiser step uses."""

    learning_rate: float
    weight_decay: float
    momentum: float
    teacher_temperature: float


@dataclass(frozen=True)
class DINORecipe:
    """The schedules of DINO (Caron et al. 2021, arXiv 2104.14294, section 3.2), per optimiser step; defaults are the reference's.

    Attributes:
        learning_rate: at the end of the warm-up, as used: no scaling by the batch size.
        learning_rate_end: where the cosine leads.
        warmup_epochs: epochs over which the learning rate rises linearly from 0; fractions are allowed.
        weight_decay: at the start; none on biases and other parameters with one axis.
        weight_decay_end: where the cosine leads.
        momentum_start: of the teacher's moving average, at the start.
        momentum_end: where the cosine leads.
        teacher_temperature_start: at the start; too high a temperature early makes training unstable.
        teacher_temperature: after its linear warm-up.
        teacher_temperature_warmup_epochs: length of that warm-up.
        freeze_last_layer_epochs: epochs at the start in which the head's last layer stays as it is.
        koleo_weight: of the KoLeo loss on the student's features of each global view.
        layer_decay: factor of the learning rate per level of the encoder away from its deepest map; heads and decoder have the full rate.
    """

    learning_rate: float = 5e-4
    learning_rate_end: float = 1e-6
    warmup_epochs: float = 10
    weight_decay: float = 0.04
    weight_decay_end: float = 0.4
    momentum_start: float = 0.996
    momentum_end: float = 1.0
    teacher_temperature_start: float = 0.04
    teacher_temperature: float = 0.04
    teacher_temperature_warmup_epochs: float = 30
    freeze_last_layer_epochs: int = 1
    koleo_weight: float = 0.0
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values that no schedule can use.

        Raises:
            ValueError: all of them at once.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        problems = [f"{name} is {value}" for name, value in values.items() if not self._is_usable(name, value)]
        if problems:
            raise ValueError(
                "temperatures must be positive, momenta between 0 and 1, everything else at least 0 and finite, but " + ", ".join(problems)
            )

    @staticmethod
    def _is_usable(name: str, value: float) -> bool:
        if name.startswith("momentum"):
            return 0 <= value <= 1
        if name in ("teacher_temperature", "teacher_temperature_start"):
            return 0 < value < math.inf
        return 0 <= value < math.inf

    def at(self, step: int, n_steps: int, steps_per_epoch: int) -> StepValues:
        """Values of optimiser step `step` (from 0) in a run of `n_steps`."""
        warmup_steps = round(self.warmup_epochs * steps_per_epoch)
        temperature_steps = round(self.teacher_temperature_warmup_epochs * steps_per_epoch)
        return StepValues(
            learning_rate=cosine_schedule(step, self.learning_rate, self.learning_rate_end, n_steps, warmup_steps),
            weight_decay=cosine_schedule(step, self.weight_decay, self.weight_decay_end, n_steps),
            momentum=cosine_schedule(step, self.momentum_start, self.momentum_end, n_steps),
            teacher_temperature=linear_warmup(step, self.teacher_temperature_start, self.teacher_temperature, temperature_steps),
        )
