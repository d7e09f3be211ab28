"""Folds that are dealt out: patients together, classes evenly, the same for the same seed; and the table that holds them."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.data.cases import Case, read_cases
from fuse_examples.imaging.oai_example.data.cross_folds import deal_folds, table_text
from fuse_examples.imaging.oai_example.errors import DataError


def cases(n: int, per_patient: int = 2, rare: int = 5) -> list[Case]:
    return [
        Case(index + 2, f"c{index}", f"p{index // per_patient}", Path(f"scans/{index}.nii"), None, "0", targets, {"site": "A, B"})
        for index in range(n)
        for targets in [{"ill": "yes" if index // per_patient % rare == 0 else "no", "age": None if index == 1 else str(index)}]
    ]


@settings(deadline=None, max_examples=30)
@given(n=st.integers(30, 90), per_patient=st.integers(1, 3), n_folds=st.integers(3, 5), seed=st.integers(0, 99))
def test_patients_stay_together_and_every_case_is_in_one_fold(n: int, per_patient: int, n_folds: int, seed: int) -> None:
    made = cases(n, per_patient)
    for target, continuous in (("ill", False), ("age", True), (None, False)):
        folds = deal_folds(made, n_folds, seed, target, continuous=continuous)
        assert folds == deal_folds(made, n_folds, seed, target, continuous=continuous)
        assert set(folds) == {case.name for case in made}
        assert set(folds.values()) == {str(fold) for fold in range(1, n_folds + 1)}
        assert all(len({folds[case.name] for case in made if case.patient == patient}) == 1 for patient in {case.patient for case in made})


def test_a_rare_class_is_spread_evenly() -> None:
    made = cases(200, 2, rare=10)
    folds = deal_folds(made, 5, 0, "ill")
    found = Counter(folds[case.name] for case in made if case.targets["ill"] == "yes")
    assert sorted(found.values()) == [4, 4, 4, 4, 4]
    assert deal_folds(made, 5, 1, "ill") != folds


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(DataError, match="cross_validation: 5 folds need as many patients, and the chosen folds have 2"):
        deal_folds(cases(4), 5, 0, "ill")


def test_the_table_is_read_back_with_its_folds(tmp_path: Path) -> None:
    made = cases(4)
    (tmp_path / "cases.csv").write_text(table_text(made, {case.name: str(place) for place, case in enumerate(made)}))
    back = read_cases(tmp_path / "cases.csv", masks=False, targets=["ill", "age"], extra=["site"])
    assert [(case.patient, case.fold, case.targets, case.extra) for case in back] == [
        (case.patient, str(place), case.targets, case.extra) for place, case in enumerate(made)
    ]
    assert [case.image for case in back] == [case.image.resolve() for case in made]
