"""What the folders of a tree hold, judged by the reader that training uses: whole volumes, mixtures, parts of series, and broken ones."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuse_examples.imaging.oai_example.data.dicom_files import parse_file, regular_files
from fuse_examples.imaging.oai_example.data.dicom_frames import Frame, UnusableFrame, frames_of
from fuse_examples.imaging.oai_example.data.dicom_groups import one_group, volume_groups
from fuse_examples.imaging.oai_example.data.dicom_pixels import same_image
from fuse_examples.imaging.oai_example.data.dicom_series import stack_frames
from fuse_examples.imaging.oai_example.data.reading import AS_IT_IS, SeriesChoice
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.geometry.volume import Grid


@dataclass(frozen=True)
class FoundVolume:
    """A volume, or the part of one that a folder holds.

    Attributes:
        folder: where its files are.
        key: what makes frames of several folders one volume: series, echo, image type, matrix.
        description: of the series.
        echo: number or time, to tell volumes of one series apart; "" for a series of one volume.
        slices: how many.
        sample: one of its files, for what else the header says.
        content: hash of its image UIDs: the same for a copy.
        files: its files, where the folder holds more than this volume.
        grid: in file order, if the folder is this one volume; then a CSV file can name the folder.
        problem: why the folder, although it holds nothing else, cannot be read.
    """

    folder: Path
    key: tuple[object, ...]
    description: str
    echo: str
    slices: int
    sample: Path
    content: str
    files: tuple[Path, ...]
    grid: Grid | None = None
    problem: str = ""

    @property
    def mixed(self) -> bool:
        """Whether other volumes lie in the same folder."""
        return self.grid is None and not self.problem


@dataclass(frozen=True)
class FolderSurvey:
    """The volumes of a folder, and what is wrong with files that are no part of one."""

    volumes: tuple[FoundVolume, ...]
    problem: str = ""


def folders_with_files(root: Path) -> list[Path]:
    """Return every folder of the tree that holds files, sorted; links to folders are not followed."""
    if not root.is_dir():
        raise DataError(f"{root}: is not a folder.")
    return sorted(Path(folder) for folder, _, files in os.walk(root) if any(not name.startswith(".") for name in files))


def survey_folder(folder: Path) -> FolderSurvey:
    """Parse every file of a folder, without pixels, and sort its frames into volumes.

    A series of which an image cannot be used is no volume, as in reading: a slice of it may be missing.
    """
    problems: list[str] = []
    frames: list[Frame] = []
    spoiled: set[object] = set()
    for path in regular_files(folder)[0]:
        try:
            image, _ = parse_file(path, pixels=False)
        except DataError as error:
            problems += error.problems
            continue
        if image is None:
            continue
        try:
            frames += frames_of(image)
        except UnusableFrame as reason:
            problems.append(f"{path}: {reason}.")
            spoiled.add(image.values.get("SeriesInstanceUID") or folder)
    problem = problems[0] + (f" ({len(problems)} files in all)" if len(problems) > 1 else "") if problems else ""
    broken = any("damaged" in text or "truncated" in text for text in problems)  # a slice of one of the volumes may be missing
    if broken or not frames:
        return FolderSurvey((), problem)
    return FolderSurvey(tuple(volume for volume in _volumes(folder, frames) if volume.key[0] not in spoiled), problem)


def _volumes(folder: Path, frames: Sequence[Frame]) -> list[FoundVolume]:
    groups = volume_groups(frames)
    try:
        main = one_group(frames, folder, SeriesChoice())
    except DataError:
        return [_described(folder, group, groups) for group in groups]
    try:
        stack = stack_frames(frames, folder, same_image, AS_IT_IS)
    except DataError as error:
        return [_described(folder, main, groups, problem=error.problems[0].removeprefix(f"{folder}: "))]
    return [_described(folder, main, groups, grid=Grid(stack.shape, stack.affine))]


def _described(
    folder: Path, group: Sequence[Frame], groups: Sequence[Sequence[Frame]], *, grid: Grid | None = None, problem: str = ""
) -> FoundVolume:
    first = group[0]
    kinds = [dict(other[0].kind) for other in groups if other[0].series == first.series]
    own = dict(first.kind)
    echo = next((own[name] for name in ("echo", "echo time") if len({kind[name] for kind in kinds}) > 1), "")
    files = tuple(sorted({frame.file.path for frame in group}))
    return FoundVolume(
        folder=folder,
        key=(first.series or folder, first.kind, first.matrix),
        description=first.description,
        echo=echo,
        slices=grid.shape[2] if grid else len(group),
        sample=files[0],
        content=_content(group),
        files=() if grid else files,
        grid=grid,
        problem=problem,
    )


def _content(group: Sequence[Frame]) -> str:
    digest = hashlib.sha256()
    for name in sorted(f"{frame.file.values.get('SOPInstanceUID') or frame.file.path}\0{frame.number}" for frame in group):
        digest.update(name.encode())
    return digest.hexdigest()
