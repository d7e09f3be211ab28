"""Named alarms of a DINO run: what an epoch's figures look like when the run goes wrong, and what usually helps.

A loss that falls says little, since the target moves; each of these states has a mark of its own. The thresholds lie far from what
healthy runs show, so that an alarm is worth stopping for.
"""

import math
from dataclasses import dataclass

UNIFORM_SHARE = 0.99  # of ln K, for the loss and the teacher's entropy
ONE_PROTOTYPE_SHARE = 0.9  # of the teacher's mean distribution
SMALLEST_RANK = 1.5  # one direction has 1; networks with norm_statistics: instance begin at 2.0 to 2.1
FEWEST_FEATURES = 4  # fewer have a rank of about one anyway
WORSE_THAN_GUESSING = 1.0  # nats above ln K
MOST_GROWTH, MOST_GROWTH_OF_A_STEP = 5.0, 1.02  # of the norm of the student's weights: in an epoch, and from step to step of a short one
LEAST_BETWEEN_SCANS = 0.05  # nats


@dataclass(frozen=True)
class PatchFigures:
    """What an epoch has shown of the head on masked cells, each as in `EpochFigures`, of cells instead of views."""

    loss: float
    teacher_entropy: float
    largest_share: float
    n_prototypes: int


@dataclass(frozen=True)
class EpochFigures:
    """What an epoch has shown.

    Attributes:
        loss: mean of the DINO loss over the epoch's steps, in nats.
        teacher_entropy: mean entropy of the teacher's distributions, in nats.
        largest_share: of one prototype in the teacher's mean distribution.
        prototypes_used: share of the prototypes that were the likeliest of at least one view.
        effective_rank: of the teacher's latest features.
        n_features: how many features the rank is of.
        n_prototypes: K.
        n_steps, n_skipped: optimiser steps, and those left out because gradients were not finite.
        weight_growth: norm of the student's weights at the end of the epoch, over that at its beginning.
        between_scans: how far the teacher's outputs for the scans of a batch differ, in nats; not a number where no batch had two.
        teacher_moved: whether the teacher has changed since the run began.
        patch: of masked self-distillation; None where it is off, or no cell was masked.
    """

    loss: float
    teacher_entropy: float
    largest_share: float
    prototypes_used: float
    effective_rank: float
    n_features: int
    n_prototypes: int
    n_steps: int
    n_skipped: int
    weight_growth: float
    teacher_moved: bool
    between_scans: float = math.nan
    patch: PatchFigures | None = None


@dataclass(frozen=True)
class Alarm:
    """A state that a run should not be in."""

    name: str
    seen: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.seen} {self.remedy}"


def alarms_of(figures: EpochFigures, *, warmed_up: bool) -> tuple[Alarm, ...]:
    """The alarms that an epoch's figures raise; before the end of the warm-up only those that no warm-up explains."""
    found = [_not_finite(figures), _still_teacher(figures), _diverging(figures, warmed_up)]
    if warmed_up:
        found += [_uniform(figures), _one_prototype(figures), _constant(figures), _dimensional(figures)]
        found += [_uniform_patches(figures.patch), _one_prototype_of_patches(figures.patch)] if figures.patch else []
    return tuple(alarm for alarm in found if alarm is not None)


def _not_finite(figures: EpochFigures) -> Alarm | None:
    if not figures.n_skipped:
        return None
    seen = f"{figures.n_skipped} of {figures.n_steps} steps were skipped, because their gradients were not finite."
    return Alarm(
        "not finite",
        seen,
        "Look for damaged volumes with prepare.check --full; if there are none, set precision: fp32 or lower learning_rate.",
    )


def _still_teacher(figures: EpochFigures) -> Alarm | None:
    if figures.teacher_moved or figures.n_skipped == figures.n_steps:
        return None
    return Alarm(
        "still teacher", "the teacher has not changed since the run began, so the student learns random targets.", "Lower momentum_start."
    )


def _uniform(figures: EpochFigures) -> Alarm | None:
    if not _is_uniform(figures):
        return None
    seen = f"{_at_ln_k(figures)}: every scan gets the same uniform output."
    return Alarm(
        "uniform collapse", seen, "Lower teacher_temperature or learning_rate, raise momentum_start, or set head.use_batch_norm: true."
    )


def _uniform_patches(figures: PatchFigures) -> Alarm | None:
    if not _is_uniform(figures):
        return None
    seen = f"on masked cells {_at_ln_k(figures)}: every cell gets the same uniform output."
    return Alarm("uniform patch collapse", seen, "Lower teacher_temperature, learning_rate or masking.patch_weight.")


def _is_uniform(figures: EpochFigures | PatchFigures) -> bool:
    # Figures that are not numbers are none of a uniform output.
    return min(figures.loss, figures.teacher_entropy) >= UNIFORM_SHARE * math.log(figures.n_prototypes)


def _at_ln_k(figures: EpochFigures | PatchFigures) -> str:
    highest = math.log(figures.n_prototypes)
    return f"the loss ({figures.loss:.3f}) and the teacher's entropy ({figures.teacher_entropy:.3f}) lie at ln K = {highest:.3f}"


def _one_prototype(figures: EpochFigures) -> Alarm | None:
    if figures.largest_share < ONE_PROTOTYPE_SHARE:
        return None
    seen = f"one prototype of {figures.n_prototypes} takes {figures.largest_share:.0%} of the teacher's output: every scan gets the same."
    return Alarm("one-prototype collapse", seen, "Lower center_momentum, set centering: sinkhorn, or raise teacher_temperature.")


def _constant(figures: EpochFigures) -> Alarm | None:
    """One output for all scans that is neither uniform nor a single prototype: those have names of their own."""
    has_name = _is_uniform(figures) or figures.largest_share >= ONE_PROTOTYPE_SHARE
    if has_name or not figures.between_scans < LEAST_BETWEEN_SCANS:
        return None
    seen = f"the teacher's outputs for the scans of a batch differ by {figures.between_scans:.4f} nats: every scan gets the same."
    return Alarm("constant output", seen, "Lower learning_rate, set centering: sinkhorn, or look at the pictures of the views.")


def _one_prototype_of_patches(figures: PatchFigures) -> Alarm | None:
    if figures.largest_share < ONE_PROTOTYPE_SHARE:
        return None
    seen = (
        f"on masked cells one prototype of {figures.n_prototypes} takes {figures.largest_share:.0%} of the teacher's output: every cell "
        "gets the same."
    )
    return Alarm(
        "one-prototype patch collapse",
        seen,
        "Set masking.patch_centering: sinkhorn, raise teacher_temperature, or lower masking.patch_weight.",
    )


def _dimensional(figures: EpochFigures) -> Alarm | None:
    if figures.effective_rank >= SMALLEST_RANK or figures.n_features < FEWEST_FEATURES:
        return None
    seen = (
        f"the effective rank of {figures.n_features} features is {figures.effective_rank:.2f}: scans differ in a single direction at most."
    )
    remedy = "Look at the pictures of the views; if they show structure, lower learning_rate or set koleo_weight: 0.1."
    return Alarm("dimensional collapse", seen, remedy)


def _diverging(figures: EpochFigures, warmed_up: bool) -> Alarm | None:
    highest = math.log(figures.n_prototypes)
    # A step of Adam moves each weight by the learning rate at most; a sound one is a hundredth of the weights or less.
    if figures.weight_growth > min(MOST_GROWTH, MOST_GROWTH_OF_A_STEP**figures.n_steps):
        seen = f"the norm of the student's weights has grown {figures.weight_growth:.1f} times in the {figures.n_steps} steps of the epoch."
    elif warmed_up and figures.loss > highest + WORSE_THAN_GUESSING:
        seen = f"the loss is {figures.loss:.3f}, and guessing costs ln K = {highest:.3f}."
    else:
        return None
    return Alarm("diverging", seen, "Lower learning_rate, or raise warmup_epochs.")
