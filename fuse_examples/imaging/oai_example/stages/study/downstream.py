"""The downstream stage that a study runs in each of its cells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fuse_examples.imaging.oai_example.configuration.classification_config import ClassificationConfig
from fuse_examples.imaging.oai_example.configuration.label_efficiency_config import LabelEfficiencyConfig
from fuse_examples.imaging.oai_example.configuration.loading import load_config
from fuse_examples.imaging.oai_example.configuration.origin import Origin, display_path
from fuse_examples.imaging.oai_example.configuration.overrides import Override
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.data.cases import Case, read_cases
from fuse_examples.imaging.oai_example.data.class_index import ClassIndex
from fuse_examples.imaging.oai_example.data.targets import check_scorable, check_targets, check_types, learn_targets
from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.stages.feasibility import Trial
from fuse_examples.imaging.oai_example.training.interruption import Interruption

DownstreamConfig = SegmentationConfig | ClassificationConfig


@dataclass(frozen=True)
class Downstream:
    """What a study needs of a stage.

    Attributes:
        train: trains a run; with a true last argument it only tries it, and returns what the trial took.
        evaluate: tests a run.
    """

    train: Callable[[Any, Interruption, bool], Trial | None]
    evaluate: Callable[[Any], None]


def downstream_stage(name: str) -> Downstream:
    """The stage by its name, "segmentation" or "classification"."""
    # Imported here, so that a study can be looked at without the networks.
    if name == "segmentation":
        from fuse_examples.imaging.oai_example.stages import segmentation

        return Downstream(lambda config, interruption, check: segmentation.train(config, interruption, check=check), segmentation.evaluate)
    from fuse_examples.imaging.oai_example.stages import classification

    return Downstream(lambda config, interruption, check: classification.train(config, interruption, check=check), classification.evaluate)


def read_downstream_config(config: LabelEfficiencyConfig) -> DownstreamConfig:
    """The stage's YAML file with the overrides, held against what a study needs of it.

    Raises:
        ConfigError: its mistakes; settings that would make cells unlike each other.
    """
    schema: type[DownstreamConfig] = SegmentationConfig if config.stage == "segmentation" else ClassificationConfig
    further = [
        Override((*key.split("."), *inner), value, f"overrides.{key}", Origin("command line", f"overrides: {key}", place))
        for place, (key, block) in enumerate(config.overrides.items())
        for inner, value in _leaves(block)
    ]
    base = load_config(schema, config.downstream_config, further=further, files_must_exist=True)
    problems = [*_unfair(base)]
    if problems:
        name = display_path(config.downstream_config)
        raise ConfigError([f"{name}: {text}" for text in problems])
    return base


def read_all_cases(base: DownstreamConfig) -> tuple[Case, ...]:
    """Every row of the stage's table."""
    return read_cases(
        base.csv_path,
        masks=isinstance(base, SegmentationConfig),
        targets=targets_of(base),
        extra=[*base.report_by, *(getattr(base, "covariates", None) or {})],
        channels=base.channels or (),
    )


def targets_of(base: DownstreamConfig) -> tuple[str, ...]:
    """The columns that a classifier predicts; none of a segmenter."""
    return base.cls_targets if isinstance(base, ClassificationConfig) else ()


def compared_target(config: LabelEfficiencyConfig, base: DownstreamConfig) -> str | None:
    """The column whose score is compared; None for a segmenter. Raises ConfigError for one that is not predicted."""
    if not isinstance(base, ClassificationConfig):
        return None
    if config.target is not None and config.target not in base.cls_targets:
        raise ConfigError(f"target: {config.target} is not among cls_targets: {', '.join(base.cls_targets)} of {config.downstream_config}")
    return config.target or base.cls_targets[0]


def is_continuous(base: DownstreamConfig, target: str | None) -> bool:
    """Whether a target holds numbers."""
    return isinstance(base, ClassificationConfig) and (base.target_types or {}).get(target or "") == "continuous"


def same_in_all_cells(base: DownstreamConfig, training: Sequence[Case]) -> dict[str, Any]:
    """What must not be found out from a few labels: the positive class, which may be the more frequent one of a small subset."""
    if not isinstance(base, ClassificationConfig):
        return {}
    types = base.target_types or {}
    check_types({"the training folds": training}, base.cls_targets, types, base.csv_path)
    learned = learn_targets(training, base.cls_targets, types, base.positive_class, base.csv_path)
    positive = {one.target: one.positive for one in learned if isinstance(one, ClassIndex) and one.positive and not one.ordinal}
    return {"positive_class": positive or None}


def check_subset(base: DownstreamConfig, training: Sequence[Case], validation: Sequence[Case], test: Sequence[Case]) -> None:
    """Refuse a subset that a classifier could not learn from or choose an epoch by. Raises DataError."""
    if isinstance(base, ClassificationConfig):
        learned = learn_targets(training, base.cls_targets, base.target_types or {}, base.positive_class, base.csv_path)
        check_targets({"the validation patients": validation, "the test folds": test}, learned, base.csv_path)
        check_scorable(validation, learned, base.csv_path)


def _leaves(value: Any) -> list[tuple[tuple[str, ...], Any]]:
    """A block's values by their paths inside; any other value by the empty path."""
    if not isinstance(value, Mapping):
        return [((), value)]
    return [((key, *path), leaf) for key, inner in value.items() for path, leaf in _leaves(inner)]


def _unfair(base: DownstreamConfig) -> list[str]:
    """Settings with which cells would differ in more than initialisation, budget and seed."""
    found = []
    for key in ("test_ckpt", "resume_training_from", "suprem_weights", "dino_weights", "cross_validation", "early_stopping_patience"):
        if getattr(base, key) is not None:
            found.append(f"{key} is set; a study sets it for each of its runs. Lay null over it, in the file or under overrides.")
    for key in ("allow_patient_overlap", "allow_pretraining_overlap"):
        if getattr(base, key):
            found.append(f"{key} is true; a study whose test patients were learnt from answers nothing. Set it to false.")
    for key in ("devices", "num_nodes"):
        if getattr(base, key) != 1:
            found.append(f"{key} is {getattr(base, key)}; a run of a study is one process. Set it to 1; jobs says how many run at a time.")
    if not base.test_folds:
        found.append("test_folds is empty; name the folds that all runs are compared on.")
    if isinstance(base, SegmentationConfig):
        planned = [key for key in ("batch_size", *(() if base.resize_to else ("patch_size", "spacing"))) if getattr(base, key) is None]
        found += [f"{key} is null and would be planned from the training patients of each run, which differ; set it." for key in planned]
    return found
