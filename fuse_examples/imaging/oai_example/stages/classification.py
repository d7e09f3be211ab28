"""The classification stage: a frozen configuration in, a trained or tested classifier's run folder out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, EarlyStopping

from fuse_examples.imaging.oai_example.configuration.classification_config import ClassificationConfig
from fuse_examples.imaging.oai_example.configuration.precedence import READING, TAUGHT_WITH
from fuse_examples.imaging.oai_example.data.cases import Case, read_cases
from fuse_examples.imaging.oai_example.data.class_index import ClassIndex
from fuse_examples.imaging.oai_example.data.classification_views import LabelledVolumes, balanced_sampling, balanced_weights
from fuse_examples.imaging.oai_example.data.covariates import Covariates, check_covariates, learn_covariates
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.targets import (
    LearnedTarget,
    check_scorable,
    check_targets,
    check_types,
    learn_targets,
    target_from_dict,
)
from fuse_examples.imaging.oai_example.data.view import collate_with_views
from fuse_examples.imaging.oai_example.data.volume_data_module import VolumeDataModule
from fuse_examples.imaging.oai_example.evaluation.baselines import fit_baselines
from fuse_examples.imaging.oai_example.evaluation.classified_cases import ClassifiedCase
from fuse_examples.imaging.oai_example.evaluation.ensembles import average_cases, average_rivals, mean_thresholds
from fuse_examples.imaging.oai_example.evaluation.view_pictures import InputPictures
from fuse_examples.imaging.oai_example.models.attention_pooling import AttentionPooling
from fuse_examples.imaging.oai_example.models.backbone import Backbone, check_size
from fuse_examples.imaging.oai_example.models.heads import ClassificationHeads
from fuse_examples.imaging.oai_example.objectives.target_objectives import (
    ClassObjective,
    GradeObjective,
    NumberObjective,
    TargetObjective,
)
from fuse_examples.imaging.oai_example.stages.beginning import Member, begin_test, begin_training
from fuse_examples.imaging.oai_example.stages.checkpoint_entry import project_entry, saved_backbone
from fuse_examples.imaging.oai_example.stages.classification_results import (
    PredictionWriter,
    pool_results,
    rivals_of,
    test_targets,
    write_results,
)
from fuse_examples.imaging.oai_example.stages.cross_validation import CrossValidated, cross_validate
from fuse_examples.imaging.oai_example.stages.feasibility import padding_lines, print_test, store_size, try_out
from fuse_examples.imaging.oai_example.stages.fitting import fit_run, log_best_epoch
from fuse_examples.imaging.oai_example.stages.opening import OpenedCases, open_cases
from fuse_examples.imaging.oai_example.stages.resolution import (
    build_configured_backbone,
    makes_views_on_device,
    preprocessing_of,
    resolved,
)
from fuse_examples.imaging.oai_example.stages.starting_weights import keep_report, refuse_seen_patients
from fuse_examples.imaging.oai_example.stages.stored_cases import StoredCases, store_cases
from fuse_examples.imaging.oai_example.tasks.classification import ClassificationRecipe, ClassificationTask
from fuse_examples.imaging.oai_example.training.interruption import Interruption
from fuse_examples.imaging.oai_example.training.trainer import build_trainer

STAGE = "classification"
CHECKPOINT_KEYS = (*TAUGHT_WITH, *READING, "resize_to", "cls_targets", "target_types", "covariates", "covariate_input", "pooling", "head")
"""What a checkpoint decides in a test."""
log = logging.getLogger(__name__)


def train_or_test(config: ClassificationConfig, *, check: bool = False) -> None:
    """Train and validate; or, with `test_ckpt`, evaluate the test folds. With `check`, try it and say what it would do."""
    with Interruption() as interruption:
        if config.test_ckpt is not None:
            evaluate(config, check=check)
        elif config.cross_validation is not None:
            cross_validate(config, config.cross_validation, CROSS_VALIDATED, interruption, check=check)
        else:
            train(config, interruption, check=check)


def train(config: ClassificationConfig, interruption: Interruption, *, check: bool = False) -> None:
    """Train a classifier in its run folder."""
    start = begin_training(config, STAGE)
    config, run, weights = start.config, start.run, start.weights
    backbone = build_configured_backbone(config, with_decoder=False, pooling=_backbone_pooling(config))
    check_size(backbone, config.resize_to, "resize_to")
    report = weights.load_into(backbone)
    cases = open_cases(config, masks=False, targets=config.cls_targets, extra=_extra_columns(config))
    classes = _learned(config, cases)
    covariates = _learned_covariates(config, cases)
    seen = refuse_seen_patients(cases.test, weights.patients, weights.path, config)
    config = resolved(config, backbone)
    preprocessing = preprocessing_of(config, config.resize_to)
    if check:
        data = _training_data(config, store_cases(config, cases, None), preprocessing, classes, covariates)
        try_out(config, classification_task(config, backbone, classes, covariates), data, cases, _facts(config, data, classes, backbone))
        return
    with run.opened(config.dump(), (*start.notes, *seen, *map(_described, classes))) as environment:
        keep_report(report, run.folder)
        task = classification_task(config, backbone, classes, covariates)
        stored = store_cases(config, cases, run.folder)
        facts = {
            "classes": [index.as_dict() for index in classes],
            "covariates": covariates.as_list(),
            "baselines": {
                one.target: [found.as_dict() for found in fit_baselines(one, stored.train, stored.evaluation, covariates)]
                for one in classes
            },
        }
        writer = fit_run(
            config,
            run,
            task,
            _training_data(config, stored, preprocessing, classes, covariates),
            project=project_entry(STAGE, config, backbone, preprocessing, cases.train, start.seen_patients, origins=start.origins, **facts),
            environment=environment,
            interruption=interruption,
            monitor=task.monitor,
            validate_every_n_epochs=config.validate_every_n_epochs,
            callbacks=_callbacks(config, task.monitor),
            checkpoint=start.checkpoint,
        )
        log_best_epoch(writer)


def _learned(config: ClassificationConfig, cases: OpenedCases) -> tuple[LearnedTarget, ...]:
    """What the training cases teach of each target, held against all other cases of the run. Raises DataError."""
    others = {"the validation folds": cases.evaluation, "the test folds": cases.test}
    types = config.target_types or {}
    check_types({"the training folds": cases.train, **others}, config.cls_targets, types, config.csv_path)
    learned = learn_targets(cases.train, config.cls_targets, types, config.positive_class, config.csv_path)
    check_targets(others, learned, config.csv_path)
    check_scorable(cases.evaluation, learned, config.csv_path)
    return learned


def evaluate(config: ClassificationConfig, *, check: bool = False) -> None:
    """Evaluate the cases of the test folds with a checkpoint; probabilities, metrics with intervals and the report go to `test/`.

    With several checkpoints their predictions are averaged case by case, and so are those of their baselines.
    """
    start = begin_test(config, STAGE, CHECKPOINT_KEYS)
    config, run = start.config, start.run
    tasks = [_tested(member) for member in start.members]
    cases = open_cases(config, masks=False, targets=config.cls_targets, extra=_extra_columns(config))
    check_types({"the test folds": cases.evaluation}, config.cls_targets, config.target_types or {}, config.csv_path)
    for task in tasks:
        check_targets({"the test folds": cases.evaluation}, task.classes, config.csv_path)
        check_covariates({"the test folds": cases.evaluation}, task.covariates, config.csv_path)
    notes = (*start.notes, *refuse_seen_patients(cases.evaluation, start.patients, start.tested, config))
    if check:
        print_test(cases)
        return
    with run.opened(config.dump(), notes) as environment:
        stored = store_cases(config, cases, run.output)
        found = [_predictions(config, one, stored.evaluation, run.output) for one in tasks]
        rivals = average_rivals([rivals_of(one.member.project, stored.evaluation, one.covariates) for one in tasks])
        targets = test_targets(tasks[0].classes, mean_thresholds([member.thresholds for member in start.members]))
        write_results(config, run.output, average_cases(found), targets, (*notes, *stored.notes), environment, rivals)


@dataclass(frozen=True)
class TestedTask:
    """A checkpoint's classifier, and what it has learnt of the table."""

    member: Member[ClassificationConfig]
    task: ClassificationTask
    classes: tuple[LearnedTarget, ...]
    covariates: Covariates


def _tested(member: Member[ClassificationConfig]) -> TestedTask:
    classes = tuple(target_from_dict(entry) for entry in member.project["classes"])
    covariates = Covariates.from_list(member.project.get("covariates", []))
    task = classification_task(member.config, saved_backbone(member.project, with_decoder=False), classes, covariates)
    member.fill(task)
    return TestedTask(member, task, classes, covariates)


def _predictions(config: ClassificationConfig, one: TestedTask, volumes: Sequence[CaseVolumes], folder: Path) -> list[ClassifiedCase]:
    """What one checkpoint predicts for every case, in the order of the table."""
    writer = PredictionWriter([volume.case for volume in volumes], test_targets(one.classes, {}), config.report_by)
    trainer = build_trainer(folder=folder, n_epochs=1, precision=config.precision, callbacks=[writer])
    preprocessing, seen = Preprocessing.from_dict(one.member.project["preprocessing"]), covariates_of_network(config, one.covariates)
    items = LabelledVolumes(volumes, preprocessing, one.classes, covariates=seen)
    data = VolumeDataModule(None, items, 1, config.n_workers, config.seed, evaluation_batch_size=config.batch_size)
    trainer.predict(one.task, datamodule=data, return_predictions=False)
    return writer.cases


def _training_data(
    config: ClassificationConfig,
    stored: StoredCases,
    preprocessing: Preprocessing,
    classes: Sequence[LearnedTarget],
    covariates: Covariates,
) -> VolumeDataModule:
    on_device = makes_views_on_device(config)
    seen = covariates_of_network(config, covariates)
    return VolumeDataModule(
        LabelledVolumes(stored.train, preprocessing, classes, config.augmentation, config.seed, seen, on_device=on_device),
        LabelledVolumes(stored.evaluation, preprocessing, classes, covariates=seen),
        config.batch_size,
        config.n_workers,
        config.seed,
        collate=collate_with_views if on_device else None,
        evaluation_batch_size=config.batch_size,
        sample_weights=_sample_weights(config, stored.train, classes),
    )


def _extra_columns(config: ClassificationConfig) -> list[str]:
    return list(dict.fromkeys([*config.report_by, *(config.covariates or {})]))


def _learned_covariates(config: ClassificationConfig, cases: OpenedCases) -> Covariates:
    covariates = learn_covariates(cases.train, config.covariates or {}, config.csv_path)
    others = {"the validation folds": cases.evaluation, "the test folds": cases.test}
    check_covariates(others, covariates, config.csv_path)
    return covariates


def covariates_of_network(config: ClassificationConfig, covariates: Covariates) -> Covariates:
    """Those covariates that the network sees."""
    return covariates if config.covariate_input else Covariates()


def _backbone_pooling(config: ClassificationConfig) -> str:
    return "average" if config.pooling == "attention" else config.pooling


def _sample_weights(
    config: ClassificationConfig, volumes: Sequence[CaseVolumes], classes: Sequence[LearnedTarget]
) -> NDArray[np.float64] | None:
    chosen = [index for index in classes if index.target == config.sample_by and isinstance(index, ClassIndex)]
    return balanced_sampling(volumes, chosen[0]) if chosen else None


def _facts(config: ClassificationConfig, data: VolumeDataModule, classes: Sequence[LearnedTarget], backbone: Backbone) -> list[str]:
    return [store_size(data.volumes), *map(_described, classes), *padding_lines(backbone, {"resize_to": config.resize_to})]


def classification_task(
    config: ClassificationConfig, backbone: Backbone, classes: Sequence[LearnedTarget], covariates: Covariates
) -> ClassificationTask:
    """The task that a resolved configuration describes, around a backbone."""
    objectives = {learned.target: _objective(config, learned) for learned in classes}
    n_outputs = {target: objective.n_outputs for target, objective in objectives.items()}
    n_features = backbone.feature_dim + covariates_of_network(config, covariates).length
    heads = ClassificationHeads(n_features, n_outputs, hidden_dim=config.head.hidden_dim, dropout=config.head.dropout)
    recipe = ClassificationRecipe(
        config.learning_rate,
        config.head_learning_rate or config.learning_rate,
        config.weight_decay,
        config.warmup_epochs,
        config.freeze_backbone,
        config.layer_decay,
        config.reestimate_norm_statistics,
    )
    pooling = AttentionPooling(backbone.feature_dim) if config.pooling == "attention" else None
    return ClassificationTask(backbone, heads, objectives, recipe, pooling)


def _objective(config: ClassificationConfig, learned: LearnedTarget) -> TargetObjective:
    if not isinstance(learned, ClassIndex):
        return NumberObjective(learned.mean, learned.std)
    # What is drawn evenly need not be weighed as well.
    balanced = config.class_weights == "balanced" and learned.target != config.sample_by
    weights = balanced_weights(learned) if balanced else torch.ones(len(learned.classes))
    if learned.ordinal:
        return GradeObjective(weights)
    positive = None if learned.positive is None else learned.classes.index(learned.positive)
    return ClassObjective(weights, config.focal_gamma, config.label_smoothing, positive)


def _callbacks(config: ClassificationConfig, monitor: str) -> list[Callback]:
    callbacks: list[Callback] = [InputPictures(config.log_images_every_n_epochs)]
    if config.early_stopping_patience is not None:
        callbacks.append(EarlyStopping(monitor, mode="max", patience=config.early_stopping_patience))
    return callbacks


def _described(learned: LearnedTarget) -> str:
    if not isinstance(learned, ClassIndex):
        return f"{learned.target}: {learned.count} training cases, mean {learned.mean:.4g}, standard deviation {learned.std:.4g}"
    counts = ", ".join(f"{name!r} {count}" for name, count in zip(learned.classes, learned.counts, strict=True))
    positive = f"; positive class: {learned.positive!r}" if learned.positive and not learned.ordinal else ""
    return f"{learned.target}: training cases per {'grade' if learned.ordinal else 'class'}: {counts}{positive}"


def _read(config: ClassificationConfig) -> tuple[Case, ...]:
    return read_cases(config.csv_path, masks=False, targets=config.cls_targets, extra=_extra_columns(config))


def _stratum(config: ClassificationConfig) -> tuple[str, bool]:
    """The target whose classes dealt folds share evenly: the first."""
    target = config.cls_targets[0]
    return target, (config.target_types or {}).get(target) == "continuous"


def _same_in_all_folds(config: ClassificationConfig, cases: Sequence[Case]) -> dict[str, Any]:
    """The positive classes: the rarer class of one fold may be the more frequent one of another."""
    types = config.target_types or {}
    check_types({"the chosen folds": cases}, config.cls_targets, types, config.csv_path)
    learned = learn_targets(cases, config.cls_targets, types, config.positive_class, config.csv_path)
    positive = {one.target: one.positive for one in learned if isinstance(one, ClassIndex) and one.positive and not one.ordinal}
    return {"positive_class": positive or None}


CROSS_VALIDATED = CrossValidated(
    read=_read,
    train=lambda config, interruption, check: train(config, interruption, check=check),
    evaluate=evaluate,
    pool=pool_results,
    target=_stratum,
    fixed=_same_in_all_folds,
)
"""What cross-validation needs of this stage."""
