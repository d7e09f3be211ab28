"""Give volumes that share a folder, or are spread over several, a folder of their own."""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fuse_examples.imaging.oai_example.data.dicom import read_dicom_header
from fuse_examples.imaging.oai_example.data.dicom_files import regular_files
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.prepare.dicom_tree.identity import Identity, identity_of
from fuse_examples.imaging.oai_example.prepare.dicom_tree.volumes import FoundVolume


@dataclass(frozen=True)
class Layout:
    """Where volumes that need one get a folder of their own, by links to the files or by copies."""

    folder: Path
    how: Literal["link", "copy"]


def check_layout(layout: Layout, root: Path) -> None:
    """Refuse a layout inside the tree that is read, or around it."""
    inner, outer = layout.folder.resolve(), root.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise DataError(f"--{layout.how} {layout.folder}: lies inside {root} or around it. Name a folder elsewhere.")


def laid_out(parts: Sequence[FoundVolume], layout: Layout, overwrite: bool) -> FoundVolume:
    """Bring the files of one volume into one folder; return the volume as it can be read there, or with the problem that remains.

    The folder is named by patient, date, series number, description and echo. It appears whole.
    """
    first = parts[0]
    files = sorted({file for part in parts for file in part.files or regular_files(part.folder)[0]})
    target = layout.folder / _name(first, identity_of(first.sample))
    if target.exists() and not overwrite:
        raise DataError(f"{target}: exists already. Name another folder for --{layout.how}, or pass --overwrite.")
    unfinished = target.with_name(f".{target.name}.incomplete")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        _fill(unfinished, files, layout.how)
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    try:
        grid = read_dicom_header(target).grid
    except DataError as error:
        return replace(first, folder=target, files=(), problem=error.problems[0].removeprefix(f"{target}: "))
    return replace(first, folder=target, files=(), grid=grid, slices=grid.shape[2], problem="")


def _fill(folder: Path, files: Sequence[Path], how: Literal["link", "copy"]) -> None:
    width = len(str(len(files)))
    for number, file in enumerate(files, start=1):
        place = folder / f"{number:0{width}d}.dcm"
        if how == "link":
            os.symlink(file.resolve(), place)
        else:
            shutil.copyfile(file, place)


def _name(volume: FoundVolume, identity: Identity) -> Path:
    series = "_".join(_safe(word) for word in (identity.series_number, volume.description, volume.echo and f"echo {volume.echo}") if word)
    suffix = _safe(str(volume.key[0])[-8:])  # two series may agree in number and description
    return Path(_safe(identity.patient) or "unknown", _safe(identity.date) or "undated", f"{series or 'series'}_{suffix}")


def _safe(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text).strip("._-")[:60]
