"""What is learned of target columns by their type, and values that do not fit it."""

from pathlib import Path

import numpy as np
import pytest

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.class_index import ClassIndex
from fuse_examples.imaging.oai_example.data.targets import (
    NumberScale,
    check_targets,
    check_types,
    grade_of,
    learn_targets,
    target_from_dict,
)
from fuse_examples.imaging.oai_example.errors import DataError

TABLE = Path("knees.csv")


def cases(**columns: list[str | None]) -> list[Case]:
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [Case(row + 2, f"c{row}", f"p{row}", Path("x"), None, "0", targets) for row, targets in enumerate(rows)]


def test_each_target_is_learned_by_its_type() -> None:
    table = cases(side=["l", "r", "l"], KL=["10: worst", "2", "0"], age=["60", None, "7e1"])
    side, grade, age = learn_targets(table, ["side", "KL", "age"], {"KL": "ordinal", "age": "continuous"}, None, TABLE)
    assert side == ClassIndex("side", ("l", "r"), (2, 1), "r")
    assert grade == ClassIndex("KL", ("0", "2", "10: worst"), (1, 1, 1), None, ordinal=True)  # by number, not by text
    assert age == NumberScale("age", 65.0, 5.0, 2)
    assert [age.label(case) for case in table][::2] == [60.0, 70.0]
    assert np.isnan(age.label(table[1]))
    assert [target_from_dict(one.as_dict()) for one in (side, grade, age)] == [side, grade, age]
    old = {"target": "side", "classes": ["l", "r"], "counts": [2, 1], "positive": "r"}  # before there were types
    assert target_from_dict(old) == side


def test_values_that_do_not_fit_are_listed_with_their_rows() -> None:
    table = cases(KL=["mild", "2", "mild"], age=["60", "sixty", "inf"], free=["a", "b", "c"])
    with pytest.raises(DataError) as caught:
        check_types(
            {"the training folds": table[:2], "the test folds": table[2:]},
            ["KL", "age", "free"],
            {"KL": "ordinal", "age": "continuous"},
            TABLE,
        )
    remedy = "Correct or empty the cell, or change the type."
    grade = "but target_types says ordinal, so it must be a number or a text that begins with one, such as '2: Moderate'."
    number = "but target_types says continuous, so it must be a number."
    assert list(caught.value.problems) == [
        f"knees.csv:2: KL is 'mild' in rows 2 and 4, {grade} {remedy}",
        f"knees.csv:3: age is 'sixty' in row 3, {number} {remedy}",
        f"knees.csv:4: age is 'inf' in row 4, {number} {remedy}",
    ]
    check_types({"": cases(KL=["2", None], age=["-1.5", None])}, ["KL", "age"], {"KL": "ordinal", "age": "continuous"}, TABLE)


def test_numbers_that_teach_nothing_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        learn_targets(cases(a=["1", "1.0"], b=[None, None]), ["a", "b"], {"a": "continuous", "b": "continuous"}, None, TABLE)
    assert list(caught.value.problems) == [
        "knees.csv: a: the training folds hold only 1; a continuous target needs two that differ.",
        "knees.csv: b: the training folds hold no value at all; a continuous target needs two that differ.",
    ]


def test_a_new_grade_is_refused_and_a_new_number_is_not() -> None:
    types = {"KL": "ordinal", "age": "continuous"}
    learned = learn_targets(cases(KL=["0", "1"], age=["1", "2"]), ["KL", "age"], types, None, TABLE)
    with pytest.raises(DataError, match=r"knees.csv:2: KL is '4' in 1 row\(s\) of the test folds"):
        check_targets({"the test folds": cases(KL=["4"], age=["99"])}, learned, TABLE)


@pytest.mark.parametrize(
    ("text", "grade"), [("3", 3), ("2: Moderate", 2), ("0.5", 0.5), ("-1", -1), ("2a", None), ("x2", None), ("", None)]
)
def test_the_grade_of_a_text(text: str, grade: float | None) -> None:
    assert grade_of(text) == grade
