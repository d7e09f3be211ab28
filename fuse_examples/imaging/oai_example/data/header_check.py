"""Check the scans of a run before it starts: headers of every case, and masks in full. All problems are shown together."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.problem_lists import shortened
from fuse_examples.imaging.oai_example.data.reading import AS_IT_IS, Reading
from fuse_examples.imaging.oai_example.data.scans import DICOM_SEG, ScanHeader, read_header, read_mask, read_mask_header, read_volume
from fuse_examples.imaging.oai_example.data.voxels import Voxels
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.geometry.volume import RAS, Grid, Volume

MaskAffine = Literal["strict", "from_image"]
MAX_CORNER_SHIFT = 0.1  # voxels of the image


@dataclass(frozen=True)
class CaseHeaders:
    """Headers of a case's image, of its further channels and, in segmentation, of its mask."""

    image: ScanHeader
    mask: ScanHeader | None
    further_images: tuple[ScanHeader, ...] = ()

    def mask_grid(self, *, takes_image_affine: bool) -> Grid | None:
        """The image's grid where the mask is read on it: a DICOM-SEG is, and a mask whose own affine is ignored. None for its own."""
        on_image = takes_image_affine or (self.mask is not None and self.mask.kind == DICOM_SEG)
        return self.image.source if on_image else None

    @property
    def images(self) -> tuple[ScanHeader, ...]:
        """Headers of all channels."""
        return self.image, *self.further_images


@dataclass(frozen=True)
class CaseFindings:
    """What the headers of a case say: `headers`, or None and why. Problems name file and remedy; row and patient are the caller's."""

    case: Case
    headers: CaseHeaders | None
    problems: tuple[str, ...]
    n_missing: int = 0


def survey_headers(cases: Iterable[Case], *, mask_affine: MaskAffine = "strict", reading: Reading = AS_IT_IS) -> Iterator[CaseFindings]:
    """Look at the headers of every case, one after another, and stop at none; `check_headers` is the same with an error at the end.

    A mask may store its axes in another order than its image, as long as both fill the same place in the patient; with
    `mask_affine="from_image"` its own affine is ignored and its shape in file order must be the image's.
    Voxels are not read; for those see `data.scans.read_volume`, `read_mask` and `examine_voxels`.
    """
    for case in cases:
        problems: list[str] = []
        image = _header_or_problem(case.image, "image", problems, reading)
        further = [_header_or_problem(path, "image", problems, reading) for path in case.further_images]
        mask = _mask_header_or_problem(case.mask, problems, reading, image) if case.mask else None
        if image is not None:
            for path, header in zip(case.further_images, further, strict=True):
                problem = _compare_channels(image.source, header.source) if header is not None else ""
                problems += [f"image {path}: {problem}"] if problem else []
        if image is not None and mask is not None:
            problem = _compare(image.source, mask.source, mask_affine)
            problems += [f"mask {case.mask}: {problem}"] if problem else []
        n_missing = sum(path is not None and not path.exists() for path in (*case.images, case.mask)) if problems else 0
        headers = CaseHeaders(image, mask, tuple(header for header in further if header is not None)) if image is not None else None
        yield CaseFindings(case, None if problems else headers, tuple(problems), n_missing)


def check_headers(
    cases: Sequence[Case], *, csv_path: Path, mask_affine: MaskAffine = "strict", reading: Reading = AS_IT_IS
) -> dict[str, CaseHeaders]:
    """Read the headers of all cases and compare each mask's grid with its image's, as `survey_headers` does.

    Returns:
        headers by case name.

    Raises:
        DataError: every unreadable file and every mask of another shape or place, with CSV row and patient.
    """
    headers: dict[str, CaseHeaders] = {}
    problems: list[str] = []
    n_missing = 0
    for found in survey_headers(cases, mask_affine=mask_affine, reading=reading):
        problems += [f"{csv_path}:{found.case.row}: patient {found.case.patient}: {problem}" for problem in found.problems]
        n_missing += found.n_missing
        if found.headers is not None:
            headers[found.case.name] = found.headers
    if problems:
        remedy = f"Missing files: {n_missing}. Paths in {csv_path} are relative to its own folder, {csv_path.parent.resolve()}."
        raise DataError([*shortened(problems), *([remedy] if n_missing else [])])
    return headers


@dataclass(frozen=True)
class VoxelFindings:
    """Image and mask of a case, read in full; None and a problem for what cannot be used."""

    image: Volume | None
    mask: Volume | None
    problems: tuple[str, ...]


def examine_voxels(
    case: Case, headers: CaseHeaders, *, num_classes: int | None = None, mask_affine: MaskAffine = "strict", reading: Reading = AS_IT_IS
) -> VoxelFindings:
    """Read image and mask of one case in full and say what is wrong with their voxels, without an error.

    Args:
        case: a row of the table.
        headers: its headers, from `survey_headers` or `check_headers`.
        num_classes: labels the mask may hold, background included; None allows any.
        mask_affine, reading: as for `survey_headers`.
    """
    problems: list[str] = []
    image = mask = None
    try:
        image = read_volume(case.image, reading)
    except DataError as error:
        problems += [f"image {problem}" for problem in error.problems]
    if case.mask is not None:
        affine_of = headers.mask_grid(takes_image_affine=mask_affine == "from_image")
        try:
            mask = read_mask(case.mask, reading, affine_of=affine_of)
            problems += [f"mask {case.mask}: {problem}" for problem in _label_problems(mask.array, num_classes)]
        except DataError as error:
            problems += [f"mask {problem}" for problem in error.problems]
    return VoxelFindings(image, mask, tuple(problems))


def check_masks(cases: Sequence[Case], num_classes: int, *, csv_path: Path) -> dict[str, NDArray[np.int64]]:
    """Read the masks of all cases in full and count their voxels per label, background first.

    Returns:
        counts by case name, each (num_classes,).

    Raises:
        DataError: every mask with a label that is negative, not whole, or not below `num_classes`, with CSV row and patient.
    """
    counts: dict[str, NDArray[np.int64]] = {}
    problems: list[str] = []
    for case in cases:
        if case.mask is None:
            continue
        where = f"{csv_path}:{case.row}: patient {case.patient}"
        try:
            labels = read_mask(case.mask).array
        except DataError as error:
            problems += [f"{where}: mask {problem}" for problem in error.problems]
            continue
        wrong = _label_problems(labels, num_classes)
        if wrong:
            problems += [f"{where}: mask {case.mask}: {problem}" for problem in wrong]
            continue
        counts[case.name] = label_voxels(labels, num_classes)
    if problems:
        raise DataError(shortened(problems))
    return counts


def label_voxels(labels: Voxels, num_classes: int) -> NDArray[np.int64]:
    """Count the voxels of each label 0 ... num_classes - 1, (num_classes,)."""
    counts = np.zeros(num_classes, dtype=np.int64)
    for plane in labels:  # bincount makes an int64 copy of what it is given
        counts += np.bincount(plane.reshape(-1), minlength=num_classes)
    return counts


def _label_problems(labels: Voxels, num_classes: int | None) -> list[str]:
    if num_classes is None or int(labels.max()) < num_classes:
        return []
    found = ", ".join(str(value) for value in np.unique(labels)[:12])
    return [
        f"holds the labels {found}; with num_classes: {num_classes} labels are 0 to {num_classes - 1}. "
        "Set num_classes (background included) or correct the mask."
    ]


def _header_or_problem(path: Path, what: str, problems: list[str], reading: Reading) -> ScanHeader | None:
    try:
        return read_header(path, reading)
    except DataError as error:
        problems += [f"{what} {problem}" for problem in error.problems]
        return None


def _mask_header_or_problem(path: Path, problems: list[str], reading: Reading, image: ScanHeader | None) -> ScanHeader | None:
    try:
        return read_header(path, reading.of_masks) if image is None else read_mask_header(path, reading, image.source)
    except DataError as error:
        problems += [f"mask {problem}" for problem in error.problems]
        return None


def _compare(image: Grid, mask: Grid, mask_affine: MaskAffine) -> str:
    """Describe how the mask's grid differs from the image's; "" if it does not."""
    if mask_affine == "from_image":
        if mask.shape != image.shape:
            return f"has shape {mask.shape}, its image {image.shape}. Correct the seg_path or write the mask on the image's grid."
        return ""
    if mask.oriented(RAS).shape != image.oriented(RAS).shape:
        return (
            f"has shape {mask.shape} in {mask.orientation}, its image {image.shape} in {image.orientation}. "
            "Correct the seg_path or write the mask on the image's grid."
        )
    shift = corner_shift(image.oriented(RAS), mask.oriented(RAS))
    if shift > MAX_CORNER_SHIFT:
        return (
            f"lies elsewhere than its image: a corner is {shift:.1f} voxels off. Correct the mask's affine, or set "
            "mask_affine: from_image if its voxels do belong to the image's and only its affine is wrong."
        )
    return ""


def _compare_channels(first: Grid, other: Grid) -> str:
    """Describe how a further channel's grid differs from the first's; "" if it does not."""
    remedy = "Resample the channels of a case to one grid."
    if other.oriented(RAS).shape != first.oriented(RAS).shape:
        return f"has shape {other.shape} in {other.orientation}, the first channel {first.shape} in {first.orientation}. {remedy}"
    shift = corner_shift(first.oriented(RAS), other.oriented(RAS))
    return f"lies elsewhere than the first channel: a corner is {shift:.1f} voxels off. {remedy}" if shift > MAX_CORNER_SHIFT else ""


def corner_shift(image: Grid, mask: Grid) -> float:
    """Return the largest distance between corresponding corners of two grids of one shape, in voxels of `image` along its axes."""
    index = Grid(image.shape, np.eye(4)).corners()
    there = np.linalg.solve(image.affine, np.c_[mask.corners(), np.ones(len(index))].T).T[:, :3]
    return float(np.abs(there - index).max())
