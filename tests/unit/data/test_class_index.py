"""Classes of a column: learnt from the training cases, refused elsewhere when they are new."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.class_index import MISSING, ClassIndex, check_classes, check_validation, learn_classes
from fuse_examples.imaging.oai_example.errors import DataError

TABLE = Path("knees.csv")


def cases(**columns: list[str | None]) -> list[Case]:
    rows: list[Mapping[str, str | None]] = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [Case(row + 2, f"c{row}", f"p{row}", Path("x"), None, "0", targets) for row, targets in enumerate(rows)]


def test_classes_are_sorted_and_counted_and_empty_cells_are_not_a_class() -> None:
    (index,) = learn_classes(cases(grade=["b", None, "a", "b", "c"]), ["grade"], None, TABLE)
    assert index == ClassIndex("grade", ("a", "b", "c"), (1, 2, 1), None)
    assert [index.label(case) for case in cases(grade=["c", None, "a"])] == [2, MISSING, 0]


@pytest.mark.parametrize(
    ("values", "chosen", "positive"),
    [
        (["yes", "no", "no"], None, "yes"),
        (["yes", "yes", "no"], None, "no"),
        (["yes", "no"], None, "yes"),  # equally many: the second of the sorted
        (["yes", "no", "no"], {"grade": "no"}, "no"),
        (["yes", "no", "no"], {"other": "no"}, "yes"),
        (["a", "b", "c"], None, None),
    ],
)
def test_the_positive_class_is_the_rarer_unless_it_is_chosen(
    values: list[str | None], chosen: dict[str, str] | None, positive: str | None
) -> None:
    (index,) = learn_classes(cases(grade=values), ["grade"], chosen, TABLE)
    assert index.positive == positive


def test_each_target_that_cannot_be_learnt_is_told() -> None:
    table = cases(empty=[None, None], single=["a", "a"], good=["a", "b"], chosen=["a", "b"])
    with pytest.raises(DataError) as caught:
        learn_classes(table, ["empty", "single", "good", "chosen"], {"chosen": "z"}, TABLE)
    assert str(caught.value).splitlines() == [
        "knees.csv: empty: the training folds hold no value at all, and a classifier needs two classes. Choose other train_folds.",
        "knees.csv: single: the training folds hold only 'a', and a classifier needs two classes. Choose other train_folds.",
        "positive_class: chosen has no class 'z' in the training folds; its classes are 'a', 'b'.",
    ]


def test_a_class_that_training_did_not_see_is_listed_with_its_rows_and_the_nearest_name() -> None:
    indices = learn_classes(cases(grade=["mild", "severe"], side=["l", "r"]), ["grade", "side"], None, TABLE)
    new = cases(grade=["mild", "sever", None, "none", "none"], side=["l", "l", "r", None, "x"])
    with pytest.raises(DataError) as caught:
        check_classes({"the test folds": new}, indices, TABLE)
    assert str(caught.value).splitlines() == [
        "knees.csv:3: grade is 'sever' in 1 row(s) of the test folds, but the training folds hold only 'mild', 'severe'. "
        "Did you mean 'severe'? Correct or empty the cell, or move the rows.",
        "knees.csv:5: grade is 'none' in 2 row(s) of the test folds, but the training folds hold only 'mild', 'severe'. "
        "Correct or empty the cell, or move the rows.",
        "knees.csv:6: side is 'x' in 1 row(s) of the test folds, but the training folds hold only 'l', 'r'. "
        "Correct or empty the cell, or move the rows.",
    ]
    check_classes({"the test folds": cases(grade=["mild", None], side=[None, "r"])}, indices, TABLE)


def test_classes_that_are_new_in_several_splits_are_told_together() -> None:
    indices = learn_classes(cases(grade=["mild", "severe"]), ["grade"], None, TABLE)
    with pytest.raises(DataError) as caught:
        check_classes({"the validation folds": cases(grade=["some"]), "the test folds": cases(grade=["mild", "other"])}, indices, TABLE)
    assert [line.split(", but")[0] for line in str(caught.value).splitlines()] == [
        "knees.csv:2: grade is 'some' in 1 row(s) of the validation folds",
        "knees.csv:3: grade is 'other' in 1 row(s) of the test folds",
    ]


def test_validation_folds_that_cannot_score_an_epoch_are_refused() -> None:
    indices = learn_classes(cases(grade=["mild", "severe"], side=["l", "r"]), ["grade", "side"], None, TABLE)
    with pytest.raises(DataError) as caught:
        check_validation(cases(grade=["mild", "mild"], side=[None, None]), indices, TABLE)
    assert str(caught.value) == (
        "knees.csv: the validation folds hold one class at most (grade: 'mild'; side: no value at all), and the best epoch is chosen by an "
        "AUC, which needs two. Choose other val_folds."
    )
    check_validation(cases(grade=["mild", "mild"], side=["l", "r"]), indices, TABLE)


def test_it_travels_as_plain_values() -> None:
    index = ClassIndex("grade", ("a", "b"), (3, 4), "a")
    assert index.as_dict() == {
        "target": "grade",
        "type": "categorical",
        "classes": ["a", "b"],
        "counts": [3, 4],
        "positive": "a",
    }
    assert ClassIndex.from_dict(index.as_dict()) == index
