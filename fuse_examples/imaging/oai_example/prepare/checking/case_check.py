"""One case: what its headers say, what is wrong with it, its labels, its content and its picture."""

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.dicom_segmentation import find_dicom_seg
from fuse_examples.imaging.oai_example.data.header_check import MaskAffine, label_voxels, survey_headers
from fuse_examples.imaging.oai_example.data.reading import Reading
from fuse_examples.imaging.oai_example.data.scans import ScanHeader, read_mask, read_volume
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.geometry.volume import Volume
from fuse_examples.imaging.oai_example.prepare.checking.pictures import Tile, tile_of
from fuse_examples.imaging.oai_example.prepare.sides import side_in

PLANES = {"R": "sagittal", "L": "sagittal", "A": "coronal", "P": "coronal", "S": "axial", "I": "axial"}


@dataclass(frozen=True)
class CheckedCase:
    """What is known of a case.

    Attributes:
        case: the row.
        header: of its image; None where that cannot be read.
        problems: why the row cannot be used; empty if it can.
        notes: what is odd but no obstacle.
        labels: voxels per label of its mask.
        digest: hash of the image's values in RAS order; "" where they were not read.
        tile: its picture, where one was asked for.
    """

    case: Case
    header: ScanHeader | None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    labels: dict[int, int] = field(default_factory=dict)
    digest: str = ""
    tile: Tile | None = None

    def noted(self, *notes: str) -> "CheckedCase":
        """Return the case with further notes."""
        return replace(self, notes=(*self.notes, *notes))

    @property
    def side(self) -> str:
        """LEFT, RIGHT or "", from the series description or the path."""
        return (side_in(self.header.description) if self.header else "") or side_in(self.case.image.name.split(".")[0])


def slice_axis(header: ScanHeader) -> int:
    """Return the axis, in file order, across the slices: the third, unless a NIfTI is clearly coarser along another."""
    spacing = header.source.spacing
    coarsest = int(np.argmax(spacing))
    return coarsest if header.kind == "NIfTI" and spacing[coarsest] > 1.2 * sorted(spacing)[1] else 2


def plane_of(header: ScanHeader) -> str:
    """Return the plane of the slices: sagittal, coronal or axial."""
    return PLANES[header.source.orientation[slice_axis(header)]]


def check_header(case: Case, mask_affine: MaskAffine, reading: Reading) -> CheckedCase:
    """Read the headers of a case and compare its mask's grid with its image's."""
    found = next(survey_headers([case], mask_affine=mask_affine, reading=reading))
    return CheckedCase(case, found.headers.image if found.headers else None, found.problems)


def check_voxels(checked: CheckedCase, mask_affine: MaskAffine, reading: Reading, *, image: bool, picture: bool) -> CheckedCase:
    """Read the mask in full and, with `image`, all channels of the image; problems are collected, the picture made if it can be."""
    if checked.header is None:
        return checked
    problems: list[str] = []
    labels: dict[int, int] = {}
    digest, volume, mask = "", None, None
    if checked.case.mask is not None:
        try:
            on_image = mask_affine == "from_image" or find_dicom_seg(checked.case.mask) is not None
            affine_of = checked.header.source if on_image else None
            mask = read_mask(checked.case.mask, reading.of_masks, affine_of=affine_of)
            counts = label_voxels(mask.array, int(mask.array.max()) + 1)
            labels = {int(label): int(counts[label]) for label in np.flatnonzero(counts)}
        except DataError as error:
            problems += [f"mask {problem}" for problem in error.problems]
    if image:
        try:
            volume = read_volume(checked.case.image, reading)
            digest = digest_of(volume)
        except DataError as error:
            problems += [f"image {problem}" for problem in error.problems]
        for path in checked.case.further_images:
            try:
                read_volume(path, reading)
            except DataError as error:
                problems += [f"image {problem}" for problem in error.problems]
    notes = ("its mask is empty",) if mask is not None and set(labels) == {0} else ()
    tile = tile_of(volume, mask, plane_of(checked.header)) if picture and volume is not None else None
    return replace(checked, problems=(*checked.problems, *problems), labels=labels, digest=digest, tile=tile).noted(*notes)


def digest_of(volume: Volume) -> str:
    """Hash the values in RAS order as float32: the same for a DICOM series and the NIfTI made of it."""
    digest = hashlib.blake2b(repr(volume.array.shape).encode(), digest_size=16)
    for plane in volume.array:
        digest.update(np.ascontiguousarray(plane, dtype=np.float32).data)
    return digest.hexdigest()
