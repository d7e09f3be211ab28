"""Normalisation statistics of a DINO run: where they start from, and what becomes of them when a batch has spoilt them."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

import torch
from torch import nn

from fuse_examples.imaging.oai_example.objectives.norm_statistics import differ_in_buffers, restore_buffers, statistics_momentum
from fuse_examples.imaging.oai_example.objectives.teacher import update_teacher
from fuse_examples.imaging.oai_example.tasks.dino_passes import Batch

Pairs = Sequence[tuple[nn.Module, nn.Module]]
"""(student, teacher) of each part."""


def start_statistics(pairs: Pairs, compute: Callable[[Batch], object], batches: Iterable[Batch]) -> None:
    """Set the normalisation statistics of both networks to their mean over batches, those that are not finite left out.

    Args:
        pairs: the networks.
        compute: a pass of a batch through all students, in training mode.
        batches: as training gets them.
    """
    n_sound = 0
    for batch in batches:
        with torch.no_grad(), ExitStack() as moving:
            for student, _ in pairs:
                moving.enter_context(statistics_momentum(student, 1 / (n_sound + 1)))
            compute(batch)
        if not any(differ_in_buffers(student, teacher) for student, teacher in pairs):
            return  # no layer keeps statistics
        if not restore_statistics(pairs):
            n_sound += 1
            for student, teacher in pairs:
                update_teacher(student, teacher, momentum=0.0)


def restore_statistics(pairs: Pairs) -> bool:
    """Whether the students' statistics were not finite; they are the teachers' then."""
    were_spoilt = [restore_buffers(student, teacher) for student, teacher in pairs]
    return any(were_spoilt)
