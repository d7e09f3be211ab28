"""Brings the selected cases into the store before training, and says of each that fails which row it is and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.header_check import CaseHeaders
from fuse_examples.imaging.oai_example.data.problem_lists import shortened
from fuse_examples.imaging.oai_example.data.store import StoredImage, StoredMask, VolumeStore
from fuse_examples.imaging.oai_example.errors import DataError


@dataclass(frozen=True)
class CaseVolumes:
    """A case whose volumes are in the store; opened where they are needed, also in a worker process."""

    case: Case
    store: VolumeStore
    headers: CaseHeaders
    mask_takes_image_affine: bool = False

    def image(self) -> StoredImage:
        """The image, memory-mapped."""
        return self.store.image(self.case.image, self.headers.image.fingerprint)

    def mask(self) -> StoredMask:
        """The label mask, memory-mapped; only for cases that have one."""
        assert self.case.mask is not None
        assert self.headers.mask is not None
        affine_of = self.headers.image.source if self.mask_takes_image_affine else None
        return self.store.mask(self.case.mask, self.headers.mask.fingerprint, affine_of)


def prepare_cases(
    cases: Sequence[Case],
    headers: Mapping[str, CaseHeaders],
    store: VolumeStore,
    csv_path: Path,
    *,
    num_classes: int | None = None,
    mask_takes_image_affine: bool = False,
) -> tuple[CaseVolumes, ...]:
    """Read, check and store every image and mask of `cases`.

    Raises:
        DataError: with one line for each case that cannot be read, has a constant or non-finite image, or a label of `num_classes` or more.
    """
    store.remove_abandoned()
    prepared, problems = [], []
    for case in tqdm(cases, desc="Reading scans", unit="case", disable=None, leave=False):
        volumes = CaseVolumes(case, store, headers[case.name], mask_takes_image_affine)
        try:
            volumes.image()
            if case.mask is not None:
                _check_labels(volumes, num_classes)
        except DataError as error:
            problems += [f"{csv_path}:{case.row}: patient {case.patient}: {problem}" for problem in error.problems]
        prepared.append(volumes)
    if problems:
        raise DataError(shortened(problems))
    return tuple(prepared)


def _check_labels(volumes: CaseVolumes, num_classes: int | None) -> None:
    counts = volumes.mask().label_counts
    highest = max(counts)
    if num_classes is not None and highest >= num_classes:
        raise DataError(
            f"the mask {volumes.case.mask} holds label {highest} ({counts[highest]} voxels), but num_classes is {num_classes}, "
            f"which allows labels 0 to {num_classes - 1}. Set num_classes to {highest + 1} or correct the mask."
        )
