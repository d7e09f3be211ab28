"""Columns of the table that are known beside the image (age, BMI, sex): numbers a network or a linear model can take."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.problem_lists import rows_in_words
from fuse_examples.imaging.oai_example.errors import DataError


@dataclass(frozen=True)
class Covariate:
    """One column, as learnt from the training cases.

    Attributes:
        name: the column.
        mean, std: of a numeric one, over the training cases that have a value.
        levels: of a categorical one, sorted; empty for a numeric one.
    """

    name: str
    mean: float = 0.0
    std: float = 1.0
    levels: tuple[str, ...] = ()

    def encode(self, text: str | None) -> list[float]:
        """A number: its standardised value (the mean where it is missing) and whether it is missing. A level: one number per level."""
        if self.levels:
            return [float(text == level) for level in self.levels]
        return [0.0, 1.0] if text is None else [(float(text) - self.mean) / self.std, 0.0]


@dataclass(frozen=True)
class Covariates:
    """All columns of a run, in the order of the configuration."""

    columns: tuple[Covariate, ...] = ()

    @property
    def length(self) -> int:
        """Numbers per case."""
        return sum(len(column.encode(None)) for column in self.columns)

    def encode(self, case: Case) -> NDArray[np.float32]:
        """The case's numbers, (length,); a categorical cell that is empty is 0 in every level."""
        return np.array([value for column in self.columns for value in column.encode(case.extra[column.name])], dtype=np.float32)

    def as_list(self) -> list[dict[str, Any]]:
        """Plain values for a checkpoint."""
        return [{"name": one.name, "mean": one.mean, "std": one.std, "levels": list(one.levels)} for one in self.columns]

    @classmethod
    def from_list(cls, values: Sequence[Mapping[str, Any]]) -> "Covariates":
        """The inverse of `as_list`."""
        return cls(tuple(Covariate(one["name"], one["mean"], one["std"], tuple(one["levels"])) for one in values))


def learn_covariates(cases: Sequence[Case], types: Mapping[str, str], csv_path: Path) -> Covariates:
    """Learn means and levels from the training cases.

    Raises:
        DataError: a number that is none, with its rows; a column without any value.
    """
    check_numbers(cases, [name for name, kind in types.items() if kind == "numeric"], csv_path)
    columns, problems = [], []
    for name, kind in types.items():
        texts = [text for case in cases if (text := case.extra[name]) is not None]
        if not texts:
            problems.append(f"{csv_path}: the covariate {name} is empty in all training cases. Take it out of covariates.")
        elif kind == "categorical":
            columns.append(Covariate(name, levels=tuple(sorted(set(texts)))))
        else:
            values = np.array([float(text) for text in texts])
            columns.append(Covariate(name, float(values.mean()), float(values.std()) or 1.0))
    if problems:
        raise DataError(problems)
    return Covariates(tuple(columns))


def check_covariates(splits: Mapping[str, Sequence[Case]], learned: Covariates, csv_path: Path) -> None:
    """Refuse numbers that are none and levels that training did not see.

    Args:
        splits: the cases to look at by what they are called in a message.
        learned: from the training cases.
        csv_path: for messages.

    Raises:
        DataError: one line for each value that does not fit, with its rows.
    """
    check_numbers([case for cases in splits.values() for case in cases], [one.name for one in learned.columns if not one.levels], csv_path)
    problems = []
    for split, cases in splits.items():
        for column in (one for one in learned.columns if one.levels):
            new: dict[str, list[int]] = {}
            for case in cases:
                text = case.extra[column.name]
                if text is not None and text not in column.levels:
                    new.setdefault(text, []).append(case.row)
            problems += [
                f"{csv_path}:{rows[0]}: the covariate {column.name} is {text!r} in {rows_in_words(rows)} of {split}, but the training "
                f"folds hold only {', '.join(map(repr, column.levels))}. Correct or empty the cell."
                for text, rows in new.items()
            ]
    if problems:
        raise DataError(problems)


def check_numbers(cases: Sequence[Case], names: Sequence[str], csv_path: Path) -> None:
    """Refuse cells of numeric covariates that hold no number. Raises DataError with their rows."""
    problems = []
    for name in names:
        wrong: dict[str, list[int]] = {}
        for case in cases:
            text = case.extra[name]
            if text is not None and not _is_number(text):
                wrong.setdefault(text, []).append(case.row)
        problems += [
            f"{csv_path}:{rows[0]}: the covariate {name} is {text!r} in {rows_in_words(rows)}, but covariates says numeric, so it must be "
            "a number. Correct or empty the cell, or make it categorical."
            for text, rows in wrong.items()
        ]
    if problems:
        raise DataError(problems)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
