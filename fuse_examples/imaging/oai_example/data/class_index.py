"""The classes of a categorical column: learnt from the training cases, kept in the checkpoint, held against every other case."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.errors import DataError

MISSING = -1
"""Label of a case whose cell is empty: it is left out of the loss and of the metrics of that target."""


@dataclass(frozen=True)
class ClassIndex:
    """The classes of one target in the order of their indices.

    Attributes:
        target: name of the column.
        classes: sorted; grades by their number.
        counts: training cases per class.
        positive: with two classes, the one that counts as positive.
        ordinal: whether the classes are grades, and in their order.
    """

    target: str
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    positive: str | None
    ordinal: bool = False

    def label(self, case: Case) -> int:
        """Index of a case's class; `MISSING` for an empty cell."""
        name = case.targets[self.target]
        return MISSING if name is None else self.classes.index(name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        kind = "ordinal" if self.ordinal else "categorical"
        counts = {"classes": list(self.classes), "counts": list(self.counts)}
        return {"target": self.target, "type": kind, **counts, "positive": self.positive}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ClassIndex":
        """The inverse of `as_dict`."""
        ordinal = values.get("type") == "ordinal"
        return cls(values["target"], tuple(values["classes"]), tuple(values["counts"]), values["positive"], ordinal)


def learn_classes(
    cases: Sequence[Case], targets: Sequence[str], positive: Mapping[str, str] | None, csv_path: Path
) -> tuple[ClassIndex, ...]:
    """Learn the classes of each target from the training cases.

    With two classes the positive one is `positive[target]`, otherwise the rarer one (the second of the sorted, if equal).

    Raises:
        DataError: a target with fewer than two classes in the training folds, or whose positive class is not among them.
    """
    indices, problems = [], []
    for target in targets:
        counts = Counter(name for case in cases if (name := case.targets[target]) is not None)
        classes = tuple(sorted(counts))
        chosen = (positive or {}).get(target)
        if len(classes) < 2:
            found = f"only {classes[0]!r}" if classes else "no value at all"
            problems.append(
                f"{csv_path}: {target}: the training folds hold {found}, and a classifier needs two classes. Choose other train_folds."
            )
        elif chosen is not None and chosen not in classes:
            problems.append(f"positive_class: {target} has no class {chosen!r} in the training folds; its classes are {_listed(classes)}.")
        else:
            rarer = min(reversed(classes), key=lambda name: counts[name])
            default = rarer if len(classes) == 2 else None
            indices.append(ClassIndex(target, classes, tuple(counts[name] for name in classes), chosen or default))
    if problems:
        raise DataError(problems)
    return tuple(indices)


def check_classes(splits: Mapping[str, Sequence[Case]], indices: Sequence[ClassIndex], csv_path: Path) -> None:
    """Refuse classes that training did not see.

    Args:
        splits: the cases to look at by what they are called in a message, such as "the test folds".
        indices: what training has learnt.
        csv_path: for messages.

    Raises:
        DataError: one line for each unknown class of each split, with its rows and the nearest class that is known.
    """
    problems = [
        _unknown_class(name, rows, split, index, csv_path)
        for split, cases in splits.items()
        for index in indices
        for name, rows in _rows_by_class(cases, index.target).items()
        if name not in index.classes
    ]
    if problems:
        raise DataError(problems)


def check_validation(cases: Sequence[Case], indices: Sequence[ClassIndex], csv_path: Path) -> None:
    """Refuse validation folds that cannot score an epoch: an AUC needs cases of two classes, of one target at least.

    Raises:
        DataError: naming what the validation folds hold of each target.
    """
    found = {index.target: sorted(_rows_by_class(cases, index.target)) for index in indices}
    if all(len(classes) < 2 for classes in found.values()):
        held = "; ".join(f"{target}: {_listed(classes) or 'no value at all'}" for target, classes in found.items())
        raise DataError(
            f"{csv_path}: the validation folds hold one class at most ({held}), and the best epoch is chosen by an AUC, which needs two. "
            "Choose other val_folds."
        )


def _rows_by_class(cases: Sequence[Case], target: str) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for case in cases:
        name = case.targets[target]
        if name is not None:
            rows.setdefault(name, []).append(case.row)
    return rows


def _unknown_class(name: str, rows: Sequence[int], split: str, index: ClassIndex, csv_path: Path) -> str:
    close = get_close_matches(name, index.classes, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return (
        f"{csv_path}:{rows[0]}: {index.target} is {name!r} in {len(rows)} row(s) of {split}, but the training folds "
        f"hold only {_listed(index.classes)}.{hint} Correct or empty the cell, or move the rows."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
