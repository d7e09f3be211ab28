"""What a run learns of each target column from the training cases: its classes, its grades in their order, or the scale of its numbers."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.class_index import ClassIndex, check_classes, check_validation, learn_classes
from fuse_examples.imaging.oai_example.data.problem_lists import rows_in_words
from fuse_examples.imaging.oai_example.errors import DataError

TargetType = Literal["categorical", "ordinal", "continuous"]
_GRADE = re.compile(r"[+-]?\d+(\.\d+)?(?=$|[^\w.])")
UNKNOWN = math.nan
"""Label of a case whose cell is empty, for numbers; classes have `MISSING`."""


@dataclass(frozen=True)
class NumberScale:
    """A continuous target.

    Attributes:
        target: name of the column.
        mean, std: of the training cases.
        count: training cases with a value.
    """

    target: str
    mean: float
    std: float
    count: int

    def label(self, case: Case) -> float:
        """The number, in the column's own unit; NaN for an empty cell."""
        text = case.targets[self.target]
        return UNKNOWN if text is None else float(text)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"target": self.target, "type": "continuous", "mean": self.mean, "std": self.std, "count": self.count}


LearnedTarget = ClassIndex | NumberScale


def grade_of(text: str) -> float | None:
    """Return the number that a grade is, or begins with ("2", "2: Moderate"); None where it does not."""
    found = _GRADE.match(text)
    return float(found[0]) if found else None


def learn_targets(
    cases: Sequence[Case],
    targets: Sequence[str],
    types: Mapping[str, str],
    positive: Mapping[str, str] | None,
    csv_path: Path,
) -> tuple[LearnedTarget, ...]:
    """Learn what each target is from the training cases.

    Args:
        cases: the training cases.
        targets: columns.
        types: column -> type; categorical where it is not named.
        positive: column -> positive class.
        csv_path: for messages.

    Raises:
        DataError: a target that cannot be learnt, as `learn_classes`; numbers that are all the same.
    """
    numbers = [target for target in targets if types.get(target) == "continuous"]
    classes = {index.target: index for index in learn_classes(cases, [name for name in targets if name not in numbers], positive, csv_path)}
    problems: list[str] = []
    learned: list[LearnedTarget] = []
    for target in targets:
        if target in numbers:
            values = [float(text) for case in cases if (text := case.targets[target]) is not None]
            if len(set(values)) < 2:
                found = f"only {values[0]:g}" if values else "no value at all"
                problems.append(f"{csv_path}: {target}: the training folds hold {found}; a continuous target needs two that differ.")
                continue
            learned.append(NumberScale(target, float(np.mean(values)), float(np.std(values)), len(values)))
        else:
            learned.append(_graded(classes[target]) if types.get(target) == "ordinal" else classes[target])
    if problems:
        raise DataError(problems)
    return tuple(learned)


def check_types(splits: Mapping[str, Sequence[Case]], targets: Sequence[str], types: Mapping[str, str], csv_path: Path) -> None:
    """Refuse values that do not fit the type of their target.

    Args:
        splits: the cases to look at by what they are called in a message, such as "the test folds".
        targets: columns.
        types: column -> type.
        csv_path: for messages.

    Raises:
        DataError: one line for each value that does not fit, with its rows.
    """
    problems = []
    for target in targets:
        kind = types.get(target)
        if kind not in ("ordinal", "continuous"):
            continue
        rows: dict[str, list[int]] = {}
        for case in (case for cases in splits.values() for case in cases):
            text = case.targets[target]
            if text is not None and not _fits(text, kind):
                rows.setdefault(text, []).append(case.row)
        wanted = "a number" if kind == "continuous" else "a number or a text that begins with one, such as '2: Moderate'"
        problems += [
            f"{csv_path}:{numbers[0]}: {target} is {text!r} in {rows_in_words(numbers)}, but target_types says {kind}, so it must be "
            f"{wanted}. Correct or empty the cell, or change the type."
            for text, numbers in rows.items()
        ]
    if problems:
        raise DataError(problems)


def check_targets(splits: Mapping[str, Sequence[Case]], learned: Sequence[LearnedTarget], csv_path: Path) -> None:
    """Refuse classes and grades that training did not see. Raises DataError as `check_classes`."""
    check_classes(splits, [index for index in learned if isinstance(index, ClassIndex)], csv_path)


def check_scorable(cases: Sequence[Case], learned: Sequence[LearnedTarget], csv_path: Path) -> None:
    """Refuse validation folds that cannot score an epoch: one target at least needs two classes or two different numbers.

    Raises:
        DataError: as `check_validation`, or naming the numbers.
    """
    scales = [one for one in learned if isinstance(one, NumberScale)]
    if any(len({case.targets[scale.target] for case in cases} - {None}) > 1 for scale in scales):
        return
    indices = [index for index in learned if isinstance(index, ClassIndex)]
    if indices:
        check_validation(cases, indices, csv_path)
    elif scales:
        names = ", ".join(scale.target for scale in scales)
        raise DataError(
            f"{csv_path}: the validation folds hold no two different values of {names}, and the best epoch is chosen by R squared, which "
            "needs two. Choose other val_folds."
        )


def target_from_dict(values: Mapping[str, Any]) -> LearnedTarget:
    """The inverse of `as_dict`."""
    if values.get("type") == "continuous":
        return NumberScale(values["target"], values["mean"], values["std"], values["count"])
    return ClassIndex.from_dict(values)


def _fits(text: str, kind: str) -> bool:
    if kind == "ordinal":
        return grade_of(text) is not None
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _graded(index: ClassIndex) -> ClassIndex:
    """The same classes in the order of their grades; equal numbers ("2" and "2: Moderate") by text."""
    order = sorted(range(len(index.classes)), key=lambda place: (grade_of(index.classes[place]) or 0.0, index.classes[place]))
    classes, counts = tuple(index.classes[place] for place in order), tuple(index.counts[place] for place in order)
    return ClassIndex(index.target, classes, counts, index.positive, ordinal=True)
