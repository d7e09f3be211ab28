"""Brings the selected cases into the store before training, and says of each that fails which row it is and why."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.header_check import CaseHeaders
from fuse_examples.imaging.oai_example.data.problem_lists import shortened
from fuse_examples.imaging.oai_example.data.store import StoredImage, StoredMask, VolumeStore
from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.geometry.resampling import compile_for

log = logging.getLogger(__name__)

OnBadCase = Literal["stop", "skip"]
MAX_PUT_ASIDE = 0.01


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

    def images(self) -> tuple[StoredImage, ...]:
        """All channels, the first of them `image()`."""
        further = zip(self.case.further_images, self.headers.further_images, strict=True)
        return self.image(), *(self.store.image(path, header.fingerprint) for path, header in further)

    def mask(self) -> StoredMask:
        """The label mask, memory-mapped; only for cases that have one."""
        assert self.case.mask is not None
        assert self.headers.mask is not None
        affine_of = self.headers.mask_grid(takes_image_affine=self.mask_takes_image_affine)
        return self.store.mask(self.case.mask, self.headers.mask.fingerprint, affine_of)


@dataclass(frozen=True)
class BadCase:
    """A case whose headers were good and whose voxels cannot be used, and why."""

    case: Case
    problems: tuple[str, ...]


@dataclass(frozen=True)
class PreparedCases:
    """What `prepare_cases` brought into the store, in the order of the table, and what it put aside."""

    volumes: tuple[CaseVolumes, ...]
    bad: tuple[BadCase, ...]


def prepare_cases(
    cases: Sequence[Case],
    headers: Mapping[str, CaseHeaders],
    store: VolumeStore,
    csv_path: Path,
    *,
    num_classes: int | None = None,
    mask_takes_image_affine: bool = False,
    window: tuple[float, float] | None = None,
    on_bad_case: OnBadCase = "stop",
) -> PreparedCases:
    """Read, check and store every image and mask of `cases`.

    Args:
        cases: all cases of the run, of training and of evaluation, so that all problems are told together.
        headers: by case name, as `check_headers` returned them.
        store: where the volumes go.
        csv_path: named in messages.
        num_classes: labels that masks may hold, background included; None allows any.
        mask_takes_image_affine: whether a mask's own affine is ignored.
        window: intensities between which images are clipped; None where they are not.
        on_bad_case: "skip" puts cases aside that cannot be used, if they are at most 1 % of `cases`.

    Raises:
        DataError: with a line for each case that cannot be read, has an image that is constant, not finite or beside `window`, or a label
            of `num_classes` or more; with "skip" where these are more than 1 %.
    """
    store.remove_abandoned()
    affines = {case.name: headers[case.name].mask_grid(takes_image_affine=mask_takes_image_affine) for case in cases}
    with_mask = [(case.mask, headers[case.name].mask, affines[case.name]) for case in cases if case.mask is not None]
    store.check_room(
        [pair for case in cases for pair in zip(case.images, headers[case.name].images, strict=True)],
        [(path, header, affine_of) for path, header, affine_of in with_mask if header is not None],
    )
    good: list[CaseVolumes] = []
    bad: list[BadCase] = []
    number_types: set[np.dtype[Any]] = set()
    for case in tqdm(cases, desc="Reading scans", unit="case", disable=None, leave=False):
        volumes = CaseVolumes(case, store, headers[case.name], mask_takes_image_affine)
        try:
            images = volumes.images()
            number_types.update(image.array.dtype for image in images)
            check_window(case, images, window)
            if case.mask is not None:
                _check_labels(volumes, num_classes)
                number_types.add(volumes.mask().array.dtype)
        except DataError as error:
            bad.append(BadCase(case, error.problems))
        else:
            good.append(volumes)
    _judge(bad, len(cases), csv_path, on_bad_case)
    compile_for(number_types)
    return PreparedCases(tuple(good), tuple(bad))


def _judge(bad: Sequence[BadCase], n_cases: int, csv_path: Path, on_bad_case: OnBadCase) -> None:
    """Raise unless the bad cases may be put aside; log them if they may."""
    lines = [f"{csv_path}:{one.case.row}: patient {one.case.patient}: {problem}" for one in bad for problem in one.problems]
    few = len(bad) <= MAX_PUT_ASIDE * n_cases
    if bad and (on_bad_case == "stop" or not few):
        limit = f"{len(bad)} of {n_cases} cases cannot be used"
        if on_bad_case == "skip":
            remedy = [
                f"{limit}; on_bad_case: skip puts aside at most 1 % ({int(MAX_PUT_ASIDE * n_cases)}). Correct the table or the files."
            ]
        else:
            remedy = [f"{limit}. Correct the table or the files, or put these aside with on_bad_case: skip."] if few else []
        raise DataError([*shortened(lines), *remedy])
    for line in lines:
        log.warning("put aside: %s", line)


def check_window(case: Case, images: Sequence[StoredImage], window: tuple[float, float] | None) -> None:
    """Refuse an image of a case that `window`, if there is one, makes constant: the network would see nothing of it.

    Raises:
        DataError: with the image's values and the window.
    """
    if window is None:
        return
    for path, image in zip(case.images, images, strict=True):
        lowest, highest = image.statistics.minimum, image.statistics.maximum
        if highest <= window[0] or lowest >= window[1]:
            side = "below" if highest <= window[0] else "above"
            raise DataError(
                f"{path}: its values, {lowest:g} to {highest:g}, all lie {side} intensity.window {list(window)}, which leaves nothing of "
                "the image. A window is in the scan's own units (HU for CT): correct the file, or train with a window that fits, or with "
                "intensity.method: percentile."
            )


def _check_labels(volumes: CaseVolumes, num_classes: int | None) -> None:
    counts = volumes.mask().label_counts
    highest = max(counts)
    if num_classes is not None and highest >= num_classes:
        raise DataError(
            f"the mask {volumes.case.mask} holds label {highest} ({counts[highest]} voxels), but num_classes is {num_classes}, "
            f"which allows labels 0 to {num_classes - 1}. Set num_classes to {highest + 1} or correct the mask."
        )
