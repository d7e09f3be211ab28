"""The store of preprocessed volumes: each scan is read, oriented and measured once, then memory-mapped by every worker and run.

An entry is a folder named by a hash of the source file's identity and content stamp and of the settings, so that a changed scan or
setting makes a new entry. It is written beside and renamed: an entry is whole or absent, and two processes that build the same one do
no harm.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.data.intensity import IntensityStatistics, measure, statistics_from
from fuse_examples.imaging.oai_example.data.reading import AS_IT_IS, Reading
from fuse_examples.imaging.oai_example.data.scans import read_mask, read_volume
from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.geometry.volume import Grid, Volume

_VERSION = 1
_FOREGROUND_SAMPLES = 1000
_BUILDING = ".building-"
_ABANDONED_AFTER = 24 * 3600  # seconds; no single volume takes that long to build


@dataclass(frozen=True)
class StoredVolume:
    """A memory-mapped volume in the network's axis order.

    Attributes:
        array: (D, H, W), read-only, in the file's number type.
        grid: shape and affine of `array`.
        source: shape and affine of the file, on which predictions are written.
    """

    array: NDArray[Any]
    grid: Grid
    source: Grid


@dataclass(frozen=True)
class StoredImage(StoredVolume):
    """An image and its intensity statistics."""

    statistics: IntensityStatistics


@dataclass(frozen=True)
class StoredMask(StoredVolume):
    """A label mask, its voxels per label, and an even sample of voxel indices (N, 3) for each label above 0."""

    label_counts: dict[int, int]
    foreground: dict[int, NDArray[np.int32]]


class VolumeStore:
    """Builds and opens entries of one folder for one orientation, one pair of percentiles and one way of reading."""

    def __init__(self, folder: Path, orientation: str, percentiles: Sequence[float], reading: Reading = AS_IT_IS) -> None:
        self.folder = folder
        self.orientation = orientation
        self.percentiles = tuple(float(p) for p in percentiles)
        self.reading = reading

    def image(self, path: Path, stamp: str) -> StoredImage:
        """Open the image at `path`, building its entry first if it is new. `stamp` changes when the files change."""
        entry = self._entry("image", path, stamp, {"percentiles": self.percentiles})
        if not entry.is_dir():
            volume = _in_memory_order(read_volume(path, self.reading).oriented(self.orientation))
            statistics = measure(volume.array, self.percentiles).as_dict()
            self._write(entry, volume, {"statistics": statistics})
        facts = _read_facts(entry)
        return StoredImage(*_open(entry, facts), statistics_from(facts["statistics"]))

    def mask(self, path: Path, stamp: str, affine_of: Grid | None = None) -> StoredMask:
        """Open the label mask at `path`, building its entry first if it is new.

        `affine_of` is the image's `source` grid where the mask's own affine is to be ignored.
        """
        entry = self._entry("mask", path, stamp, {"affine": None if affine_of is None else affine_of.affine.tolist()})
        if not entry.is_dir():
            volume = _in_memory_order(read_mask(path, self.reading, affine_of=affine_of).oriented(self.orientation))
            counts, samples = _survey_labels(volume.array)
            self._write(entry, volume, {"label_counts": counts}, samples)
        facts = _read_facts(entry)
        counts = {int(label): count for label, count in facts["label_counts"].items()}
        samples = {label: np.load(entry / f"label_{label}.npy") for label in counts if label > 0}
        return StoredMask(*_open(entry, facts), counts, samples)

    def remove_abandoned(self) -> None:
        """Remove what processes that were killed while building an entry have left beside the entries."""
        for left in self.folder.glob(f"{_BUILDING}*"):
            with contextlib.suppress(FileNotFoundError):  # its owner has finished in this moment
                if time.time() - left.stat().st_mtime > _ABANDONED_AFTER:
                    shutil.rmtree(left, ignore_errors=True)

    def _entry(self, kind: str, path: Path, stamp: str, settings: dict[str, Any]) -> Path:
        identity = {"version": _VERSION, "kind": kind, "path": str(path.resolve()), "stamp": stamp, "orientation": self.orientation}
        text = json.dumps(identity | settings | {"reading": asdict(self.reading)}, sort_keys=True)
        return self.folder / hashlib.sha256(text.encode()).hexdigest()[:32]

    def _write(self, entry: Path, volume: Volume, facts: dict[str, Any], samples: dict[int, NDArray[np.int32]] | None = None) -> None:
        # Not a temporary directory: those are for their owner's eyes alone, and a store may be shared.
        beside = self.folder / f"{_BUILDING}{uuid.uuid4().hex}"
        try:
            beside.mkdir(parents=True)
            np.save(beside / "voxels.npy", volume.array)
            for label, indices in (samples or {}).items():
                np.save(beside / f"label_{label}.npy", indices)
            place = {"affine": volume.affine.tolist(), "source_shape": volume.source.shape, "source_affine": volume.source.affine.tolist()}
            (beside / "facts.json").write_text(json.dumps(place | facts))
            os.rename(beside, entry)
        except OSError as error:
            if not entry.is_dir():  # otherwise another process was faster, and its entry is as good
                raise ConfigError(
                    f"store.path: {self.folder} cannot be written ({error.strerror or error}). Free space there, or set store.path to a "
                    "folder with room for the preprocessed volumes."
                ) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _in_memory_order(volume: Volume) -> Volume:
    """The same volume, contiguous: sums depend on the order of memory, and two forms of one scan shall have the same statistics."""
    return Volume(np.ascontiguousarray(volume.array), volume.affine, volume.source)


def _read_facts(entry: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((entry / "facts.json").read_text())
    return facts


def _open(entry: Path, facts: dict[str, Any]) -> tuple[NDArray[Any], Grid, Grid]:
    array = np.load(entry / "voxels.npy", mmap_mode="r")
    depth, height, width = array.shape
    first, second, third = facts["source_shape"]
    grid = Grid((depth, height, width), np.array(facts["affine"]))
    return array, grid, Grid((first, second, third), np.array(facts["source_affine"]))


def _survey_labels(array: NDArray[Any]) -> tuple[dict[int, int], dict[int, NDArray[np.int32]]]:
    """Voxels per label, and up to a thousand evenly spaced voxel indices of each label above 0."""
    flat = array.ravel()
    counts = np.bincount(flat)
    samples = {}
    for label in np.flatnonzero(counts):
        if label > 0:
            where = np.flatnonzero(flat == label)
            chosen = where[np.linspace(0, len(where) - 1, min(len(where), _FOREGROUND_SAMPLES)).astype(np.int64)]
            samples[int(label)] = np.stack(np.unravel_index(chosen, array.shape), axis=1).astype(np.int32)
    return {int(label): int(counts[label]) for label in np.flatnonzero(counts)}, samples
