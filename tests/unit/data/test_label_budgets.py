"""Subsets of patients: nested, of whole patients, with the classes in their proportions."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.label_budgets import (
    budget_label,
    n_patients_of,
    patient_order,
    strata_of_patients,
)


@settings(deadline=None, max_examples=80)
@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4), seed=st.integers(0, 5))
def test_every_beginning_has_the_classes_in_their_proportions(sizes: list[int], seed: int) -> None:
    strata = {f"{name}{number:02d}": name for name, size in zip("abcd", sizes, strict=False) for number in range(size)}
    order = patient_order(strata, seed, 0)
    assert sorted(order) == sorted(strata)
    assert len({strata[patient] for patient in order[: len(sizes)]}) == len(sizes)  # one of each first
    for n in range(1, len(order) + 1):
        found = Counter(strata[patient] for patient in order[:n])
        for name, size in zip("abcd", sizes, strict=False):
            # Within one of its share, but for the one that every class has from the beginning.
            assert found[name] - 1 <= max(1, n * size / len(order)) <= found[name] + len(sizes)


def test_the_order_depends_on_seed_and_stream_and_not_on_the_order_of_the_table() -> None:
    strata = {f"p{number}": "ab"[number % 2] for number in range(20)}
    backwards = dict(reversed(strata.items()))
    assert patient_order(strata, 1, 0) == patient_order(backwards, 1, 0)
    orders = {patient_order(strata, seed, stream) for seed in (0, 1) for stream in (0, 1)}
    assert len(orders) == 4


def case(patient: str, value: str | None) -> Case:
    return Case(2, patient, patient, Path(patient), None, "0", {"kind": value})


def test_a_patient_counts_as_the_rarest_of_its_classes_and_not_without_one() -> None:
    cases = [case("both", "common"), case("both", "rare"), case("one", "common"), case("two", "common"), case("none", None)]
    assert strata_of_patients(cases, "kind") == {"both": "rare", "one": "common", "two": "common"}
    assert strata_of_patients(cases, None) == dict.fromkeys(("both", "one", "two", "none"), "")


def test_numbers_are_cut_into_groups_of_equal_size() -> None:
    strata = strata_of_patients([case(f"p{number}", str(number / 3)) for number in range(50)], "kind", continuous=True)
    assert Counter(strata.values()) == dict.fromkeys("01234", 10)
    assert strata["p0"] == "0"
    assert strata["p49"] == "4"


@pytest.mark.parametrize(
    ("budget", "label", "number"), [(4, "n4", 4), (0.05, "5pct", 41), (0.125, "12.5pct", 103), (0.0001, "0.01pct", 1), ("all", "all", 824)]
)
def test_budgets_are_numbers_of_patients(budget: int | float | str, label: str, number: int) -> None:
    assert (budget_label(budget), n_patients_of(budget, 824)) == (label, number)
