"""An nnU-Net raw data set: `imagesTr/<case>_<channel>.nii.gz`, `labelsTr/<case>.nii.gz`, perhaps `imagesTs` and `labelsTs`."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fuse_examples.imaging.oai_example.data.problem_lists import shortened
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.prepare.archives.case_list import ListedCase
from fuse_examples.imaging.oai_example.prepare.archives.dataset_json import Description

ENDINGS = (".nii.gz", ".nii")
TEST = "test"


def listed_cases(folder: Path, description: Description) -> list[ListedCase]:
    """Return the cases of imagesTr, and of imagesTs in fold "test" where labelsTs has their masks, else unlabelled.

    Raises:
        DataError: files of another format, images without their mask or mask without image, missing channels.
    """
    if description.ending not in ENDINGS:
        raise DataError(f"{folder / 'dataset.json'}: file_ending is {description.ending}; only NIfTI can be read ({', '.join(ENDINGS)}).")
    training = _cases(folder, "Tr", description)
    if not training:
        raise DataError(f"{folder / 'imagesTr'}: holds no file named <case>_0000{description.ending}.")
    problems = [f"{folder / 'labelsTr' / (case.name + description.ending)}: does not exist." for case in training if case.mask is None]
    problems += _orphans(folder, training, description)
    if problems:
        raise DataError([*shortened(problems), "Every case of imagesTr needs its mask in labelsTr, and the other way round."])
    return [*training, *(replace(case, fold=TEST) if case.mask else case for case in _cases(folder, "Ts", description))]


def with_published_folds(cases: Sequence[ListedCase], path: Path) -> list[ListedCase]:
    """Give each training case the number of the split in `splits_final.json` that validates on it."""
    try:
        splits = json.loads(path.read_text())
        folds = {name: str(number) for number, split in enumerate(splits) for name in split["val"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as nnU-Net's splits, a list of train and val lists ({error}).") from error
    absent = [case.name for case in cases if case.mask and case.fold is None and case.name not in folds]
    if absent:
        shown = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        raise DataError(f"{path}: {len(absent)} cases are validated in no split: {shown}.")
    return [replace(case, fold=folds[case.name]) if case.mask and case.fold is None else case for case in cases]


def _cases(folder: Path, part: str, description: Description) -> list[ListedCase]:
    """Group the files of images`part` by case; every case must have every channel."""
    found: dict[str, dict[int, Path]] = {}
    pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(description.ending)}")
    images = folder / f"images{part}"
    for path in sorted(images.iterdir()) if images.is_dir() else []:
        match = pattern.fullmatch(path.name)
        if match and not path.name.startswith("."):
            found.setdefault(match[1], {})[int(match[2])] = path
    wanted = range(len(description.channels))
    incomplete = [
        f"{images}: case {name} has the channels {sorted(channels)}." for name, channels in found.items() if set(channels) != set(wanted)
    ]
    if incomplete:
        raise DataError([*shortened(incomplete), f"dataset.json names {len(wanted)} channels, {', '.join(description.channels)}."])
    cases = []
    for name, channels in found.items():
        mask = folder / f"labels{part}" / f"{name}{description.ending}"
        cases.append(ListedCase(name, tuple(channels[number] for number in wanted), mask if mask.is_file() else None))
    return cases


def _orphans(folder: Path, cases: Sequence[ListedCase], description: Description) -> list[str]:
    names = {f"{case.name}{description.ending}" for case in cases}
    labels = sorted((folder / "labelsTr").glob(f"*{description.ending}")) if (folder / "labelsTr").is_dir() else []
    return [f"{path}: has no image in imagesTr." for path in labels if path.name not in names and not path.name.startswith(".")]
