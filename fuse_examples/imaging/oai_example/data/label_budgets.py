"""Subsets of patients for studies of label efficiency: nested, of whole patients, with the classes in their proportions.

A seed puts the patients of a fold in an order of its own; a budget of n takes the first n. So a larger budget holds every smaller one of
the same seed, and budgets can be added later without drawing anything anew.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from fuse_examples.imaging.oai_example.data.cases import Case

N_STRATA = 5
"""Groups of equal size that the patients are cut into by a continuous target."""


def patient_order(strata: Mapping[str, str], seed: int, stream: int) -> tuple[str, ...]:
    """Put patients in an order whose beginnings have the classes in their proportions, and as many of them as they can hold.

    The first patients are one of each class, the most frequent first; then each place goes to the class that lags furthest behind its share
    of the places so far. Within a class the order is random.

    Args:
        strata: patient -> class.
        seed: of the random order.
        stream: a number that keeps orders with the same seed apart, such as 0 for training and 1 for validation.
    """
    rng = np.random.default_rng([seed, stream])
    waiting: dict[str, list[str]] = {}
    for patient in sorted(strata):
        waiting.setdefault(strata[patient], []).append(patient)
    waiting = {name: [members[place] for place in rng.permutation(len(members))] for name, members in sorted(waiting.items())}
    sizes = {name: len(members) for name, members in waiting.items()}
    ranked = sorted(sizes, key=lambda name: (-sizes[name], name))
    order, taken = [], Counter[str]()
    for place in range(len(strata)):
        left = [name for name in ranked if taken[name] < sizes[name]]
        unseen = [name for name in left if not taken[name]]
        lag = {name: (place + 1) * sizes[name] / len(strata) - taken[name] for name in left}
        name = unseen[0] if unseen else max(left, key=lambda one: lag[one])  # the first, that is the most frequent, of equals
        order.append(waiting[name][taken[name]])
        taken[name] += 1
    return tuple(order)


def strata_of_patients(cases: Sequence[Case], target: str | None, *, continuous: bool = False) -> dict[str, str]:
    """Return patient -> class, of the patients that have a value of `target`; all of one class without a target.

    A patient whose cases are of several classes counts as the rarest of them; a continuous target is cut at its quantiles.
    """
    if target is None:
        return dict.fromkeys((case.patient for case in cases), "")
    labelled = [(case.patient, text) for case in cases if (text := case.targets[target]) is not None]
    if continuous:
        labelled = _quantile_groups(labelled)
    counts = Counter(name for _, name in labelled)
    strata: dict[str, str] = {}
    for patient, name in labelled:
        strata[patient] = min(strata.get(patient, name), name, key=lambda one: (counts[one], one))
    return strata


def _quantile_groups(labelled: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    numbers = np.array([float(text) for _, text in labelled])
    edges = np.quantile(numbers, np.linspace(0, 1, N_STRATA + 1)[1:-1]) if len(numbers) else numbers
    return [(patient, str(int(np.searchsorted(edges, value)))) for (patient, _), value in zip(labelled, numbers, strict=True)]


Budget = int | float | str
ALL = "all"


def budget_label(budget: Budget) -> str:
    """The budget as folders and tables name it: "n4" for a number, "5pct" for a share, "all"."""
    if isinstance(budget, str):
        return budget
    return f"n{budget}" if isinstance(budget, int) else f"{100 * budget:g}pct"


def n_patients_of(budget: Budget, n_all: int) -> int:
    """How many of `n_all` patients a budget is; a share is rounded, and at least one patient. May exceed `n_all`."""
    if isinstance(budget, str):
        return n_all
    return budget if isinstance(budget, int) else max(1, round(budget * n_all))
