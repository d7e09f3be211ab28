"""What speaks against a resolved configuration of pre-training, told before it starts: settings that no rule refuses."""

from fuse_examples.imaging.oai_example.configuration.dino_auto import RULES, RunSize, number
from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig

MOST_LEFT_OF_START = 0.5
"""Share of the teacher's first weights that may be left at the end without a warning."""
FEW_FOR_DIFFERENT_VIEWS, LEAST_SHARED = 500, 0.8
"""Below so many volumes large views should begin at this share of the scan; docs/pretraining.md has what was measured."""
FEW_VOLUMES_FILE = "configs/dino_few_volumes.yaml"


def remarks(config: DINOConfig, size: RunSize) -> tuple[str, ...]:
    """What speaks against a configuration without `auto`, a line each."""
    return (*slow_teacher(config, size), *blunt_teacher(config, size), *different_views(config, size))


def slow_teacher(config: DINOConfig, size: RunSize) -> tuple[str, ...]:
    """A warning where the teacher of a configuration without `auto` is, to the end, mostly what it began as.

    Each step keeps a share `momentum` of it, which runs from `momentum_start` to `momentum_end` along half a cosine: of the first weights
    about their mean to the power of the number of steps is left.
    """
    left: float = ((number(config.momentum_start) + config.momentum_end) / 2) ** size.n_steps
    if left <= MOST_LEFT_OF_START:
        return ()
    learnt = "random numbers say" if config.dino_weights is None and config.suprem_weights is None else "those weights said"
    fitting, _ = RULES["momentum_start"](config, size)
    change = f"Set momentum_start: auto, which is {fitting:g} here, or train" if fitting < number(config.momentum_start) else "Train"
    return (
        f"warning: with momentum_start {config.momentum_start:g} the teacher is still {left:.0%} of what it starts from after all "
        f"{size.n_steps} steps, so the student learns what {learnt}. {change} for longer.",
    )


def blunt_teacher(config: DINOConfig, size: RunSize) -> tuple[str, ...]:
    """A warning where the teacher of a configuration without `auto` is no sharper than the student: centring then levels outputs."""
    reached = number(config.teacher_temperature)
    if reached < config.student_temperature:
        return ()
    fitting, _ = RULES["teacher_temperature"](config, size)
    remedy = f"Set teacher_temperature: auto, which is {fitting:g} here"
    if fitting >= config.student_temperature:
        remedy = "Raise student_temperature above it; 0.1 is usual"
    return (
        f"warning: teacher_temperature {reached:g} is not below student_temperature {config.student_temperature:g}; a teacher that is no "
        f"sharper than the student usually ends in uniform outputs. {remedy}.",
    )


def different_views(config: DINOConfig, size: RunSize) -> tuple[str, ...]:
    """A note where few volumes are to be learnt from by views that share little: such runs came to level outputs."""
    crops = config.crops
    smallest = min(crops.global_scale_in_plane[0], crops.global_scale_through_plane[0])
    if size.n_volumes >= FEW_FOR_DIFFERENT_VIEWS or (crops.n_local == 0 and smallest >= LEAST_SHARED):
        return ()
    return (
        f"note: {size.n_volumes} training volumes are few for views that share as little as these: large ones from {smallest:.0%} on, "
        f"{crops.n_local} small ones. In runs on some hundred scans the outputs levelled out; {FEW_VOLUMES_FILE} has views that kept them "
        "apart.",
    )
