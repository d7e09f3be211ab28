"""The store of preprocessed volumes: each scan is read, oriented and measured once, then memory-mapped by every worker and run.

An entry is a folder named by a hash of the scan's bytes and of the settings, so that a changed scan or setting makes a new entry, and a
scan that was moved, copied or touched finds its own. The bytes are hashed once for each stamp of the source's files (names, sizes and
times), and the answer is kept beside the entries. An entry is written beside and renamed: it is whole or absent, and two processes that
build the same one do no harm.
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.data.intensity import IntensityStatistics, measure, statistics_from
from fuse_examples.imaging.oai_example.data.reading import AS_IT_IS, Reading
from fuse_examples.imaging.oai_example.data.scans import ScanHeader, content_fingerprint, read_mask, read_volume, source_fingerprint
from fuse_examples.imaging.oai_example.errors import ConfigError, DataError
from fuse_examples.imaging.oai_example.geometry.volume import Grid, Volume

_VERSION = 2
_FOREGROUND_SAMPLES = 1000
_BUILDING = ".building-"
_CONTENTS = ".contents"
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
        entry = self._entry("image", path, stamp, self._image_settings)
        if not entry.is_dir():
            volume = _in_memory_order(read_volume(path, self.reading).oriented(self.orientation))
            statistics = measure(volume.array, self.percentiles).as_dict()
            _refuse_changed(path, stamp)
            self._write(entry, volume, {"statistics": statistics})
        with _damage_told(entry):
            facts = _read_facts(entry)
            return StoredImage(*_open(entry, facts), statistics_from(facts["statistics"]))

    def mask(self, path: Path, stamp: str, affine_of: Grid | None = None) -> StoredMask:
        """Open the label mask at `path`, building its entry first if it is new.

        `affine_of` is the image's `source` grid where the mask is read on it.
        """
        entry = self._entry("mask", path, stamp, _mask_settings(affine_of))
        if not entry.is_dir():
            volume = _in_memory_order(read_mask(path, self.reading, affine_of=affine_of).oriented(self.orientation))
            counts, samples = _survey_labels(volume.array)
            _refuse_changed(path, stamp)
            self._write(entry, volume, {"label_counts": counts}, samples)
        with _damage_told(entry):
            facts = _read_facts(entry)
            counts = {int(label): count for label, count in facts["label_counts"].items()}
            samples = {label: np.load(entry / f"label_{label}.npy") for label in counts if label > 0}
            return StoredMask(*_open(entry, facts), counts, samples)

    def remove_abandoned(self) -> None:
        """Remove what processes that were killed while building an entry have left beside the entries."""
        for left in (*self.folder.glob(f"{_BUILDING}*"), *self.folder.glob(f"{_CONTENTS}/{_BUILDING}*")):
            with contextlib.suppress(FileNotFoundError):  # its owner has finished in this moment
                if time.time() - left.stat().st_mtime > _ABANDONED_AFTER:
                    shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()

    def check_room(self, images: Iterable[tuple[Path, ScanHeader]], masks: Iterable[tuple[Path, ScanHeader, Grid | None]]) -> None:
        """Refuse to begin where the volumes that are not yet stored would not fit on the disk, by what their headers say.

        Raises:
            ConfigError: with the space that is free and the space that is needed.
        """
        wanted = [(path, header, "image", self._image_settings) for path, header in images]
        wanted += [(path, header, "mask", _mask_settings(affine_of)) for path, header, affine_of in masks]
        new = [(header, kind) for path, header, kind, settings in wanted if not self._is_stored(kind, path, header.fingerprint, settings)]
        # Labels are stored in two bytes at most, whatever the mask's file has.
        bytes_of_each = [header.voxel_bytes if kind == "image" else min(header.voxel_bytes, 2) for header, kind in new]
        needed = sum(math.prod(header.source.shape) * size for (header, _), size in zip(new, bytes_of_each, strict=True))
        existing = next(folder for folder in (self.folder, *self.folder.absolute().parents) if folder.exists())
        free = shutil.disk_usage(existing).free
        if needed > free:
            raise ConfigError(
                f"store.path: {self.folder} has {free / 1e9:.2f} GB free, and the {len(new)} volumes that are not in it yet need "
                f"{needed / 1e9:.2f} GB. Free space there, or set store.path to a folder with more room."
            )

    @property
    def _image_settings(self) -> dict[str, Any]:
        return {"percentiles": self.percentiles}

    def _is_stored(self, kind: str, path: Path, stamp: str, settings: dict[str, Any]) -> bool:
        return self._content_record(path, stamp).exists() and self._entry(kind, path, stamp, settings).is_dir()

    def _entry(self, kind: str, path: Path, stamp: str, settings: dict[str, Any]) -> Path:
        identity = {"version": _VERSION, "kind": kind, "content": self._content(path, stamp), "orientation": self.orientation}
        text = json.dumps(identity | settings | {"reading": asdict(self.reading)}, sort_keys=True)
        return self.folder / hashlib.sha256(text.encode()).hexdigest()[:32]

    def _content(self, path: Path, stamp: str) -> str:
        """The hash of the scan's bytes, read anew only where the stamp is."""
        record = self._content_record(path, stamp)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # the latter is told where it is to be written
            return record.read_text()
        content = content_fingerprint(path)
        _refuse_changed(path, stamp)
        beside = record.with_name(f"{_BUILDING}{uuid.uuid4().hex}")
        try:
            record.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(content)
            os.replace(beside, record)
        except OSError as error:
            raise self._unwritable(error) from error
        return content

    def _content_record(self, path: Path, stamp: str) -> Path:
        return self.folder / _CONTENTS / hashlib.sha256(f"{path.resolve()}\0{stamp}".encode()).hexdigest()[:32]

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
                raise self._unwritable(error) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"store.path: {self.folder} cannot be written ({error.strerror or error}). Free space there, or set store.path to a "
            "folder with room for the preprocessed volumes."
        )


def _mask_settings(affine_of: Grid | None) -> dict[str, Any]:
    return {"affine": None if affine_of is None else [affine_of.affine.tolist(), list(affine_of.shape)]}


def _refuse_changed(path: Path, stamp: str) -> None:
    """What was read must be what the stamp and the hash stand for."""
    if source_fingerprint(path) != stamp:
        raise DataError(f"{path}: has changed since the run began. Start it again when the files are complete.")


def _in_memory_order(volume: Volume) -> Volume:
    """The same volume, contiguous: sums depend on the order of memory, and two forms of one scan shall have the same statistics."""
    return Volume(np.ascontiguousarray(volume.array), volume.affine, volume.source)


@contextlib.contextmanager
def _damage_told(entry: Path) -> Iterator[None]:
    """An entry was whole when it was written; somebody has cut it or taken files away since."""
    try:
        yield
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise ConfigError(f"store.path: {entry} is damaged ({error}). Remove that folder; it is made anew from the scan.") from error


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
