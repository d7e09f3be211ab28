"""The segmentation stage: a frozen configuration in, a trained or tested segmenter's run folder out."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback, EarlyStopping
from torch import nn

from fuse_examples.imaging.oai_example.configuration.precedence import READING, SIZES, TAUGHT_WITH
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.data.augmentation import flippable_axes
from fuse_examples.imaging.oai_example.data.cases import read_cases
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.segmentation_views import EvaluationCases, SegmentationTrainingViews
from fuse_examples.imaging.oai_example.data.view import collate_with_views
from fuse_examples.imaging.oai_example.data.volume_data_module import VolumeDataModule
from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.evaluation.pictures import SegmentationPictures
from fuse_examples.imaging.oai_example.evaluation.segmentation_writer import SegmentationWriter
from fuse_examples.imaging.oai_example.geometry.volume import Shape
from fuse_examples.imaging.oai_example.models.backbone import Backbone, check_size
from fuse_examples.imaging.oai_example.models.heads import SegmentationHead
from fuse_examples.imaging.oai_example.objectives.segmentation_loss import DiceBCELoss, DiceCELoss
from fuse_examples.imaging.oai_example.stages.beginning import Member, begin_test, begin_training
from fuse_examples.imaging.oai_example.stages.checkpoint_entry import project_entry, saved_backbone
from fuse_examples.imaging.oai_example.stages.cross_validation import CrossValidated, cross_validate
from fuse_examples.imaging.oai_example.stages.feasibility import Trial, padding_lines, print_test, store_size, try_out
from fuse_examples.imaging.oai_example.stages.fitting import fit_run, log_best_epoch
from fuse_examples.imaging.oai_example.stages.opening import OpenedCases, open_cases
from fuse_examples.imaging.oai_example.stages.planning import planned
from fuse_examples.imaging.oai_example.stages.report_facts import run_facts
from fuse_examples.imaging.oai_example.stages.resolution import (
    build_configured_backbone,
    makes_views_on_device,
    preprocessing_of,
    resolved,
)
from fuse_examples.imaging.oai_example.stages.segmentation_results import pool_results, scoring_of, write_results
from fuse_examples.imaging.oai_example.stages.starting_weights import keep_report, refuse_seen_patients
from fuse_examples.imaging.oai_example.stages.stored_cases import StoredCases, store_cases
from fuse_examples.imaging.oai_example.tasks.segmentation import SegmentationEnsemble, SegmentationRecipe, SegmentationTask
from fuse_examples.imaging.oai_example.training.interruption import Interruption
from fuse_examples.imaging.oai_example.training.trainer import build_trainer

STAGE = "segmentation"
CHECKPOINT_KEYS = (
    *TAUGHT_WITH,
    *READING,
    *SIZES,
    "augmentation",
    "num_classes",
    "structure_names",
    "activation",
    "regions",
    "deep_supervision",
)
"""What a checkpoint decides in a test."""
log = logging.getLogger(__name__)


def train_or_test(config: SegmentationConfig, *, check: bool = False) -> None:
    """Train and validate; or, with `test_ckpt`, evaluate the test folds. With `check`, try it and say what it would do."""
    with Interruption() as interruption:
        if config.test_ckpt is not None:
            evaluate(config, check=check)
        elif config.cross_validation is not None:
            cross_validate(config, config.cross_validation, CROSS_VALIDATED, interruption, check=check)
        else:
            train(config, interruption, check=check)


def train(config: SegmentationConfig, interruption: Interruption, *, check: bool = False) -> Trial | None:
    """Train a segmenter in its run folder. With `check`, return what a trial took."""
    start = begin_training(config, STAGE)
    config, run, weights = start.config, start.run, start.weights
    backbone = build_configured_backbone(config, with_decoder=True)
    report = weights.load_into(backbone)
    new_decoder = report is None or report.decoder.share < 1
    cases = open_cases(config, masks=True, extra=config.report_by, mask_affine=config.mask_affine)
    seen = refuse_seen_patients(cases.test, weights.patients, weights.path, config)
    config, plan = planned(resolved(config, backbone), backbone, cases)
    plan = (*plan, *_what_is_frozen(config, new_decoder=new_decoder))
    for key, size in _sizes(config).items():
        check_size(backbone, size, key)
    preprocessing = preprocessing_of(config, config.resize_to, config.patch_size, config.spacing)
    if check:
        data = _training_data(config, cases, preprocessing, None)
        return try_out(
            config, segmentation_task(config, backbone, new_decoder=new_decoder), data, cases, [*plan, *_facts(config, data, backbone)]
        )
    with run.opened(config.dump(), (*start.notes, *seen, *plan)) as environment:
        keep_report(report, run.folder)
        writer = fit_run(
            config,
            run,
            segmentation_task(config, backbone, new_decoder=new_decoder),
            _training_data(config, cases, preprocessing, run.folder),
            project=project_entry(
                STAGE,
                config,
                backbone,
                preprocessing,
                cases,
                start.seen_patients,
                origins=start.origins,
                structures=list(config.structures),
            ),
            environment=environment,
            interruption=interruption,
            monitor="val/dice",
            validate_every_n_epochs=config.validate_every_n_epochs,
            callbacks=_callbacks(config),
            checkpoint=start.checkpoint,
        )
        log_best_epoch(writer)
    return None


def evaluate(config: SegmentationConfig, *, check: bool = False) -> None:
    """Evaluate the cases of the test folds with a checkpoint; masks, scores, intervals and the report go to `test/`."""
    start = begin_test(config, STAGE, CHECKPOINT_KEYS)
    config, run, project = start.config, start.run, start.project
    task = tested_segmenter(start.members)
    cases = open_cases(config, masks=True, extra=config.report_by, mask_affine=config.mask_affine)
    notes = (*start.notes, *refuse_seen_patients(cases.evaluation, start.patients, start.tested, config))
    if check:
        print_test(cases)
        return
    with run.opened(config.dump(), notes) as environment:
        stored = _stored(config, cases, run.output)
        volumes = stored.evaluation
        scoring = scoring_of(config)
        writer = SegmentationWriter(run.output, config.structures, scoring)
        predict_volumes(config, task, project, volumes, writer, run.output)
        facts = run_facts(config, (*notes, *stored.notes), environment, start.members)
        write_results(config, run.output, writer.cases, volumes, scoring, facts)


def predict_volumes(
    config: SegmentationConfig,
    task: SegmentationTask | SegmentationEnsemble,
    project: Mapping[str, Any],
    volumes: Sequence[CaseVolumes],
    writer: Callback,
    folder: Path,
) -> None:
    """Predict whole cases as the checkpoint's `project` entry says, one after the other; `writer` is given each `SegmentedCase`."""
    trainer = build_trainer(folder=folder, n_epochs=1, precision=config.precision, callbacks=[writer])
    evaluation = EvaluationCases(volumes, Preprocessing.from_dict(project["preprocessing"]))
    trainer.predict(task, datamodule=VolumeDataModule(None, evaluation, 1, config.n_workers, config.seed), return_predictions=False)


def tested_segmenter(members: Sequence[Member[SegmentationConfig]]) -> SegmentationTask | SegmentationEnsemble:
    """The segmenter of one checkpoint, or those of several together."""
    tasks = []
    for member in members:
        tasks.append(segmentation_task(member.config, saved_backbone(member.project, with_decoder=True)))
        member.fill(tasks[-1])
    return tasks[0] if len(tasks) == 1 else SegmentationEnsemble(tasks)


def _training_data(config: SegmentationConfig, cases: OpenedCases, preprocessing: Preprocessing, folder: Path | None) -> VolumeDataModule:
    on_device = makes_views_on_device(config)
    stored = _stored(config, cases, folder)
    patches = config.patches_per_case if config.patch_size else 1
    views = SegmentationTrainingViews(
        stored.train,
        preprocessing,
        config.augmentation,
        _label_pairs(config),
        patches,
        config.seed,
        config.foreground_share,
        on_device=on_device,
    )
    assert config.batch_size is not None  # planned
    return VolumeDataModule(
        views,
        EvaluationCases(stored.evaluation, preprocessing),
        config.batch_size,
        config.n_workers,
        config.seed,
        collate=collate_with_views if on_device else None,
        batches_per_epoch=config.batches_per_epoch,
    )


def _label_pairs(config: SegmentationConfig) -> tuple[tuple[int, int], ...]:
    labels = {name: label for label, name in enumerate(config.label_names, start=1)}
    return tuple((labels[one], labels[other]) for one, other in config.augmentation.flip_label_pairs or ())


def _sizes(config: SegmentationConfig) -> dict[str, Shape]:
    return {key: size for key, size in (("resize_to", config.resize_to), ("patch_size", config.patch_size)) if size is not None}


def _facts(config: SegmentationConfig, data: VolumeDataModule, backbone: Backbone) -> list[str]:
    counts = {label: sum(one.mask().label_counts.get(label, 0) for one in data.training_volumes) for label in range(config.num_classes)}
    names = ("background", *config.label_names)
    return [
        store_size(data.volumes),
        "labels        " + ", ".join(f"{name} {counts[label]:,} voxels" for label, name in enumerate(names)),
        *padding_lines(backbone, _sizes(config)),
    ]


def _stored(config: SegmentationConfig, cases: OpenedCases, folder: Path | None) -> StoredCases:
    whose_affine = config.mask_affine == "from_image"
    return store_cases(config, cases, folder, num_classes=config.num_classes, mask_takes_image_affine=whose_affine)


def _what_is_frozen(config: SegmentationConfig, *, new_decoder: bool) -> tuple[str, ...]:
    if config.freeze_backbone is False or not new_decoder or config.resume_training_from is not None:
        return ()
    return ("freeze_backbone: the encoder is frozen; the decoder, for which there are no weights, learns from the start",)


def segmentation_task(config: SegmentationConfig, backbone: Backbone, *, new_decoder: bool = False) -> SegmentationTask:
    """The task that a resolved configuration describes, around a backbone whose decoder may be new."""
    assert config.orientation is not None  # resolved, or the checkpoint's
    mirrored = flippable_axes(config.augmentation.flip_axes, config.orientation) if config.mirror_in_test else ()
    recipe = SegmentationRecipe(
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_epochs=config.warmup_epochs,
        window=config.patch_size,
        overlap=config.overlap,
        freeze_backbone=config.freeze_backbone,
        layer_decay=config.layer_decay,
        reestimate_norm_statistics=config.reestimate_norm_statistics,
        mirror_axes=tuple(axis for axis, flips in enumerate(mirrored) if flips),
        side_axis=next(axis for axis, code in enumerate(config.orientation) if code in "RL"),
        label_pairs=_label_pairs(config),
        largest_component=config.largest_component == "auto" and not config.regions,
        num_classes=config.num_classes if config.regions else None,
        regions=config.region_labels,
        written=config.written_labels,
    )
    independent = config.activation == "sigmoid"
    dims = (backbone.decoder_dim, *(_level_dims(backbone) if config.deep_supervision else ()))
    head, *level_heads = (SegmentationHead(dim, len(config.structures) + 1, independent) for dim in dims)
    return SegmentationTask(backbone, head, _loss(config), config.structures, recipe, level_heads, new_decoder=new_decoder)


def _level_dims(backbone: Backbone) -> tuple[int, ...]:
    if not backbone.level_dims:
        raise ConfigError(
            f"deep_supervision is true, but the decoder of {backbone.name} has no coarser maps to supervise; set it to false."
        )
    return backbone.level_dims


def _loss(config: SegmentationConfig) -> nn.Module:
    if config.activation == "sigmoid":
        return DiceBCELoss(len(config.structures) + 1, regions=config.region_labels or None, structure_weights=config.class_weights)
    return DiceCELoss(config.num_classes, config.include_background, class_weights=config.class_weights)


def _callbacks(config: SegmentationConfig) -> list[Callback]:
    callbacks: list[Callback] = [SegmentationPictures(config.log_images_every_n_epochs, config.label_names)]
    if config.early_stopping_patience is not None:
        callbacks.append(EarlyStopping("val/dice", mode="max", patience=config.early_stopping_patience))
    return callbacks


CROSS_VALIDATED: CrossValidated[SegmentationConfig] = CrossValidated(
    read=lambda config: read_cases(config.csv_path, masks=True, extra=config.report_by),
    train=lambda config, interruption, check: train(config, interruption, check=check),
    evaluate=evaluate,
    pool=pool_results,
    target=lambda config: None,
    fixed=lambda config, cases: {},
)
"""What cross-validation needs of this stage."""
