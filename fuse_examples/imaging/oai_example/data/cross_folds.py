"""Folds of a cross-validation: dealt out by patient and by target, or those of the table; and the table of cases that has them."""

import csv
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.errors import DataError

N_STRATA = 5
"""Groups of equal size that a continuous target is cut into for dealing."""


def deal_folds(cases: Sequence[Case], n_folds: int, seed: int, target: str | None, *, continuous: bool = False) -> dict[str, str]:
    """Deal patients out to `n_folds` folds, each with about the same share of every class.

    Args:
        cases: those to deal out.
        n_folds: how many folds.
        seed: of the shuffle.
        target: column whose classes are spread evenly; None where there is none. Empty cells are a class of their own.
        continuous: whether it holds numbers, which are then cut into groups of equal size.

    Returns:
        Case's name -> fold, "1" to str(n_folds).

    Raises:
        DataError: fewer patients than folds.
    """
    patients = [case.patient for case in cases]
    if len(set(patients)) < n_folds:
        raise DataError(f"cross_validation: {n_folds} folds need as many patients, and the chosen folds have {len(set(patients))}.")
    if target is None:
        splits = GroupKFold(n_folds, shuffle=True, random_state=seed).split(cases, groups=patients)
    else:
        strata = _strata([case.targets[target] for case in cases], continuous)
        splits = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(cases, strata, patients)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # what training lacks of it is an error of the fold's own run
        return {cases[int(index)].name: str(fold) for fold, (_, members) in enumerate(splits, start=1) for index in members}


def table_text(cases: Sequence[Case], folds: Mapping[str, str], channels: Sequence[str] = ()) -> str:
    """Return a table of `cases` with `folds` (case's name -> fold), their targets and extra columns, and absolute paths.

    `channels` are the columns of images that the cases were read with; none for the one of the stage.
    """
    masks = any(case.mask is not None for case in cases)
    images = list(channels) or ["img_path" if masks else "path"]
    columns = list(dict.fromkeys([*cases[0].targets, *cases[0].extra]))
    columns = [name for name in columns if name not in ("PatientID", "fold", *images)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["PatientID", *images, *(["seg_path"] if masks else []), "fold", *columns])
    for case in cases:
        paths: list[Path] = [*case.images, *([case.mask] if case.mask is not None else [])]
        values = {**case.targets, **case.extra}
        writer.writerow([case.patient, *(path.resolve() for path in paths), folds[case.name], *(values[name] or "" for name in columns)])
    return text.getvalue()


def _strata(values: Sequence[str | None], continuous: bool) -> list[str]:
    if not continuous:
        return ["" if value is None else f"={value}" for value in values]
    numbers = np.array([float(value) for value in values if value is not None])
    edges = np.quantile(numbers, np.linspace(0, 1, N_STRATA + 1)[1:-1])
    return ["" if value is None else str(int(np.searchsorted(edges, float(value)))) for value in values]
