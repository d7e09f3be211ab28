"""Spread patients over folds: whole groups, classes in proportion, the same for the same seed in whatever order the rows come."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from fuse_examples.imaging.oai_example.errors import DataError

Shares = Mapping[str, float]


def equal_shares(count: int) -> dict[str, float]:
    """Return `count` folds named 0, 1, ... of one size; raise `DataError` for fewer than one."""
    if count < 1:
        raise DataError(f"--folds is {count}; give 1 or more.")
    return {str(fold): 1 / count for fold in range(count)}


def linked_groups(*columns: Sequence[str]) -> list[str]:
    """Return a name per row; rows that share a non-empty value in any of `columns`, directly or through others, share it.

    The name is the smallest value of the first column in the group, so that it does not depend on the order of rows.
    """
    parent = list(range(len(columns[0])))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for column in columns:
        first: dict[str, int] = {}
        for row, value in enumerate(column):
            if value and value in first:
                parent[root(row)] = root(first[value])
            elif value:
                first[value] = row
    names: dict[int, str] = {}
    for row, value in enumerate(columns[0]):
        names[root(row)] = min(value, names.get(root(row), value))
    return [names[root(row)] for row in range(len(parent))]


def assign_folds(groups: Sequence[str], shares: Shares, *, classes: Sequence[Hashable] | None = None, seed: int = 0) -> list[str]:
    """Return the fold of every row.

    Large groups come first, then in an order drawn from `seed`; each goes where it lowers chi-square most, the sum over folds and
    classes of (rows - expected)^2 / expected (for single rows this is the apportionment of Webster and Sainte-Laguë).

    Args:
        groups: what must stay together, per row: the patient.
        shares: size of each fold by name, in any unit.
        classes: what to spread evenly, per row.
        seed: draws the order.

    Raises:
        DataError: fewer groups than folds, or a share that is not positive.
    """
    _check(groups, shares)
    names = sorted(set(groups), key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest())
    number = {name: place for place, name in enumerate(names)}
    kinds = {kind: place for place, kind in enumerate(sorted(set(classes or [""]), key=repr))}
    counts = np.zeros((len(names), len(kinds)))
    for group, kind in zip(groups, classes or [""] * len(groups), strict=True):
        counts[number[group], kinds[kind]] += 1
    weights = np.array(list(shares.values())) / sum(shares.values())
    expected = weights[:, None] * counts.sum(axis=0)
    taken = np.zeros_like(expected)
    chosen = np.zeros(len(names), int)
    for place in np.argsort(-counts.sum(axis=1), kind="stable"):
        change = ((2 * (taken - expected) + counts[place]) * counts[place] / expected).sum(axis=1)
        filled = taken.sum(axis=1) / weights
        best = np.flatnonzero(change <= change.min() + 1e-9)
        chosen[place] = best[np.argmin(filled[best])]  # of equally good folds the emptiest
        taken[chosen[place]] += counts[place]
    folds = list(shares)
    return [folds[chosen[number[group]]] for group in groups]


def _check(groups: Sequence[str], shares: Shares) -> None:
    problems = [f"The share of fold {fold} is {share:g}; it must be positive." for fold, share in shares.items() if not share > 0]
    if len(set(groups)) < len(shares):
        patients = f"{len(set(groups))} patient{'s' * (len(set(groups)) != 1)}"
        problems.append(f"{patients} cannot be spread over {len(shares)} folds. Ask for fewer folds (--folds).")
    if problems:
        raise DataError(problems)
