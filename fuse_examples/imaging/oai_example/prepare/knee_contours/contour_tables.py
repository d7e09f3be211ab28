"""All contours of a folder to masks and segmentation.csv."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fuse_examples.imaging.oai_example.data.problem_lists import shortened
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.prepare.command_line import text_table
from fuse_examples.imaging.oai_example.prepare.folds.assignment import assign_folds, equal_shares
from fuse_examples.imaging.oai_example.prepare.knee_contours.outline_files import read_outlines
from fuse_examples.imaging.oai_example.prepare.knee_contours.outlines import STRUCTURES, filled
from fuse_examples.imaging.oai_example.prepare.knee_contours.series_table import KneeSeries, read_series_table, series_of
from fuse_examples.imaging.oai_example.prepare.knee_contours.slice_order import (
    SliceOrder,
    lateral_is_lateral,
    read_numbered_series,
    write_labels,
)
from fuse_examples.imaging.oai_example.prepare.reading_many import collected_warnings, side_by_side
from fuse_examples.imaging.oai_example.prepare.tables.text_table import refuse_existing, relative_path, write_rows

Row = dict[str, object]


@dataclass(frozen=True)
class ContourOptions:
    """How contours become masks.

    Attributes:
        slice_order: "numbered": slice k is the file with the k-th instance number; "reversed": from the other end; "by_anatomy": whichever
            of the two puts lateral structures on the lateral side.
        folds, seed: see `assign_folds`.
        workers: knees at the same time.
        overwrite: replace files that are there.
    """

    slice_order: SliceOrder
    folds: int
    seed: int
    workers: int
    overwrite: bool


@dataclass(frozen=True)
class WrittenMask:
    """A mask, or why there is none."""

    file: Path
    series: KneeSeries | None = None
    mask: Path | None = None
    voxels: tuple[int, ...] = ()
    contested: int = 0
    turned: bool = False
    problem: str = ""


def contour_files(folder: Path) -> list[Path]:
    """Return the files of outlines below `folder`: every .mat, and of knees without one every .txt in a visit's folder."""
    if not folder.is_dir():
        raise DataError(f"{folder}: is not a folder.")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".mat", ".txt") and not path.name.startswith("."))
    matlab = {path.parent for path in files if path.suffix.lower() == ".mat"}
    return [path for path in files if path.suffix.lower() == ".mat" or (path.parent not in matlab and _opens_a_brace(path))]


def _opens_a_brace(path: Path) -> bool:
    with path.open("rb") as file:
        return b"{" in file.read(4096)


def write_contour_tables(folder: Path, table: Path, output: Path, options: ContourOptions) -> str:
    """Write a mask for every file of outlines, segmentation.csv and, if need be, left_out.csv to `output`; return a summary.

    Raises:
        DataError: no outlines, no usable pair, files that may not be replaced.
    """
    refuse_existing([output / name for name in ("segmentation.csv", "left_out.csv", "masks")], options.overwrite)
    series = read_series_table(table)
    files = contour_files(folder)
    if not files:
        raise DataError(f"{folder}: holds no outlines (.mat, or .txt with braces) and no arrays (.seg).")
    with collected_warnings():
        results = side_by_side(
            lambda file: _written(file, series, output, options.slice_order), files, options.workers, "Filling outlines", "knee"
        )
    return finish(results, output, STRUCTURES, options)


def _written(file: Path, table: list[KneeSeries], output: Path, order: SliceOrder) -> WrittenMask:
    try:
        knee = series_of(file, table)
        numbered = read_numbered_series(knee.folder)
        found = read_outlines(file, numbered.shape[0])
        slices = numbered.grid.shape[2]
        if (found.slices or slices) != slices or max(found.outlines) >= slices:
            count = found.slices or max(found.outlines) + 1
            raise DataError(f"{file}: has outlines for {count} slices, its series {knee.folder} has {slices}.")
        labels, contested = filled(found.outlines, slices, numbered.shape)
        if not labels.any():
            raise DataError(f"{file}: no voxel lies inside its outlines; x and y should be voxels of the scan.")
        oriented = numbered.on_grid(labels if order != "reversed" else labels[::-1])
        right = lateral_is_lateral(oriented, numbered.grid.affine, knee.side)
        turned = right is False and order == "by_anatomy"
        if turned:
            oriented = numbered.on_grid(labels[::-1])
        elif right is False:
            raise DataError(f"{file}: its lateral structures lie medially in this {knee.side.lower()} knee: {_remedy(order)}")
        mask = output / "masks" / f"{knee.patient}_{knee.visit}_{knee.side}.nii.gz"
        write_labels(mask, oriented, numbered.grid.affine)
        return WrittenMask(file, knee, mask, tuple(np.bincount(labels.ravel(), minlength=7).tolist()), contested, turned)
    except DataError as error:
        return WrittenMask(file, problem=error.problems[0])


def _remedy(order: SliceOrder) -> str:
    other = "numbered" if order == "reversed" else "reversed"
    return (
        f"its slices seem to be counted from the other end. Pass --slice-order {other} if all are, or --slice-order by_anatomy to turn "
        "these. If the side is wrong, correct the table of series."
    )


def finish(
    results: Sequence[WrittenMask],
    output: Path,
    structures: Sequence[str],
    options: ContourOptions,
    fold_of: Callable[[KneeSeries], str] | None = None,
) -> str:
    """Write segmentation.csv and left_out.csv of what was written; return a summary. `fold_of` replaces drawn folds."""
    left = [result for result in results if result.problem]
    rows: list[Row] = []
    for result in results:
        if result.series is not None and result.mask is not None:
            missing = [name for name, count in zip(structures, result.voxels[1 : len(structures) + 1], strict=True) if not count]
            row: Row = {"PatientID": result.series.patient, "img_path": relative_path(result.series.folder, output)}
            row |= {"seg_path": relative_path(result.mask, output), "fold": fold_of(result.series) if fold_of else ""}
            row |= {"side": result.series.side, "visit": result.series.visit, "missing": " ".join(missing)}
            rows.append(row)
    if not rows:
        raise DataError([*shortened([result.problem for result in left]), "No outlines could be turned into a mask."])
    repeated = [path for path, count in Counter(str(row["seg_path"]) for row in rows).items() if count > 1]
    if repeated:
        raise DataError(f"{len(repeated)} knees have several files of outlines, such as {repeated[0]}. Keep one per knee and visit.")
    if fold_of is None:
        people = [str(row["PatientID"]) for row in rows]
        for row, fold in zip(rows, assign_folds(people, equal_shares(options.folds), seed=options.seed), strict=True):
            row["fold"] = fold
    write_rows(output / "segmentation.csv", sorted(rows, key=lambda row: (str(row["PatientID"]), str(row["visit"]))))
    (output / "left_out.csv").unlink(missing_ok=True)
    if left:
        write_rows(output / "left_out.csv", [{"file": str(result.file), "reason": result.problem} for result in left])
    return _summary(results, output, structures)


def _summary(results: Sequence[WrittenMask], output: Path, structures: Sequence[str]) -> str:
    done = [result for result in results if result.mask]
    lines: list[list[object]] = []
    for label, name in enumerate(structures, start=1):
        counts = [result.voxels[label] for result in done]
        lines.append([label, name, sum(count > 0 for count in counts), sum(counts)])
    notes = []
    contested = sum(result.contested for result in done)
    if contested:
        notes.append(f"{contested} voxels were claimed by two structures and went to the one with the lower label.")
    turned = [result for result in done if result.turned]
    if turned:
        notes.append(f"{len(turned)} of {len(done)} masks had their slices counted from the other end, such as {turned[0].file.name}.")
    left = len(results) - len(done)
    if left:
        notes.append(f"Left out: {left} files, with the reason for each in {output / 'left_out.csv'}.")
    path = output / "segmentation.csv"
    words = f'csv_path={path} num_classes={len(structures) + 1} structure_names="[{", ".join(structures)}]"'
    return "\n".join(
        [
            text_table(["label", "structure", "masks", "voxels"], lines),
            "",
            *notes,
            f"Wrote {path} with {len(done)} rows. Next, and look at its contact sheet:",
            f"  python -m fuse_examples.imaging.oai_example.prepare.check {path}",
            f"  python fuse_examples/imaging/oai_example/downstream/segmentation.py --check {words}",
        ]
    )
