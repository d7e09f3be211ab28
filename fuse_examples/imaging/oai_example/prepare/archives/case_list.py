"""The cases of a data set, and their CSV files."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuse_examples.imaging.oai_example.data.problem_lists import shortened
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.prepare.archives.dataset_json import Description
from fuse_examples.imaging.oai_example.prepare.command_line import text_table
from fuse_examples.imaging.oai_example.prepare.folds.assignment import assign_folds, equal_shares
from fuse_examples.imaging.oai_example.prepare.patient_names import patient_pattern
from fuse_examples.imaging.oai_example.prepare.tables.text_table import refuse_existing, relative_path, write_rows

UNLABELLED = "unlabelled"
Row = dict[str, object]


@dataclass(frozen=True)
class ListedCase:
    """One case: a file per channel, its mask if it has one, and its fold where the data set itself says so."""

    name: str
    images: tuple[Path, ...]
    mask: Path | None
    fold: str | None = None


@dataclass(frozen=True)
class FoldChoice:
    """How cases become folds.

    Attributes:
        count: number of folds.
        seed: draws them.
        patient: expression whose first group is the patient in a case's name; None where every case is a patient.
    """

    count: int
    seed: int
    patient: str | None = None


def write_case_tables(folder: Path, cases: Sequence[ListedCase], description: Description, choice: FoldChoice, *, overwrite: bool) -> str:
    """Write segmentation.csv (cases with masks) and self_supervised.csv (all images) to `folder`; return a summary.

    A case without a mask is in fold "unlabelled". Cases of one patient are in one fold.

    Raises:
        DataError: missing files, a patient expression that does not fit, files that may not be replaced.
    """
    outputs = [folder / "segmentation.csv", folder / "self_supervised.csv"]
    refuse_existing(outputs, overwrite)
    _check_files(cases)
    patients = _patients(cases, choice.patient)
    folds = _folds(cases, patients, choice)
    columns = _channel_columns(description.channels)
    masked: list[Row] = []
    images: list[Row] = []
    for case, patient, fold in zip(cases, patients, folds, strict=True):
        paths = [relative_path(image, folder) for image in case.images]
        further = dict(zip(columns[1:], paths[1:], strict=True))
        images.append({"PatientID": patient, "path": paths[0], "fold": fold, **further})
        if case.mask is not None:
            pair = {"PatientID": patient, "img_path": paths[0], "seg_path": relative_path(case.mask, folder), "fold": fold}
            masked.append({**pair, **further})
    if not masked:
        raise DataError("No case has a mask, so there is nothing to segment. Is labelsTr empty?")
    for path, rows in zip(outputs, (masked, images), strict=True):
        write_rows(path, rows)
    return _summary(outputs[0], masked, images, description)


def _check_files(cases: Sequence[ListedCase]) -> None:
    missing = [
        f"case {case.name}: {path} does not exist." for case in cases for path in (*case.images, case.mask) if path and not path.is_file()
    ]
    if missing:
        raise DataError([*shortened(missing), "The data set is incomplete. Unpack or download it again."])


def _patients(cases: Sequence[ListedCase], pattern: str | None) -> list[str]:
    if pattern is None:
        return [case.name for case in cases]
    compiled = patient_pattern(pattern)
    found = [compiled.search(case.name) for case in cases]
    unmatched = [case.name for case, match in zip(cases, found, strict=True) if not (match and match[1])]
    if unmatched:
        shown = ", ".join(unmatched[:5]) + (", ..." if len(unmatched) > 5 else "")
        raise DataError(f"--patient {pattern}: finds no patient in {len(unmatched)} of {len(cases)} names ({shown}).")
    return [match[1] for match in found if match]


def _folds(cases: Sequence[ListedCase], patients: Sequence[str], choice: FoldChoice) -> list[str]:
    """Draw folds where the data set has none; a patient with and without mask is in a drawn fold with all cases."""
    drawn = {patient for case, patient in zip(cases, patients, strict=True) if case.mask is not None and case.fold is None}
    fixed = {(patient, case.fold) for case, patient in zip(cases, patients, strict=True) if case.fold is not None}
    torn = [patient for patient, count in Counter(patient for patient, _ in [*fixed, *((name, "") for name in drawn)]).items() if count > 1]
    if torn:
        raise DataError(
            f"{len(torn)} patient{'s' * (len(torn) != 1)} would stand in more than one of the folds that the data set prescribes, "
            f"for example {min(torn)}. Correct --patient or the folders."
        )
    members = sorted(drawn)
    names = dict(zip(members, assign_folds(members, equal_shares(choice.count), seed=choice.seed), strict=True)) if members else {}
    return [case.fold or names.get(patient, UNLABELLED) for case, patient in zip(cases, patients, strict=True)]


def _channel_columns(channels: Sequence[str]) -> list[str]:
    """Return a column name per channel; the first channel's own column is path or img_path."""
    names = [re.sub(r"\W+", "_", channel).strip("_") or f"channel_{place}" for place, channel in enumerate(channels)]
    return [name if names.count(name) == 1 else f"{name}_{place}" for place, name in enumerate(names)]


def _summary(path: Path, masked: Sequence[Row], images: Sequence[Row], description: Description) -> str:
    folds = sorted({str(row["fold"]) for row in images})
    rows = [[fold, sum(row["fold"] == fold for row in images), sum(row["fold"] == fold for row in masked)] for fold in folds]
    words = [f"csv_path={path}", f"num_classes={len(description.structures) + 1}"]
    words.append(f'structure_names="[{", ".join(re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_") for name in description.structures)}]"')
    further = _channel_columns(description.channels)[1:]
    channels = ["img_path", *further] if further else []
    note = f"\nFurther channels are in the columns {', '.join(further)}." if further else ""
    if channels:
        words.append(f'channels="[{", ".join(channels)}]"')
    return (
        f"{text_table(['fold', 'images', 'with masks'], rows)}\n\nWrote {path} and {path.with_name('self_supervised.csv')}.{note} Next:\n"
        f"  python -m fuse_examples.imaging.oai_example.prepare.check {path}{' '.join(['', '--channels', *channels]) if channels else ''}\n"
        f"  python fuse_examples/imaging/oai_example/downstream/segmentation.py --check {' '.join(words)}"
    )
