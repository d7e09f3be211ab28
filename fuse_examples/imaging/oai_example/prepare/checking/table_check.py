"""Check every case of a table: headers first, then masks and images side by side in threads."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuse_examples.imaging.oai_example.data.cases import read_cases
from fuse_examples.imaging.oai_example.data.header_check import MaskAffine
from fuse_examples.imaging.oai_example.data.reading import AS_IT_IS, Reading
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.prepare.checking.case_check import (
    CheckedCase,
    check_header,
    check_voxels,
)
from fuse_examples.imaging.oai_example.prepare.checking.oddities import repeated_images, same_grid_places, torn_patients, with_notes
from fuse_examples.imaging.oai_example.prepare.reading_many import collected_warnings, side_by_side
from fuse_examples.imaging.oai_example.prepare.tables.text_table import TextTable, read_text_table


@dataclass(frozen=True)
class CheckOptions:
    """What to read.

    Attributes:
        full: read every image, not only those that may repeat another and those that are shown.
        pictures: how many cases the contact sheet shows.
        workers: threads.
        mask_affine: as the configuration's key.
        reading: as the configuration's keys `series` and `tolerate_uneven_spacing`.
        channels: as the configuration's key; all are checked, the first is shown and compared with the other rows.
    """

    full: bool = False
    pictures: int = 48
    workers: int = os.cpu_count() or 1
    mask_affine: MaskAffine = "strict"
    reading: Reading = AS_IT_IS
    channels: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckedTable:
    """The cases of a table, what is said of them together, and which of them are shown."""

    table: TextTable
    cases: tuple[CheckedCase, ...]
    remarks: tuple[str, ...]
    shown: tuple[int, ...]
    channels: tuple[str, ...] = ()

    @property
    def unusable(self) -> list[CheckedCase]:
        """Cases that cannot be used."""
        return [entry for entry in self.cases if entry.problems]


def check_table(csv_path: Path, options: CheckOptions) -> CheckedTable:
    """Check all cases; raise `DataError` only for a table that cannot be read as one."""
    if options.workers < 1 or options.pictures < 0:
        raise DataError("--workers must be at least 1, --pictures at least 0.")
    repeated = sorted({name for name in options.channels if options.channels.count(name) > 1})
    if repeated:
        raise DataError(f"--channels: {', '.join(repeated)} is named more than once.")
    table = read_text_table(csv_path)
    cases = read_cases(csv_path, masks=table.has("seg_path") or table.has("img_path"), channels=options.channels)
    with collected_warnings() as warnings:
        heads = side_by_side(
            lambda case: check_header(case, options.mask_affine, options.reading), cases, options.workers, "Reading headers", "case"
        )
        likely = same_grid_places(heads)
        shown = _chosen([bool(entry.problems or entry.notes) for entry in with_notes(heads)], options.pictures)

        def voxels(place: int) -> CheckedCase:
            image = options.full or place in likely or place in shown
            return check_voxels(heads[place], options.mask_affine, options.reading, image=image, picture=place in shown)

        checked = side_by_side(voxels, range(len(heads)), options.workers, "Reading scans", "case")
    checked = with_notes(_with_warnings(checked, warnings))
    return CheckedTable(table, tuple(checked), (*torn_patients(checked), *repeated_images(checked)), shown, options.channels)


def _chosen(odd: Sequence[bool], count: int) -> tuple[int, ...]:
    """Choose places to show: up to half of them odd, the rest evenly spread."""
    first = [place for place, strange in enumerate(odd) if strange][: -(-count // 2)]
    others = [place for place in range(len(odd)) if place not in set(first)]
    room = min(count - len(first), len(others))
    spread = [others[round(step * (len(others) - 1) / max(room - 1, 1))] for step in range(room)]
    return tuple(sorted({*first, *spread}))


def _with_warnings(checked: Sequence[CheckedCase], warnings: Sequence[str]) -> list[CheckedCase]:
    """Give each case what the readers said of its files; the same is said once although a file is read twice."""
    said: dict[str, list[str]] = {}
    for message in dict.fromkeys(warnings):
        path, _, text = message.partition(": ")
        said.setdefault(path, []).append(text)
    result = []
    for entry in checked:
        notes = [*said.get(str(entry.case.image), []), *(f"mask: {text}" for text in said.get(str(entry.case.mask), []))]
        further = [f"{path.name}: {text}" for path in entry.case.further_images for text in said.get(str(path), [])]
        result.append(entry.noted(*notes, *further))
    return result
