"""The cases of a run in the store, and those that it puts aside."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.data.preparation import BadCase, CaseVolumes, prepare_cases
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_table
from fuse_examples.imaging.oai_example.stages.opening import OpenedCases
from fuse_examples.imaging.oai_example.stages.resolution import store_of
from fuse_examples.imaging.oai_example.training.run import is_first_process

BAD_CASES = "bad_cases.csv"


@dataclass(frozen=True)
class StoredCases:
    """The cases of a run that are in the store: those to learn from and those to evaluate, and lines about those put aside."""

    train: tuple[CaseVolumes, ...]
    evaluation: tuple[CaseVolumes, ...]
    notes: tuple[str, ...]


def store_cases(
    config: StageConfig,
    cases: OpenedCases,
    folder: Path | None,
    *,
    num_classes: int | None = None,
    mask_takes_image_affine: bool = False,
) -> StoredCases:
    """Bring the run's cases into the store.

    Args:
        config: the resolved configuration; its `on_bad_case` says what becomes of a case that cannot be used.
        cases: the opened cases of the run.
        folder: where `bad_cases.csv` goes if cases are put aside; None writes nothing.
        num_classes, mask_takes_image_affine: as for `prepare_cases`.

    Raises:
        DataError: all cases that cannot be used, unless they are put aside.
    """
    prepared = prepare_cases(
        list({case.name: case for case in (*cases.train, *cases.evaluation)}.values()),  # a case may stand in both, where that is allowed
        cases.headers,
        store_of(config),
        config.csv_path,
        num_classes=num_classes,
        mask_takes_image_affine=mask_takes_image_affine,
        window=config.intensity.window,
        on_bad_case=config.on_bad_case,
    )
    if prepared.bad and folder is not None and is_first_process():
        _write(folder / BAD_CASES, prepared.bad)
    stored = {one.case.name: one for one in prepared.volumes}
    train, evaluation = ([stored[case.name] for case in chosen if case.name in stored] for chosen in (cases.train, cases.evaluation))
    return StoredCases(tuple(train), tuple(evaluation), _notes(prepared.bad))


def _notes(bad: Sequence[BadCase]) -> tuple[str, ...]:
    if not bad:
        return ()
    return (f"{len(bad)} case{'s' * (len(bad) != 1)} put aside, see {BAD_CASES}: {', '.join(one.case.name for one in bad)}",)


def _write(path: Path, bad: Sequence[BadCase]) -> None:
    rows = [[one.case.row, one.case.patient, one.case.fold, one.case.image, one.case.mask, " ".join(one.problems)] for one in bad]
    write_table(path, ["row", "PatientID", "fold", "image", "mask", "problem"], rows)
