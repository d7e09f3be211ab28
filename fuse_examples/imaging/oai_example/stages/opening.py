"""The first thing every stage does: read the table, choose the cases of the run, and look at their headers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.data.cases import Case, read_cases
from fuse_examples.imaging.oai_example.data.header_check import CaseHeaders, check_headers
from fuse_examples.imaging.oai_example.data.splits import split_cases
from fuse_examples.imaging.oai_example.stages.resolution import makes_views_on_device, reading_of

FOLD_COUNTS = "fold_counts"
"""The entry of a checkpoint that says how many cases and patients of which folds its network learnt from and was validated on."""


@dataclass(frozen=True)
class OpenedCases:
    """The cases a run uses and their headers by case name.

    Attributes:
        train: cases to learn from; in a test run only where its probes need them.
        evaluation: validation cases in training, test cases in a test run.
        test: cases of the test folds, also in training, when they are not opened: no weights may have seen them.
        headers: of both.
    """

    train: tuple[Case, ...]
    evaluation: tuple[Case, ...]
    test: tuple[Case, ...]
    headers: Mapping[str, CaseHeaders]

    def fold_counts(self) -> dict[str, dict[str, list[int]]]:
        """Part -> fold -> [cases, patients] of what a training run uses, as plain values."""
        return {part: _per_fold(cases) for part, cases in (("training", self.train), ("validation", self.evaluation))}

    def median_spacing(self, orientation: str) -> tuple[float, float, float]:
        """Median voxel size of the training images along each axis of `orientation`, in mm, to a micrometre."""
        spacings = [self.headers[case.name].image.source.oriented(orientation).spacing for case in self.train]
        first, second, third = np.round(np.median(spacings, axis=0), 3).tolist()
        return first, second, third


def _per_fold(cases: Sequence[Case]) -> dict[str, list[int]]:
    folds: dict[str, list[Case]] = {}
    for case in cases:
        folds.setdefault(case.fold, []).append(case)
    return {fold: [len(members), len({case.patient for case in members})] for fold, members in sorted(folds.items())}


def open_cases(
    config: StageConfig,
    *,
    masks: bool,
    targets: Sequence[str] = (),
    extra: Sequence[str] = (),
    mask_affine: Literal["strict", "from_image"] = "strict",
    train_in_test: bool = False,
) -> OpenedCases:
    """Choose the cases of the folds that the run uses, and check that their files exist and fit together.

    Raises:
        ConfigError: views are to be made on a GPU that is not there.
        DataError: with every problem of one kind; see `data.cases`, `data.splits` and `data.header_check`.
    """
    testing = config.test_ckpt is not None
    of_test = ("train_folds", "test_folds") if train_in_test else ("test_folds",)
    if not testing:
        makes_views_on_device(config)  # a GPU that is not there is told before files are opened
    splits = split_cases(
        read_cases(config.csv_path, masks=masks, targets=targets, extra=extra, channels=config.channels or ()),
        config.train_folds,
        config.val_folds,
        config.test_folds,
        used=of_test if testing else ("train_folds", "val_folds"),
        allow_patient_overlap=config.allow_patient_overlap,
        csv_path=config.csv_path,
    )
    train = splits.train if train_in_test or not testing else ()
    evaluation = splits.test if testing else splits.val
    headers = check_headers([*train, *evaluation], csv_path=config.csv_path, mask_affine=mask_affine, reading=reading_of(config))
    return OpenedCases(train, evaluation, splits.test, headers)
