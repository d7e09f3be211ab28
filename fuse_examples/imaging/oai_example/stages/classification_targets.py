"""What a classification run takes from its table: the columns it needs, and what the training cases teach of targets and covariates."""

from collections.abc import Sequence
from typing import Any

from fuse_examples.imaging.oai_example.configuration.classification_config import ClassificationConfig
from fuse_examples.imaging.oai_example.data.cases import Case, read_cases
from fuse_examples.imaging.oai_example.data.class_index import ClassIndex
from fuse_examples.imaging.oai_example.data.covariates import Covariates, check_covariates, learn_covariates
from fuse_examples.imaging.oai_example.data.targets import LearnedTarget, check_scorable, check_targets, check_types, learn_targets
from fuse_examples.imaging.oai_example.stages.opening import OpenedCases, open_cases


def _extra_columns(config: ClassificationConfig) -> list[str]:
    """Columns of the table that are neither images nor targets."""
    return list(dict.fromkeys([*config.report_by, *(config.covariates or {})]))


def read_labelled(config: ClassificationConfig) -> tuple[Case, ...]:
    """All cases of the table, whatever their fold. Raises DataError."""
    return read_cases(config.csv_path, masks=False, targets=config.cls_targets, extra=_extra_columns(config))


def open_labelled(config: ClassificationConfig) -> OpenedCases:
    """The cases of the run, their headers checked. Raises DataError."""
    return open_cases(config, masks=False, targets=config.cls_targets, extra=_extra_columns(config))


def learned_targets(config: ClassificationConfig, cases: OpenedCases) -> tuple[LearnedTarget, ...]:
    """What the training cases teach of each target, held against all other cases of the run. Raises DataError."""
    others = {"the validation folds": cases.evaluation, "the test folds": cases.test}
    types = config.target_types or {}
    check_types({"the training folds": cases.train, **others}, config.cls_targets, types, config.csv_path)
    learned = learn_targets(cases.train, config.cls_targets, types, config.positive_class, config.csv_path)
    check_targets(others, learned, config.csv_path)
    check_scorable(cases.evaluation, learned, config.csv_path)
    return learned


def learned_covariates(config: ClassificationConfig, cases: OpenedCases) -> Covariates:
    """What the training cases teach of each covariate, held against all other cases of the run. Raises DataError."""
    covariates = learn_covariates(cases.train, config.covariates or {}, config.csv_path)
    others = {"the validation folds": cases.evaluation, "the test folds": cases.test}
    check_covariates(others, covariates, config.csv_path)
    return covariates


def described(learned: LearnedTarget) -> str:
    """A line of the log about a target."""
    if not isinstance(learned, ClassIndex):
        return f"{learned.target}: {learned.count} training cases, mean {learned.mean:.4g}, standard deviation {learned.std:.4g}"
    counts = ", ".join(f"{name!r} {count}" for name, count in zip(learned.classes, learned.counts, strict=True))
    positive = f"; positive class: {learned.positive!r}" if learned.positive and not learned.ordinal else ""
    return f"{learned.target}: training cases per {'grade' if learned.ordinal else 'class'}: {counts}{positive}"


def stratum(config: ClassificationConfig) -> tuple[str, bool]:
    """The target whose classes dealt folds share evenly: the first."""
    target = config.cls_targets[0]
    return target, (config.target_types or {}).get(target) == "continuous"


def same_in_all_folds(config: ClassificationConfig, cases: Sequence[Case]) -> dict[str, Any]:
    """The positive classes: the rarer class of one fold may be the more frequent one of another."""
    types = config.target_types or {}
    check_types({"the chosen folds": cases}, config.cls_targets, types, config.csv_path)
    learned = learn_targets(cases, config.cls_targets, types, config.positive_class, config.csv_path)
    positive = {one.target: one.positive for one in learned if isinstance(one, ClassIndex) and one.positive and not one.ordinal}
    return {"positive_class": positive or None}
