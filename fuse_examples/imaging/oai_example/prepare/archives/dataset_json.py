"""`dataset.json` in its forms: the Decathlon's and nnU-Net 1's ("0": "background"), and nnU-Net 2's ("background": 0)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.errors import DataError


@dataclass(frozen=True)
class Description:
    """What `dataset.json` says.

    Attributes:
        structures: names of labels 1, 2, ...
        channels: names of the images of a case, in order.
        ending: of the image files.
        content: the file itself.
    """

    structures: tuple[str, ...]
    channels: tuple[str, ...]
    ending: str
    content: dict[str, Any]


def read_description(folder: Path) -> Description:
    """Read `folder`/dataset.json; raise `DataError` where it is missing, broken, or names labels that a mask of numbers cannot have."""
    path = folder / "dataset.json"
    if not path.is_file():
        raise DataError(f"{folder}: holds no dataset.json. Name the folder of the data set, which also holds imagesTr and labelsTr.")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(content, dict):
            raise ValueError(f"it is a {type(content).__name__}, not an object of names and values")
        channels = content.get("channel_names") or content.get("modality") or {"0": "image"}
        names = tuple(str(channels[key]) for key in sorted(channels, key=int))
        return Description(_structures(content["labels"], path), names, str(content.get("file_ending", ".nii.gz")), content)
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as the description of a data set ({error}).") from error
    except KeyError as error:
        raise DataError(f"{path}: has no {error}.") from error


def _structures(labels: dict[str, Any], path: Path) -> tuple[str, ...]:
    named: dict[int, str] = {}
    problems = []
    for key, value in labels.items():
        name, number = (value, key) if str(key).strip().isdigit() else (key, value)
        if isinstance(number, list | tuple):
            problems.append(f"{path}: label {name!r} is a region of several numbers, {number}. A mask needs one number per structure.")
        elif str(name).lower() == "ignore":
            problems.append(f"{path}: label {number} means 'ignore', which training does not know. Leave out the cases that have it.")
        else:
            named[int(number)] = str(name)
    missing = [str(number) for number in range(max(named, default=0) + 1) if number not in named]
    if missing and not problems:
        problems.append(f"{path}: names no label {', '.join(missing)}; labels count from 0, the background, without a gap.")
    if problems:
        raise DataError(problems)
    return tuple(named[number] for number in range(1, len(named)))
