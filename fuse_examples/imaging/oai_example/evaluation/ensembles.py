"""Several classifiers as one: the mean, case by case, of what they predict."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fuse_examples.imaging.oai_example.evaluation.baseline_results import Rival
from fuse_examples.imaging.oai_example.evaluation.classified_cases import ClassifiedCase


def average_cases(members: Sequence[Sequence[ClassifiedCase]]) -> list[ClassifiedCase]:
    """Return the cases with the mean of the members' probabilities and numbers.

    Args:
        members: each member's predictions of the same cases in the same order.
    """
    averaged = []
    for same in zip(*members, strict=True):
        first = same[0]
        probabilities = {target: np.mean([case.probabilities[target] for case in same], axis=0).tolist() for target in first.probabilities}
        values = {target: float(np.mean([case.values[target] for case in same])) for target in first.values}
        averaged.append(replace(first, probabilities=probabilities, values=values))
    return averaged


def average_rivals(members: Sequence[Mapping[str, Sequence[Rival]]]) -> dict[str, list[Rival]]:
    """Return target -> baselines with the mean of the members' predictions and thresholds; none where a member has none."""
    if not all(members):
        return {}
    averaged: dict[str, list[Rival]] = {}
    for target in members[0]:
        averaged[target] = []
        for same in zip(*(member[target] for member in members), strict=True):
            chosen = [one.threshold for one in same if one.threshold is not None]
            mean = np.mean([one.predictions for one in same], axis=0)
            averaged[target].append(Rival(same[0].name, mean, float(np.mean(chosen)) if len(chosen) == len(same) else None))
    return averaged


def mean_thresholds(members: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return target -> mean of the thresholds that the members' validation cases chose, where each has one."""
    common = [target for target in members[0] if all(target in member for member in members)]
    return {target: float(np.mean([member[target] for member in members])) for target in common}
