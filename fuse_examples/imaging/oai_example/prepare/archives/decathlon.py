"""A Medical Segmentation Decathlon task: `dataset.json` lists the cases; several channels are one 4D file, which is cut into 3D files."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from tqdm import tqdm

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.prepare.archives.case_list import ListedCase
from fuse_examples.imaging.oai_example.prepare.archives.dataset_json import Description
from fuse_examples.imaging.oai_example.training.safe_files import written_beside


def task_folder(folder: Path) -> Path:
    """Return the folder with `dataset.json`: `folder` itself or the one subfolder that has it."""
    if (folder / "dataset.json").is_file():
        return folder
    found = sorted(path.parent for path in folder.glob("*/dataset.json"))
    if len(found) > 1:
        raise DataError(f"{folder}: holds {len(found)} tasks ({', '.join(path.name for path in found)}). Name the folder of one.")
    return found[0] if found else folder


def listed_cases(folder: Path, description: Description) -> list[ListedCase]:
    """Return the cases that `dataset.json` lists, training cases with masks and test cases without."""
    content = description.content
    problems, cases = [], []
    for place, entry in enumerate(content.get("training") or []):
        if not isinstance(entry, dict) or not {"image", "label"} <= set(entry):
            problems.append(f"{folder / 'dataset.json'}: training entry {place + 1} has no image and label.")
            continue
        cases.append(_case(folder, entry["image"], entry["label"]))
    cases += [_case(folder, entry, None) for entry in content.get("test") or [] if isinstance(entry, str)]
    if not cases and not problems:
        problems.append(f"{folder / 'dataset.json'}: lists no training cases.")
    if problems:
        raise DataError(problems)
    return cases


def _case(folder: Path, image: str, label: str | None) -> ListedCase:
    inside = [folder / path for path in (image, label) if path]
    if not all(path.resolve().is_relative_to(folder.resolve()) for path in inside):
        raise DataError(f"{folder / 'dataset.json'}: {image} leads out of the data set's folder.")
    name = Path(image).name.removesuffix(".gz").removesuffix(".nii")
    return ListedCase(name, (inside[0],), inside[1] if label else None)


def with_channels_apart(cases: Sequence[ListedCase], count: int, folder: Path) -> list[ListedCase]:
    """Cut each 4D image of `count` channels into 3D files in `folder`, unless they are there; return the cases with these files."""
    if count == 1:
        return list(cases)
    return [
        ListedCase(case.name, _channel_files(case, count, folder), case.mask, case.fold)
        for case in tqdm(cases, desc="Cutting channels apart", unit="case", disable=None, leave=False)
    ]


def _channel_files(case: ListedCase, count: int, folder: Path) -> tuple[Path, ...]:
    paths = tuple(folder / f"{case.name}_{channel:04d}.nii.gz" for channel in range(count))
    source = case.images[0]
    if all(path.is_file() and path.stat().st_mtime >= source.stat().st_mtime for path in paths):
        return paths
    image: Any = nib.load(source)
    if image.ndim != 4 or image.shape[3] != count:
        raise DataError(f"{source}: has shape {image.shape}; dataset.json names {count} channels, which are the fourth axis.")
    for channel, path in enumerate(paths):
        part = nib.Nifti1Image(np.asanyarray(image.dataobj[..., channel]), image.affine, image.header)
        with written_beside(path) as file:
            file.write(_compressed(part))
    return paths


def _compressed(image: nib.Nifti1Image) -> bytes:

    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)
