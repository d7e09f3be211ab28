"""The scans that a prediction is asked for: those of a folder tree, a single file, or a table without labels and folds."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fuse_examples.imaging.oai_example.data.cases import MAX_NAME, Case, read_scans
from fuse_examples.imaging.oai_example.data.dicom_files import parse_file, regular_files
from fuse_examples.imaging.oai_example.data.dicom_kinds import is_segmentation
from fuse_examples.imaging.oai_example.data.nifti import is_nifti
from fuse_examples.imaging.oai_example.errors import DataError

TABLES = (".csv", ".tsv", ".txt")
NIFTI_NAMES = (".nii", ".nii.gz")
NO_SCANS = {
    ".csv", ".tsv", ".txt", ".json", ".xml", ".pdf", ".png", ".jpg", ".html", ".md", ".log", ".yaml", ".yml", ".zip", ".bval", ".bvec",
}  # fmt: skip
"""Endings of files that lie beside scans. A folder with other files alone is told, since they may be slices whose copy failed."""


@dataclass(frozen=True)
class ScanList:
    """Scans as cases without masks, folds and targets.

    Attributes:
        cases: in the order of the table, or by path.
        unusable: folders of the tree that hold files, none of which is a scan, or that cannot be opened, and what is to be said of them.
    """

    cases: tuple[Case, ...]
    unusable: tuple[tuple[Path, str], ...] = ()


def list_scans(path: Path, *, leave_out: Path, channels: Sequence[str] = (), extra: Sequence[str] = ()) -> ScanList:
    """Find what to predict.

    Args:
        path: a CSV file with `path` or `img_path`; a scan; or a folder that is searched with everything below it, where a folder with DICOM
            images is one series and each NIfTI file one scan. Links to folders are not followed.
        leave_out: a folder that is not searched: the output, which may lie inside.
        channels: image columns, for networks of several channels.
        extra: further columns that the network sees.

    Raises:
        DataError: the table cannot be used; the folder holds no scan; or a folder is given where the network needs a table's columns.
    """
    if path.is_file() and path.suffix.lower() in TABLES:
        return ScanList(read_scans(path, channels=channels, extra=extra))
    if channels or extra:
        wanted = ", ".join([*channels, *extra])
        raise DataError(f"--input: {path} is no table, and the checkpoint's network takes more than one image of a case: {wanted}. "
                        "Give a CSV file with these columns.")  # fmt: skip
    if path.is_file():
        return ScanList((_case(path, path.parent),))
    found, unusable = _search(path, leave_out.resolve())
    if not found and not unusable:
        raise DataError(f"--input: {path} holds no DICOM image and no NIfTI file, nor do the folders below it.")
    return ScanList(_with_own_names([_case(scan, path) for scan in found]), tuple(unusable))


def _search(root: Path, leave_out: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    scans: list[Path] = []
    unusable: list[tuple[Path, str]] = []
    closed: list[OSError] = []
    for folder in _folders(root, leave_out, closed):
        files = [file for file in regular_files(folder)[0] if not file.name.startswith(".")]
        niftis = [file for file in files if file.name.lower().endswith(NIFTI_NAMES) or is_nifti(file)]
        others = [file for file in files if file not in niftis]
        scans += [*([folder] if _holds_images(others) else []), *niftis]
        strange = [file for file in others if file.suffix.lower() not in NO_SCANS]
        if strange and folder not in scans and not niftis and not any(map(_is_dicom, strange)):
            unusable.append((folder, _told(folder, strange)))
    unusable += [(Path(error.filename), f"{error.filename}: cannot be searched ({error.strerror}).") for error in closed]
    return scans, unusable


def _told(folder: Path, strange: Sequence[Path]) -> str:
    others = f"{len(strange)} other{'s' * (len(strange) != 1)}, such as {strange[0].name}"
    return f"{folder}: holds no DICOM image and no NIfTI file, but {others}. Copy the scan again, or take the folder out of the input."


def _folders(root: Path, leave_out: Path, closed: list[OSError]) -> Iterator[Path]:
    """The folders of a tree; what is said of those that cannot be opened is added to `closed`."""
    for name, below, _ in os.walk(root, onerror=closed.append):
        folder = Path(name)
        below[:] = sorted(one for one in below if not one.startswith(".") and (folder / one).resolve() != leave_out)
        yield folder


def _holds_images(files: Sequence[Path]) -> bool:
    """Whether one of the files is a DICOM image, or was one before it was damaged; masks (DICOM-SEG) are none."""
    for file in files:
        try:
            image, _ = parse_file(file, pixels=False)
        except DataError:
            return True
        if image is not None and not is_segmentation(image):
            return True
    return False


def _is_dicom(file: Path) -> bool:
    """Whether the file is DICOM, though not an image to predict: a directory, a report, a mask."""
    image, reason = parse_file(file, pixels=False)
    return image is not None or reason.startswith("DICOM")


def _case(path: Path, root: Path) -> Case:
    inside = path.relative_to(root).as_posix() if path != root else path.resolve().name
    name = re.sub(r"(?i)\.nii(\.gz)?$", "", inside)
    safe = re.sub(r"[^\w.-]+", "_", name).strip("._-")
    return Case(0, safe[-MAX_NAME:].strip("._-") or "scan", "", path, None, "", {})


def _with_own_names(cases: Sequence[Case]) -> tuple[Case, ...]:
    """Number those names that would be the same file on some system."""
    taken: set[str] = set()
    named = []
    for case in cases:
        name, number = case.name, 2
        while name.casefold() in taken:
            name, number = f"{case.name}_{number}", number + 1
        taken.add(name.casefold())
        named.append(replace(case, name=name))
    return tuple(named)
