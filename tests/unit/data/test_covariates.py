"""Covariates: learnt from the training cases, missing cells allowed, what does not fit refused by rows."""

from pathlib import Path

import numpy as np
import pytest

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.covariates import Covariates, check_covariates, learn_covariates
from fuse_examples.imaging.oai_example.errors import DataError

TABLE = Path("knees.csv")
TYPES = {"age": "numeric", "sex": "categorical"}


def cases(**columns: list[str | None]) -> list[Case]:
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [Case(row + 2, f"c{row}", f"p{row}", Path("x"), None, "0", {}, extra) for row, extra in enumerate(rows)]


def test_numbers_are_standardised_and_levels_have_a_number_each() -> None:
    table = cases(age=["50", "70", None], sex=["M", "F", None])
    learned = learn_covariates(table, TYPES, TABLE)
    assert learned.length == 4
    assert [learned.encode(case).tolist() for case in table] == [[-1, 0, 0, 1], [1, 0, 1, 0], [0, 1, 0, 0]]
    assert learned.encode(table[0]).dtype == np.float32
    assert Covariates.from_list(learned.as_list()) == learned
    assert Covariates().length == 0


def test_what_does_not_fit_is_listed_with_its_rows() -> None:
    learned = learn_covariates(cases(age=["50", "70"], sex=["M", "F"]), TYPES, TABLE)
    with pytest.raises(DataError) as caught:
        check_covariates({"the test folds": cases(age=["1", None], sex=["X", "X"])}, learned, TABLE)
    assert list(caught.value.problems) == [
        "knees.csv:2: the covariate sex is 'X' in rows 2 and 3 of the test folds, but the training folds hold only 'F', 'M'. "
        "Correct or empty the cell."
    ]
    with pytest.raises(DataError) as caught:
        learn_covariates(cases(age=["old", "nan"], sex=["M", "F"]), TYPES, TABLE)
    remedy = "but covariates says numeric, so it must be a number. Correct or empty the cell, or make it categorical."
    assert list(caught.value.problems) == [
        f"knees.csv:2: the covariate age is 'old' in row 2, {remedy}",
        f"knees.csv:3: the covariate age is 'nan' in row 3, {remedy}",
    ]
    with pytest.raises(DataError, match="the covariate age is empty in all training cases"):
        learn_covariates(cases(age=[None, None], sex=["M", "F"]), TYPES, TABLE)


def test_a_number_that_is_always_the_same_is_no_division_by_zero() -> None:
    learned = learn_covariates(cases(age=["50", "50"]), {"age": "numeric"}, TABLE)
    assert learned.encode(cases(age=["51"])[0]).tolist() == [1, 0]
