"""Cases by fold: training, validation and test, with no patient in two of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from fuse_examples.imaging.oai_example.configuration.fold_names import fold_name
from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.problem_lists import rows_in_words, shortened
from fuse_examples.imaging.oai_example.errors import DataError


@dataclass(frozen=True)
class Splits:
    """The cases of a run; a split that the run does not use is empty."""

    train: tuple[Case, ...]
    val: tuple[Case, ...]
    test: tuple[Case, ...]


def split_cases(
    cases: Sequence[Case],
    train_folds: Sequence[object],
    val_folds: Sequence[object],
    test_folds: Sequence[object],
    *,
    used: Sequence[str] = ("train_folds", "val_folds", "test_folds"),
    allow_patient_overlap: bool = False,
    or_else: str = ", or set allow_patient_overlap: true",
    csv_path: Path,
) -> Splits:
    """Sort `cases` into the splits.

    Args:
        cases: all rows of the table.
        train_folds, val_folds, test_folds: values of the column `fold`.
        used: the lists that the run uses. The others may name folds that the table lacks, but a patient must not stand in them as well.
        allow_patient_overlap: whether a patient, or a fold, may stand in more than one split.
        or_else: for messages, what else may be done about a patient in two splits.
        csv_path: for messages.

    Raises:
        DataError: a fold that no row has; a fold that two lists name, or a patient in more than one split, unless `allow_patient_overlap`.
    """
    folds = {
        key: tuple(dict.fromkeys(fold_name(fold) for fold in names))
        for key, names in (("train_folds", train_folds), ("val_folds", val_folds), ("test_folds", test_folds))
    }
    used_folds = {key: names for key, names in folds.items() if key in used}
    _check_folds(used_folds, Counter(case.fold for case in cases), allow_patient_overlap, csv_path)
    members = {key: [case for case in cases if case.fold in names] for key, names in folds.items()}
    if not allow_patient_overlap:
        _check_patients(members, or_else, csv_path)
    return Splits(*(tuple(members[key]) for key in ("train_folds", "val_folds", "test_folds")))


def _check_folds(folds: dict[str, tuple[str, ...]], counts: Counter[str], allow_overlap: bool, csv_path: Path) -> None:
    found = ", ".join(f"{fold} ({count} row{'s' * (count != 1)})" for fold, count in sorted(counts.items())[:30])
    problems = [
        f"{key}: {csv_path} has no rows of fold {fold}; its folds are {found}."
        for key, names in folds.items()
        for fold in names
        if fold not in counts
    ]
    problems += [
        f"{one} and {other} both name fold {fold}. A fold belongs to one split."
        for one, other in combinations(folds, 2)
        for fold in folds[one]
        if fold in folds[other] and not allow_overlap
    ]
    if problems:
        raise DataError(problems)


def _check_patients(members: dict[str, list[Case]], or_else: str, csv_path: Path) -> None:
    patients = [{case.patient for case in cases} for cases in members.values()]
    leaking = set().union(*(one & other for one, other in combinations(patients, 2)))
    rows: dict[str, dict[str, list[int]]] = {}
    for key, cases in members.items():
        for case in cases:
            if case.patient in leaking:
                rows.setdefault(case.patient, {}).setdefault(key.removesuffix("_folds"), []).append(case.row)
    problems = [
        f"{csv_path}: patient {patient} is in "
        + " and in ".join(f"{split} ({rows_in_words(numbers, shown=5)})" for split, numbers in splits.items())
        for patient, splits in rows.items()
    ]
    if problems:
        remedy = (
            f"{len(problems)} patient{'s' * (len(problems) != 1)} in more than one split: scores would be too good. "
            f"Put all rows of a patient into one fold{or_else}."
        )
        raise DataError([*shortened(problems), remedy])
