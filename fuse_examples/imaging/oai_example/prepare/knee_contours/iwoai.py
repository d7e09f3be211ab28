"""The arrays of the IWOAI 2019 challenge: `train_001_V00.im` and `.seg`, HDF5, the knees of iMorphics without their names."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.prepare.knee_contours.contour_tables import ContourOptions, WrittenMask, finish
from fuse_examples.imaging.oai_example.prepare.knee_contours.series_table import KneeSeries, read_series_table
from fuse_examples.imaging.oai_example.prepare.knee_contours.slice_order import NumberedSeries, read_numbered_series, write_labels
from fuse_examples.imaging.oai_example.prepare.tables.text_table import refuse_existing

STRUCTURES = ("FemoralCartilage", "TibialCartilage", "PatellarCartilage", "Menisci")
CHANNELS = (1, 2, 2, 3, 4, 4)
"""Label of each of the six channels. Which tibial and which meniscal channel is lateral the files do not say; the challenge joins them."""
SPACING = (0.36458333, 0.36458333, 0.7)
NAME = re.compile(r"(?P<subject>(?P<part>train|valid|val|test)_\d+)_(?P<visit>V\d\d)", re.IGNORECASE)
NOMINAL_AFFINE = np.array([[0, 0, SPACING[2], 0], [0, -SPACING[1], 0, 0], [-SPACING[0], 0, 0, 0], [0, 0, 0, 1.0]])
"""Rows run down and columns to the back, as in OAI's sagittal images. That slices run to the right is a mere convention here."""


def seg_files(folder: Path) -> list[Path]:
    """Return the .seg files below a folder."""
    return sorted(folder.rglob("*.seg"))


def write_iwoai_tables(folder: Path, table: Path | None, output: Path, options: ContourOptions) -> str:
    """Write a mask for every .seg file, and segmentation.csv with the challenge's own parts as folds; return a summary.

    With a table of series, each image is found among them by its voxels, slice by slice, and its mask lies on that series' grid. Without,
    the image is written as NIfTI too, with the scan's usual spacing and an assumed place.

    Raises:
        DataError: no usable pair, files that may not be replaced.
    """
    names = ("segmentation.csv", "left_out.csv", "masks", "images")
    refuse_existing([output / name for name in names], options.overwrite)
    known = _fingerprints(read_series_table(table)) if table else {}
    results = []
    for file in tqdm(seg_files(folder), desc="Writing masks", unit="knee", disable=None, leave=False):
        try:
            results.append(_written(file, known if table else None, output))
        except DataError as error:
            results.append(WrittenMask(file, problem=error.problems[0]))
    return finish(results, output, STRUCTURES, options, fold_of=None if table else lambda knee: knee.patient.partition("_")[0])


def read_seg(path: Path) -> NDArray[np.uint8]:
    """Return labels (rows, columns, slices); the lower label wins where channels overlap."""
    channels = _dataset(path)
    if channels.ndim != 4 or channels.shape[3] != len(CHANNELS):
        raise DataError(f"{path}: has shape {channels.shape}; rows, columns, slices and {len(CHANNELS)} channels are needed.")
    labels = np.zeros(channels.shape[:3], np.uint8)
    for channel, label in reversed(list(enumerate(CHANNELS))):
        labels[channels[..., channel] > 0] = label
    return labels


def _dataset(path: Path) -> NDArray[Any]:
    try:
        with h5py.File(path, "r") as file:
            if "data" not in file:
                raise DataError(f"{path}: has no data set named data; found {', '.join(file) or 'none'}.")
            return np.asarray(file["data"][()])
    except OSError as error:
        raise DataError(f"{path}: cannot be read as HDF5 ({error}).") from error


def _written(file: Path, known: dict[str, tuple[KneeSeries, dict[str, int]]] | None, output: Path) -> WrittenMask:
    match = NAME.search(file.stem)
    if not match:
        raise DataError(f"{file}: is not named as in the challenge, such as train_001_V00.seg.")
    image_file = file.with_suffix(".im")
    if not image_file.is_file():
        raise DataError(f"{file}: has no image {image_file.name} beside it.")
    labels, image = read_seg(file), _dataset(image_file)
    if image.shape != labels.shape:
        raise DataError(f"{file}: has shape {labels.shape}, its image {image.shape}.")
    voxels = tuple(np.bincount(labels.ravel(), minlength=len(STRUCTURES) + 1).tolist())
    if known is not None:
        knee, places, series = _found(image_file, image, known)
        oriented = np.zeros((labels.shape[1], labels.shape[0], labels.shape[2]), np.uint8)
        oriented[:, :, places] = labels.transpose(1, 0, 2)
        mask = output / "masks" / f"{knee.patient}_{knee.visit}_{knee.side}.nii.gz"
        write_labels(mask, oriented, series.grid.affine)
        return WrittenMask(file, knee, mask, voxels)
    name = f"{match['subject']}_{match['visit'].upper()}"
    mask, nifti = output / "masks" / f"{name}.nii.gz", output / "images" / f"{name}.nii.gz"
    write_labels(mask, labels, NOMINAL_AFFINE)
    write_labels(nifti, image.astype(np.float32) if image.dtype.kind == "f" else image.astype(np.int16), NOMINAL_AFFINE)
    return WrittenMask(file, KneeSeries(match["subject"], match["visit"].upper(), "", "", nifti), mask, voxels)


def _fingerprints(table: Sequence[KneeSeries]) -> dict[str, tuple[KneeSeries, dict[str, int]]]:
    """Hash every slice of every series: the smallest hash stands for the series, all of them tell slices apart."""
    known = {}
    for knee in tqdm(table, desc="Reading series", unit="series", disable=None, leave=False):
        try:
            slices = read_numbered_series(knee.folder).stored_slices()
        except DataError:
            continue  # an unreadable series cannot be the one
        hashes = {_hash(values): place for place, values in enumerate(slices)}
        if len(hashes) == len(slices):
            known[min(hashes)] = (knee, hashes)
    return known


def _found(
    path: Path, image: NDArray[Any], known: dict[str, tuple[KneeSeries, dict[str, int]]]
) -> tuple[KneeSeries, list[int], NumberedSeries]:
    hashes = [_hash(image[:, :, index]) for index in range(image.shape[2])]
    knee, places = known.get(min(hashes), (None, {}))
    if knee is None or set(hashes) != set(places):
        raise DataError(f"{path}: none of the series in the table has these voxels.")
    return knee, [places[text] for text in hashes], read_numbered_series(knee.folder)


def _hash(values: NDArray[Any]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(np.rint(values), dtype=np.int32).tobytes(), digest_size=16).hexdigest()
