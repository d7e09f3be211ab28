"""A CSV file of the volumes of a DICOM tree, and one of what was left out and why."""

import fnmatch
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuse_examples.imaging.oai_example.data.dicom_groups import MIN_SLICES
from fuse_examples.imaging.oai_example.data.problem_lists import shortened
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.geometry.volume import Grid
from fuse_examples.imaging.oai_example.prepare.command_line import text_table
from fuse_examples.imaging.oai_example.prepare.dicom_tree.identity import identity_of
from fuse_examples.imaging.oai_example.prepare.dicom_tree.layout import Layout, check_layout, laid_out
from fuse_examples.imaging.oai_example.prepare.dicom_tree.volumes import FoundVolume, folders_with_files, survey_folder
from fuse_examples.imaging.oai_example.prepare.folds.assignment import assign_folds, equal_shares
from fuse_examples.imaging.oai_example.prepare.patient_names import patient_pattern
from fuse_examples.imaging.oai_example.prepare.reading_many import collected_warnings, side_by_side
from fuse_examples.imaging.oai_example.prepare.tables.text_table import refuse_existing, relative_path, write_rows

Row = dict[str, object]


@dataclass(frozen=True)
class TreeOptions:
    """How a tree becomes a table.

    Attributes:
        descriptions: patterns of series descriptions, without regard to capitals; none takes all.
        layout: what to do with volumes that share a folder; None refuses them.
        patient: expression whose first group is the patient in the path below the root; None takes PatientID.
        folds, seed: see `assign_folds`.
        workers: folders read at the same time.
        overwrite: replace files and folders that are there.
    """

    descriptions: tuple[str, ...]
    layout: Layout | None
    patient: str | None
    folds: int
    seed: int
    workers: int
    overwrite: bool


def write_tree_table(root: Path, output: Path, options: TreeOptions) -> str:
    """Write a row per volume under `root` to `output`, what was left out beside it, and return a summary.

    Raises:
        DataError: no fitting series; volumes that share a folder, without a layout; files that may not be replaced.
    """
    left_out = output.with_name(f"{output.stem}_left_out.csv")
    refuse_existing([output, left_out], options.overwrite)
    if options.layout:
        check_layout(options.layout, root)
    with collected_warnings():
        folders = folders_with_files(root)
        surveys = side_by_side(survey_folder, folders, options.workers, "Reading folders", "folder")
        dropped: list[Row] = [
            _left(str(folder), "", survey.problem) for folder, survey in zip(folders, surveys, strict=True) if survey.problem
        ]
        found = [volume for survey in surveys for volume in survey.volumes]
        wanted = _filtered(found, options.descriptions, root)
        patients = {_patient_of(volume, root, options.patient) for volume in wanted} - {""}
        assign_folds(sorted(patients), equal_shares(options.folds))  # before links and copies are made
        volumes, strays = _with_own_folders(wanted, options)
    rows = _rows(volumes, root, output.parent, options.patient, dropped)
    dropped += strays
    if not rows:
        reasons = [f"{entry['path']}: {entry['reason']}" for entry in dropped]
        raise DataError([*shortened(reasons), f"{root}: no series can be used."])
    names = [str(row["PatientID"]) for row in rows]
    for row, fold in zip(rows, assign_folds(names, equal_shares(options.folds), seed=options.seed), strict=True):
        row["fold"] = fold
    write_rows(output, rows)
    left_out.unlink(missing_ok=True)
    if dropped:
        write_rows(left_out, dropped)
    return _summary(rows, dropped, output, left_out)


def _filtered(found: Sequence[FoundVolume], patterns: Sequence[str], root: Path) -> list[FoundVolume]:
    if not found:
        raise DataError(f"{root}: holds no DICOM images.")
    fitting = [v for v in found if not patterns or any(fnmatch.fnmatchcase(v.description.casefold(), p.casefold()) for p in patterns)]
    if not fitting:
        counts = Counter(volume.description for volume in found).most_common()
        listed = [f"  {count} x {description or '(none)'}" for description, count in counts]
        raise DataError([f"{root}: no series description fits {', '.join(patterns)}. Found:", *shortened(listed)])
    return fitting


def _with_own_folders(wanted: Sequence[FoundVolume], options: TreeOptions) -> tuple[list[FoundVolume], list[Row]]:
    """Return the volumes that a path can name, after laying out those that share a folder; and what was left out."""
    parts: dict[tuple[object, ...], list[FoundVolume]] = defaultdict(list)
    for volume in wanted:
        parts[volume.key].append(volume)
    whole: list[FoundVolume] = []
    left: list[Row] = []
    to_lay_out: list[list[FoundVolume]] = []
    for members in parts.values():
        kept, copies = _without_copies(members)
        left += [_left(str(copy.folder), copy.description, f"holds the same images as {kept[0].folder}") for copy in copies]
        scout = "LOCALIZER" in str(kept[0].key[1]).upper()
        if len(kept) == 1 and (kept[0].grid or kept[0].problem):
            whole += kept
        elif sum(member.slices for member in kept) < MIN_SLICES or (scout and kept[0].mixed):
            reason = "is a localizer" if scout else f"has {sum(member.slices for member in kept)} slices; a volume needs {MIN_SLICES}"
            left.append(_left(str(kept[0].sample), kept[0].description, reason))
        else:
            to_lay_out.append(kept)
    if to_lay_out and options.layout is None:
        raise DataError(_refusal(to_lay_out))
    layout = options.layout
    whole += [laid_out(kept, layout, options.overwrite) for kept in to_lay_out if layout]
    left += [_left(str(volume.folder), volume.description, volume.problem) for volume in whole if volume.problem]
    return sorted((volume for volume in whole if not volume.problem), key=lambda volume: str(volume.folder)), left


def _without_copies(members: Sequence[FoundVolume]) -> tuple[list[FoundVolume], list[FoundVolume]]:
    kept: dict[str, FoundVolume] = {}
    copies = []
    for member in members:
        if member.content in kept:
            copies.append(member)
        else:
            kept[member.content] = member
    return list(kept.values()), copies


def _refusal(groups: Sequence[Sequence[FoundVolume]]) -> list[str]:
    folders: dict[Path, list[str]] = defaultdict(list)
    for members in groups:
        for volume in members:
            spread = f", spread over {len(members)} folders" if len(members) > 1 else ""
            echo = f", echo {volume.echo}" if volume.echo else ""
            folders[volume.folder].append(f'"{volume.description}"{echo} ({volume.slices} slices{spread})')
    listed = [f"{folder}: holds {'; '.join(sorted(texts))}." for folder, texts in sorted(folders.items())]
    return [
        *shortened(listed),
        f"A path must lead to one volume; {'this folder holds' if len(folders) == 1 else 'these folders hold'} several, or parts of one. "
        "Pass --link DIR (links to the files) or --copy DIR to give each volume a folder of its own, or narrow --description down.",
    ]


def _rows(volumes: Sequence[FoundVolume], root: Path, folder: Path, pattern: str | None, dropped: list[Row]) -> list[Row]:
    rows: list[Row] = []
    for volume in volumes:
        identity = identity_of(volume.sample)
        patient = _patient_of(volume, root, pattern)
        if not patient:
            reason = (
                "has no PatientID, so folds could not keep patients apart" if pattern is None else f"--patient {pattern} finds no patient"
            )
            dropped.append(_left(str(volume.folder), volume.description, reason))
            continue
        grid = volume.grid
        assert isinstance(grid, Grid)
        row: Row = {"PatientID": patient, "path": relative_path(volume.folder, folder), "fold": "", "date": identity.date}
        row |= {"side": identity.side, "description": volume.description, "echo": volume.echo, "study": identity.study}
        row |= {"series_number": identity.series_number, "modality": identity.modality, "accession": identity.accession}
        row |= {"slices": grid.shape[2], "rows": grid.shape[1], "columns": grid.shape[0]}
        rows.append(row | {"spacing_mm": " x ".join(f"{grid.spacing[axis]:.4g}" for axis in (2, 1, 0))})
    return sorted(rows, key=lambda row: (str(row["PatientID"]), str(row["date"]), str(row["path"])))


def _patient_of(volume: FoundVolume, root: Path, pattern: str | None) -> str:
    if pattern is None:
        return identity_of(volume.sample).patient
    match = patient_pattern(pattern).search(volume.sample.relative_to(root).as_posix())
    return (match[1] or "") if match else ""


def _left(path: str, description: str, reason: str) -> Row:
    return {"path": path, "description": description, "reason": reason}


def _summary(rows: Sequence[Row], dropped: Sequence[Row], output: Path, left_out: Path) -> str:
    lines: list[list[object]] = []
    for description, count in Counter(str(row["description"]) for row in rows).most_common(20):
        members = [row for row in rows if row["description"] == description]
        sides = Counter(str(row["side"]) for row in members)
        lines.append([description or "(none)", count, len({row["PatientID"] for row in members}), sides["LEFT"], sides["RIGHT"]])
    note = f"\nLeft out: {len(dropped)}, with the reason for each in {left_out}." if dropped else ""
    return (
        f"{text_table(['series description', 'volumes', 'patients', 'left', 'right'], lines)}\n\n"
        f"Wrote {output} with {len(rows)} rows.{note} Next:\n"
        f"  python -m fuse_examples.imaging.oai_example.prepare.check {output}"
    )
