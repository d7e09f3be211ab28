"""Which of a folder's frames are the volume: grouped by what volumes differ in, then the only group, or the one that is asked for."""

import fnmatch
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fuse_examples.imaging.oai_example.data.dicom_frames import COSINE_TOLERANCE, Frame
from fuse_examples.imaging.oai_example.data.reading import SeriesChoice
from fuse_examples.imaging.oai_example.errors import DataError

log = logging.getLogger(__name__)

MIN_SLICES = 3
Group = list[Frame]


def one_group(frames: Sequence[Frame], folder: Path, choice: SeriesChoice) -> Group:
    """Return the frames of the one volume among `frames`; scouts and odd slices of another orientation beside it are dropped with a note.

    Args:
        frames: all usable frames of a folder, in any order.
        folder: named in messages.
        choice: which volume is meant where there are several.

    Raises:
        DataError: several volumes, listed with what tells them apart, of which `choice` does not pick exactly one.
    """
    groups = volume_groups(frames)
    candidates = _candidates(groups, folder)
    if len(candidates) == 1:
        _compare_with_choice(candidates[0], choice, folder)
        return candidates[0]
    listing = "\n".join(f"  {number}. {_describe(group, groups)}" for number, group in enumerate(candidates, start=1))
    if not choice:
        raise DataError(
            f"{folder}: holds {len(candidates)} volumes, and a path must lead to one:\n{listing}\n"
            "  Move each volume's files to a folder of its own and name the one that is meant in the CSV file, "
            "or say by `series:` (description, echo, largest) which one is meant."
        )
    chosen = _chosen(candidates, choice)
    if len(chosen) != 1:
        fitting = f"{len(chosen)} of them fit" if chosen else "none of them fits"
        raise DataError(
            f"{folder}: holds {len(candidates)} volumes, and {fitting} series ({choice}):\n{listing}\n  {_advice(chosen, choice)}"
        )
    log.info("%s: of %d volumes, series (%s) chooses %s", folder, len(candidates), choice, _describe(chosen[0], groups))
    return chosen[0]


def volume_groups(frames: Sequence[Frame]) -> list[Group]:
    """Frames that could be one volume: same series, echo, image type, stack, matrix, orientation and pixel spacing; largest first."""
    groups: dict[tuple[object, ...], list[Group]] = {}
    for frame in frames:
        alike = groups.setdefault((frame.series, frame.kind, frame.matrix), [])
        for group in alike:
            if parallel(group[0], frame) and _same_spacing(group[0], frame):
                group.append(frame)
                break
        else:
            alike.append([frame])
    return sorted((group for alike in groups.values() for group in alike), key=len, reverse=True)


def parallel(one: Frame, other: Frame) -> bool:
    """Whether two frames have the same orientation."""
    return all(abs(left - right) <= COSINE_TOLERANCE for left, right in zip(one.orientation, other.orientation, strict=True))


def _same_spacing(one: Frame, other: Frame) -> bool:
    return all(abs(left - right) <= 1e-3 * left for left, right in zip(one.spacing, other.spacing, strict=True))


def _candidates(groups: list[Group], folder: Path) -> list[Group]:
    """Return the groups that may be the volume, largest first, without localizers and odd slices."""
    main = next((group for group in groups if not group[0].is_localizer), groups[0])
    candidates = [main]
    for group in groups:
        if group is main:
            continue
        if len(main) >= MIN_SLICES > len(group) and not parallel(main[0], group[0]):
            log.warning("%s: dropped %d slice(s) of another orientation: %s", folder, len(group), names_of(group))
        elif group[0].is_localizer and not main[0].is_localizer:
            log.warning("%s: dropped %d localizer image(s): %s", folder, len(group), names_of(group))
        else:
            candidates.append(group)
    return candidates


def _chosen(groups: list[Group], choice: SeriesChoice) -> list[Group]:
    left = [group for group in groups if _fits_description(group[0], choice)]
    if choice.echo is not None:
        left = [group for group, echo in zip(left, _echoes(left), strict=True) if echo == choice.echo]
    if choice.largest and left:
        most = max(map(len, left))
        left = [group for group in left if len(group) == most]
    return left


def _fits_description(frame: Frame, choice: SeriesChoice) -> bool:
    return choice.description is None or fnmatch.fnmatchcase(frame.description.casefold(), choice.description.casefold())


def _echoes(groups: list[Group]) -> list[int | None]:
    """Return each group's echo: the written number, or its rank by echo time where the numbers do not tell times apart."""
    kinds = [dict(group[0].kind) for group in groups]
    numbers = [kind["echo"] for kind in kinds]
    times = [kind["echo time"] for kind in kinds]
    if all(number.isdecimal() for number in numbers) and len(set(zip(numbers, times, strict=True))) == len(set(numbers)):
        return [int(number) for number in numbers]
    known = sorted({time for time in times if time}, key=lambda time: float(time.split()[0]))
    return [known.index(time) + 1 if time else None for time in times]


def _compare_with_choice(group: Group, choice: SeriesChoice, folder: Path) -> None:
    if not _fits_description(group[0], choice):
        text = '%s: its only volume, "%s", is read although it does not fit series.description: %s'
        log.warning(text, folder, group[0].description, choice.description)


def _advice(chosen: list[Group], choice: SeriesChoice) -> str:
    if not chosen:
        return "Correct series, or name the folder of one series in the CSV file."
    if choice.largest:
        return "They have equally many slices; add series.description or series.echo."
    return "Narrow series down (description, echo, largest), or move each volume's files to a folder of its own."


def _describe(group: Group, groups: list[Group]) -> str:
    """Describe a group by what tells it from the others; slices, matrix and an example file always."""
    first = group[0]
    parts = [f'"{first.description}"' if first.description else "(no series description)"]
    if len({other[0].series for other in groups}) > 1:
        parts.append(f"series ...{first.series[-12:]}")
    for name, value in first.kind:
        if len({dict(other[0].kind)[name] for other in groups}) > 1:
            parts.append(f"{name} {value or 'unknown'}")
    if not all(parallel(first, other[0]) for other in groups):
        parts.append(_plane(first))
    if not all(_same_spacing(first, other[0]) for other in groups):
        parts.append(f"pixels of {first.spacing[1]:g} x {first.spacing[0]:g} mm")
    rows, columns = first.matrix
    return ", ".join(parts) + f": {len(group)} slice{'s' * (len(group) != 1)} of {columns} x {rows}, for example {first.label}"


def _plane(frame: Frame) -> str:
    return ("sagittal", "coronal", "axial")[int(np.abs(frame.normal).argmax())]


def names_of(frames: Sequence[Frame], limit: int = 3) -> str:
    """Names of the first few frames and the number of the others."""
    names = ", ".join(frame.label for frame in frames[:limit])
    return names if len(frames) <= limit else f"{names} and {len(frames) - limit} more"
