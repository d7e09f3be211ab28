"""From slices in the order in which a scan's files are numbered to the series' own grid, and whether lateral is lateral there."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.data.dicom_files import parse_folder
from fuse_examples.imaging.oai_example.data.dicom_frames import Frame, frames_of
from fuse_examples.imaging.oai_example.data.dicom_pixels import same_image, stored_values
from fuse_examples.imaging.oai_example.data.dicom_series import stack_frames
from fuse_examples.imaging.oai_example.data.reading import AS_IT_IS
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.geometry.volume import Grid, from_file_order
from fuse_examples.imaging.oai_example.prepare.knee_contours.outlines import STRUCTURES
from fuse_examples.imaging.oai_example.prepare.sides import LEFT, RIGHT
from fuse_examples.imaging.oai_example.training.safe_files import written_beside

SliceOrder = Literal["numbered", "reversed", "by_anatomy"]
_PAIRS = (("LateralTibialCartilage", "MedialTibialCartilage"), ("LateralMeniscus", "MedialMeniscus"))


@dataclass(frozen=True)
class NumberedSeries:
    """A DICOM series whose slices also have numbers.

    Attributes:
        grid: in file order: columns, rows, slices along the normal.
        places: for each slice by number the index along the normal, (slices,).
        frames: in order along the normal.
    """

    grid: Grid
    places: NDArray[np.intp]
    frames: tuple[Frame, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a slice."""
        return self.grid.shape[1], self.grid.shape[0]

    def on_grid(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return labels (slices by number, rows, columns) as the grid's array (columns, rows, slices along the normal)."""
        placed = np.zeros_like(labels)
        placed[self.places] = labels
        return placed.transpose(2, 1, 0)

    def stored_slices(self) -> list[NDArray[Any]]:
        """Stored voxels of each slice (rows, columns), along the normal."""
        return [stored_values(frame) for frame in self.frames]


def read_numbered_series(folder: Path) -> NumberedSeries:
    """Read the headers of a series; raise `DataError` for what is not one volume, or has no distinct slice numbers."""
    frames = [frame for image in parse_folder(folder, pixels=False).images for frame in frames_of(image)]
    if not frames:
        raise DataError(f"{folder}: holds no DICOM image.")
    stack = stack_frames(frames, folder, same_image, AS_IT_IS)
    return NumberedSeries(Grid(stack.shape, stack.affine), _places(stack.frames, folder), stack.frames)


def _places(frames: Sequence[Frame], folder: Path) -> NDArray[np.intp]:
    """Order by InstanceNumber; where that is missing by file names that are numbers, as OAI's 001, 002, ..."""
    for texts in ([str(frame.file.values.get("InstanceNumber", "")) for frame in frames], [frame.file.path.stem for frame in frames]):
        if all(text.isdecimal() for text in texts) and len({int(text) for text in texts}) == len(texts):
            return np.argsort([int(text) for text in texts])
    raise DataError(f"{folder}: its slices have neither distinct instance numbers nor numbers as names, so outlines cannot be assigned.")


def lateral_is_lateral(labels: NDArray[Any], affine: NDArray[np.float64], side: str) -> bool | None:
    """Whether lateral structures lie further out than medial ones, for a mask in file order; None where it holds no such pair.

    Lateral is to the patient's right in a right knee and to the left in a left one. It is the one thing by which a mask with its
    slices in reverse, which fits a knee's outline just as well, gives itself away.
    """
    volume = from_file_order(labels, affine)
    for lateral, medial in _PAIRS:
        centres = [_mean_right(volume.array, STRUCTURES.index(name) + 1, volume.affine) for name in (lateral, medial)]
        if centres[0] is not None and centres[1] is not None:
            outwards = centres[0] - centres[1]
            return (outwards > 0) == (side == RIGHT) if side in (LEFT, RIGHT) else None
    return None


def _mean_right(array: NDArray[Any], label: int, affine: NDArray[np.float64]) -> float | None:
    index = np.argwhere(array == label)
    return float(affine[0] @ [*index.mean(axis=0), 1]) if len(index) else None


def write_labels(path: Path, labels: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Write a compressed NIfTI file whole."""

    image = nib.Nifti1Image(np.ascontiguousarray(labels), affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm")
    with written_beside(path) as file:
        file.write(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))
