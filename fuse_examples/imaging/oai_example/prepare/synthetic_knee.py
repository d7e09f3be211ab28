"""Write a data set of synthetic knees: DICOM series, NIfTI pairs and the CSV files of all three stages.

    python -m fuse_examples.imaging.oai_example.prepare.synthetic_knee OUTPUT_FOLDER [--patients N] [--labelled N] [--seed S]

The knees are drawn, not scanned; nothing in them comes from a person. The folder holds

    00m/0.E.1/<PatientID>/<StudyDate>/<series>/001 ...   every scan as a DICOM series (01 year later: 12m/1.E.1/...)
    segmentation/<case>_image.nii.gz, <case>_mask.nii.gz  the labelled scans' masks, and half of their images again as NIfTI
    self_supervised.csv, classification.csv               PatientID, path, fold, V00COHORT, side, visit
    segmentation.csv                                      PatientID, img_path, seg_path, fold
    knees.csv                                             what was drawn and measured: scanner, spacing, thickness, volumes
    data_set.json                                         the command's options; written last

A patient is in the same fold (0-4) in every file.
"""

import argparse
import csv
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.errors import ConfigError, DataError
from fuse_examples.imaging.oai_example.geometry.volume import from_file_order
from fuse_examples.imaging.oai_example.prepare.command_line import exit_code_of
from fuse_examples.imaging.oai_example.prepare.knee_phantom.cohort import PlannedPatient, PlannedSeries, plan_patients
from fuse_examples.imaging.oai_example.prepare.knee_phantom.dicom_series import write_dicom_series
from fuse_examples.imaging.oai_example.prepare.knee_phantom.measurements import mean_thickness_mm, volume_mm3
from fuse_examples.imaging.oai_example.prepare.knee_phantom.scanner import SCANNERS, Scan, Scanner, Side, draw_pose, scan_knee
from fuse_examples.imaging.oai_example.prepare.knee_phantom.shape import (
    LABELS,
    PROGRESSION,
    draw_patient_thickness,
    draw_shape,
    with_thickness,
)

CONVERTER_ORDERS = ("PIR", "PSR", "LAS", "RAS")
"""Axis orders of the NIfTI files: as stacked by a DICOM toolkit, two converters' habits, and already RAS."""
_MARKER = "data_set.json"
_COLUMNS = {"segmentation": ("PatientID", "img_path", "seg_path", "fold")}
_VISIT_FOLDERS = {"V00": "00m/0.E.1", "V01": "12m/1.E.1"}
Row = dict[str, Any]


@dataclass(frozen=True)
class KneeArrays:
    """One knee in memory, axes in RAS order.

    Attributes:
        image: (D, H, W) float32, in the scanner's units.
        mask: (D, H, W) uint8, labels 0-6 (`LABELS`).
        affine: (4, 4) voxel index to mm.
        facts: cohort, side, scanner, thickness_mm (drawn), measured_thickness_mm, foreground_mm3, voxels (per label).
    """

    image: NDArray[np.float32]
    mask: NDArray[np.uint8]
    affine: NDArray[np.float64]
    facts: Mapping[str, Any]


def knee_arrays(seed: int, *, cohort: str = PROGRESSION, side: Side = "RIGHT", scanner: Scanner = SCANNERS[0]) -> KneeArrays:
    """Draw and image one knee; the same arguments give the same arrays."""
    rng = np.random.default_rng([seed, 9])
    thickness = draw_patient_thickness(rng, cohort)
    scan = scan_knee(rng, with_thickness(draw_shape(rng), thickness), side, draw_pose(rng, side), scanner)
    facts = {"cohort": cohort, "side": side, "scanner": scanner.model, "thickness_mm": thickness, **_measured(scan)}
    return KneeArrays(scan.values().astype(np.float32), scan.mask, scan.affine, facts)


def write_data_set(
    folder: Path, *, patients: int = 200, labelled: int = 100, seed: int = 0, overwrite: bool = False, workers: int = 1
) -> dict[str, int]:
    """Write the data set described at the top of this file and return the number of rows of each CSV file.

    Everything is written into a folder beside `folder` that takes its name only when it is complete.

    Args:
        folder: where to; must not exist yet, or be empty.
        patients: number of patients; at 200, 40 are in each fold.
        labelled: how many of them have one series segmented; at 100, 20 in each fold.
        seed: the same seed gives the same files.
        overwrite: replace `folder` where it holds a data set of this command.
        workers: processes that draw and write; the files do not depend on it.

    Raises:
        ConfigError: numbers that make no sense.
        DataError: `folder` exists and may not be replaced.
    """
    _check_numbers(patients, labelled, seed, workers)
    _check_target(folder, overwrite)
    unfinished = folder.parent / f".{folder.name}.incomplete"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        counts = _write_everything(unfinished, plan_patients(seed, patients, labelled), workers)
        options = {"patients": patients, "labelled": labelled, "seed": seed, "labels": LABELS, "rows": counts}
        (unfinished / _MARKER).write_text(json.dumps(options, indent=2) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return counts


def _check_numbers(patients: int, labelled: int, seed: int, workers: int) -> None:
    problems = []
    if not 1 <= patients <= 100_000:
        problems.append(f"--patients is {patients}; give a number between 1 and 100000.")
    if not 0 <= labelled <= patients:
        problems.append(f"--labelled is {labelled}; give a number between 0 and the number of patients, {patients}.")
    if seed < 0:
        problems.append(f"--seed is {seed}; give a number that is not negative.")
    if workers < 1:
        problems.append(f"--workers is {workers}; give 1 or more.")
    if problems:
        raise ConfigError(problems)


def _check_target(folder: Path, overwrite: bool) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() and not overwrite:
        raise DataError(f"{folder} exists already. Name another folder, or pass --overwrite to replace the data set in it.")
    if folder.exists() and not (folder / _MARKER).is_file():
        raise DataError(f"{folder} holds no {_MARKER}, so it was not written by this command and --overwrite leaves it alone.")


def _write_everything(folder: Path, planned: Sequence[PlannedPatient], workers: int) -> dict[str, int]:
    tables: dict[str, list[Row]] = {"scans": [], "segmentation": [], "knees": []}
    with _mapper(workers) as mapped:
        for written in mapped(partial(_write_patient, folder), planned):
            for name, rows in written.items():
                tables[name] += rows
    scans = tables.pop("scans")
    files = {"self_supervised": scans, "classification": scans, **tables}
    for name, rows in files.items():
        _write_csv(folder / f"{name}.csv", rows, _COLUMNS.get(name))
    return {name: len(rows) for name, rows in files.items()}


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map`, or the same over several processes, which start afresh so that they inherit no thread's lock."""
    if workers == 1:
        yield map
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield partial(pool.map, chunksize=4)
    finally:
        pool.shutdown(cancel_futures=True)  # an error or Ctrl-C, which this process answers alone, does not wait for what has not begun


def _write_patient(folder: Path, patient: PlannedPatient) -> dict[str, list[Row]]:
    """Write all of a patient's files; return the rows for the tables."""
    scans: list[Row] = []
    segmentations: list[Row] = []
    knees: list[Row] = []
    for k, series in enumerate(patient.series):
        scan = series.scan()
        path = _write_series(folder, series, scan)
        row: Row = {"PatientID": patient.patient, "path": path, "fold": series.fold, "V00COHORT": series.cohort}
        row |= {"side": series.names.side, "visit": series.names.visit}
        scans.append(row)
        knees.append(row | _facts(series, scan))
        if k == 0 and patient.labelled:
            image, mask = _write_pair(folder, series, scan, path, patient)
            segmentations.append({"PatientID": patient.patient, "img_path": image, "seg_path": mask, "fold": series.fold})
    return {"scans": scans, "segmentation": segmentations, "knees": knees}


def _write_series(folder: Path, series: PlannedSeries, scan: Scan) -> str:
    names = series.names
    path = f"{_VISIT_FOLDERS[names.visit]}/{names.patient}/{names.date}/{names.number}"
    write_dicom_series(folder / path, scan, names, np.random.default_rng([*series.stream, 1]))
    return path


def _write_pair(folder: Path, series: PlannedSeries, scan: Scan, dicom: str, patient: PlannedPatient) -> tuple[str, str]:
    """Write the mask, and for some patients the image too, in an axis order that goes round; return both paths."""
    stem = f"segmentation/{series.names.patient}_{series.names.visit}_{series.names.side}"
    order = CONVERTER_ORDERS[patient.number // 2 % len(CONVERTER_ORDERS)]
    (folder / "segmentation").mkdir(exist_ok=True)
    _write_nifti(folder / f"{stem}_mask.nii.gz", scan.mask, scan.affine, order)
    if patient.nifti:
        _write_nifti(folder / f"{stem}_image.nii.gz", scan.values(), scan.affine, order)
    return (f"{stem}_image.nii.gz" if patient.nifti else dicom), f"{stem}_mask.nii.gz"


def _write_nifti(path: Path, array: NDArray[Any], affine: NDArray[np.float64], order: str) -> None:
    volume = from_file_order(array, affine).oriented(order)
    image = nib.Nifti1Image(np.ascontiguousarray(volume.array), volume.affine)
    image.set_qform(volume.affine, code=1)
    image.set_sform(volume.affine, code=1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def _measured(scan: Scan) -> dict[str, Any]:
    return {
        "measured_thickness_mm": mean_thickness_mm(scan.mask, scan.affine),
        "foreground_mm3": volume_mm3(scan.mask, scan.affine),
        "voxels": np.bincount(scan.mask.ravel(), minlength=len(LABELS)).tolist(),
    }


def _facts(series: PlannedSeries, scan: Scan) -> dict[str, Any]:
    measured = _measured(scan)
    voxels = dict(zip((f"voxels_{name}" for name in LABELS[1:]), measured.pop("voxels")[1:], strict=True))
    return {
        "scanner": scan.scanner.model,
        "slice_spacing_mm": scan.scanner.spacing[0],
        "pixel_spacing_mm": scan.scanner.spacing[1],
        "mean_intensity": round(float(scan.values().mean()), 3),
        "drawn_thickness_mm": round(series.shape.femoral_thickness, 3),
        **{key: round(value, 3) for key, value in measured.items()},
        **voxels,
    }


def _write_csv(path: Path, rows: Sequence[Row], columns: Sequence[str] | None) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: str(row["PatientID"])))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fuse_examples.imaging.oai_example.prepare.synthetic_knee",
        description="Write a data set of synthetic knees: DICOM series, NIfTI pairs and the CSV files of all three stages.",
        epilog="The default set takes well under a minute and about 150 MB.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="OUTPUT_FOLDER", help="where to write; must not exist yet")
    parser.add_argument("--patients", type=int, default=200, metavar="N", help="number of patients; a fifth of them in each fold")
    parser.add_argument("--labelled", type=int, default=100, metavar="N", help="patients with a segmented scan; a fifth in each fold")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the same seed gives the same images")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes; the files do not depend on it")
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that this command wrote into OUTPUT_FOLDER before")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, or 2 for a mistake of the user's."""
    options = _parser().parse_args(argv)

    def work() -> None:
        counts = write_data_set(**vars(options))
        print(f"Wrote {options.folder}: " + ", ".join(f"{name}.csv with {rows} rows" for name, rows in counts.items()))

    return exit_code_of(work)


if __name__ == "__main__":
    sys.exit(main())
