import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.configuration.fold_names import fold_name

NUMBERS = st.integers() | st.floats(allow_nan=False) | st.booleans()


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ([0, "0", 0.0, -0.0, "0.0", " 0 ", "00", "0.", "-0", np.int64(0), np.float32(0), np.uint8(0)], "0"),
        ([12, "12", 12.0, "12.0", "012", "+12", "1.2e1", np.int16(12)], "12"),
        ([-3, "-3", "-3.0", "-03"], "-3"),
        ([0.5, "0.5", ".5", "0.50", "5e-1", np.float64(0.5)], "0.5"),
        ([True, "true", "True", "TRUE", np.bool_(True)], "true"),
        ([False, "False"], "false"),
        (["a", " a", np.str_("a")], "a"),
        (["site A", "site A "], "site A"),
        ([10**20, "1" + "0" * 20, 1e20], "1" + "0" * 20),
        (["9" * 5000], "9" * 5000),
        (["1e999"], "1e999"),
        (["1-2"], "1-2"),
        (["NO"], "NO"),
    ],
)
def test_one_name_for_each_spelling(values: list[object], name: str) -> None:
    assert [fold_name(value) for value in values] == [name] * len(values)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "nothing"),
        ("", "nothing"),
        ("  ", "nothing"),
        (float("nan"), "nan"),
        (np.float64("nan"), "nan"),
        ("NaN", "'NaN'"),
        ([0], r"\[0\]"),
    ],
)
def test_what_is_no_fold_is_refused(value: object, found: str) -> None:
    with pytest.raises(ValueError, match=f"^a fold must be text or a number, found {found}$"):
        fold_name(value)


@given(NUMBERS)
def test_a_number_and_its_text_are_the_same_fold(value: float) -> None:
    assert fold_name(value) == fold_name(str(value)) == fold_name(repr(value))


@given(st.integers(min_value=-(2**53), max_value=2**53))
def test_a_column_turned_to_floats_keeps_its_folds(value: int) -> None:
    assert fold_name(float(value)) == fold_name(value) == str(value)


@given(st.text().filter(lambda text: text.strip().lower() not in {"", "nan"}) | NUMBERS)
def test_a_name_is_its_own_name(value: object) -> None:
    assert fold_name(fold_name(value)) == fold_name(value)


@given(st.lists(st.integers(), min_size=2, max_size=2, unique=True))
def test_different_numbers_are_different_folds(pair: list[int]) -> None:
    assert fold_name(pair[0]) != fold_name(pair[1])
