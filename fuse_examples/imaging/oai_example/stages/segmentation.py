"""The segmentation stage: a frozen configuration in, a trained or tested segmenter's run folder out."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pytorch_lightning.callbacks import Callback, EarlyStopping

from fuse_examples.imaging.oai_example.configuration.precedence import SIZES, TAUGHT_WITH, check_resume, from_checkpoint
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes, prepare_cases
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.segmentation_views import EvaluationCases, SegmentationTrainingViews
from fuse_examples.imaging.oai_example.data.volume_data_module import VolumeDataModule
from fuse_examples.imaging.oai_example.evaluation.pictures import SegmentationPictures
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.run_facts import RunFacts
from fuse_examples.imaging.oai_example.evaluation.segmentation_report import write_segmentation_report
from fuse_examples.imaging.oai_example.evaluation.segmentation_results import write_segmentation_results
from fuse_examples.imaging.oai_example.evaluation.segmentation_writer import SegmentationWriter, example_overlays
from fuse_examples.imaging.oai_example.models.backbone import Backbone, build_backbone, check_size
from fuse_examples.imaging.oai_example.models.heads import SegmentationHead
from fuse_examples.imaging.oai_example.objectives.segmentation_loss import DiceCELoss
from fuse_examples.imaging.oai_example.stages.checkpoint_entry import project_entry, read_stage_checkpoint, saved_config
from fuse_examples.imaging.oai_example.stages.fitting import fit_run
from fuse_examples.imaging.oai_example.stages.opening import OpenedCases, open_cases
from fuse_examples.imaging.oai_example.stages.resolution import build_configured_backbone, preprocessing_of, resolved, store_of
from fuse_examples.imaging.oai_example.tasks.segmentation import SegmentationRecipe, SegmentationTask
from fuse_examples.imaging.oai_example.training.checkpoints import PROJECT
from fuse_examples.imaging.oai_example.training.interruption import Interruption
from fuse_examples.imaging.oai_example.training.run import Run
from fuse_examples.imaging.oai_example.training.seeding import seed_run
from fuse_examples.imaging.oai_example.training.trainer import build_trainer

STAGE = "segmentation"
CHECKPOINT_KEYS = (*TAUGHT_WITH, *SIZES, "num_classes", "structure_names")
"""What a checkpoint decides in a test."""
log = logging.getLogger(__name__)


def train_or_test(config: SegmentationConfig, *, check: bool = False) -> None:
    """Train and validate; or, with `test_ckpt`, evaluate the test folds."""
    with Interruption() as interruption:
        if config.test_ckpt is None:
            train(config, interruption)
        else:
            test(config)


def train(config: SegmentationConfig, interruption: Interruption) -> None:
    """Train a segmenter in its run folder."""
    config, checkpoint = _resumed(config)
    run = Run.for_training(config.results_dir, config.experiment, resume=checkpoint is not None, overwrite=config.overwrite)
    seed_run(config.seed)
    backbone = build_configured_backbone(config, with_decoder=True)
    check_size(backbone, config.resize_to or config.patch_size or (), "resize_to" if config.resize_to else "patch_size")
    cases = open_cases(config, masks=True, mask_affine=config.mask_affine)
    config = _resolved(config, backbone, cases)
    preprocessing = preprocessing_of(config, config.resize_to, config.patch_size, config.spacing)
    with run.opened(config.dump()):
        train_volumes, val_volumes = (_volumes(config, cases, split) for split in ("train", "evaluation"))
        views = SegmentationTrainingViews(
            train_volumes, preprocessing, config.augmentation, _label_pairs(config), config.patches_per_case, config.seed
        )
        data = VolumeDataModule(views, EvaluationCases(val_volumes, preprocessing), config.batch_size, config.n_workers, config.seed)
        project = project_entry(STAGE, config, backbone, preprocessing, cases.train, structures=list(config.structures))
        writer = fit_run(
            config,
            run,
            _task(config, backbone),
            data,
            project,
            interruption,
            monitor="val/dice",
            validate_every_n_epochs=config.validate_every_n_epochs,
            callbacks=_callbacks(config),
            resumed_at=checkpoint["global_step"] if checkpoint else None,
        )
        log.info("best epoch: %s; test it with test_ckpt=%s", writer.best and writer.best["epoch"] + 1, writer.best_path)


def test(config: SegmentationConfig) -> None:
    """Evaluate the cases of the test folds with a checkpoint; masks, scores, intervals and the report go to `test/`."""
    assert config.test_ckpt is not None
    checkpoint = read_stage_checkpoint(config.test_ckpt, "test_ckpt", STAGE)
    project = checkpoint[PROJECT]
    config, notes = from_checkpoint(config, saved_config(checkpoint), CHECKPOINT_KEYS)
    run = Run.for_testing(config.results_dir, config.experiment)
    backbone = build_backbone(project["backbone"]["name"], **project["backbone"]["options"])
    task = _task(config, backbone)
    task.load_state_dict(checkpoint["state_dict"])
    cases = open_cases(config, masks=True, mask_affine=config.mask_affine)
    with run.opened(config.dump()) as environment:
        for note in notes:
            log.info("%s", note)
        volumes = _volumes(config, cases, "evaluation")
        writer = SegmentationWriter(run.output, config.structures)
        trainer = build_trainer(folder=run.output, n_epochs=1, precision=config.precision, callbacks=[writer])
        evaluation = EvaluationCases(volumes, Preprocessing.from_dict(project["preprocessing"]))
        trainer.predict(task, datamodule=VolumeDataModule(None, evaluation, 1, config.n_workers, config.seed), return_predictions=False)
        _report(config, run, writer, volumes, notes, environment)


def _report(
    config: SegmentationConfig,
    run: Run,
    writer: SegmentationWriter,
    volumes: Sequence[CaseVolumes],
    notes: Sequence[str],
    environment: Mapping[str, Any],
) -> None:
    metrics = write_segmentation_results(run.output, writer.cases, config.structures, Bootstrap(n_resamples=config.n_bootstrap))
    overlays = example_overlays(run.output, writer.cases, {v.case.name: v for v in volumes}, config.structures)
    facts = RunFacts(
        config.experiment,
        environment["command"],
        str(config.test_ckpt),
        str(config.csv_path),
        config.test_folds,
        configuration=yaml.safe_dump(config.dump(), sort_keys=False),
    )
    write_segmentation_report(run.output, facts, writer.cases, metrics, overlays)
    print(metrics["dice"])


def _resumed(config: SegmentationConfig) -> tuple[SegmentationConfig, Mapping[str, Any] | None]:
    if config.resume_training_from is None:
        return config, None
    checkpoint = read_stage_checkpoint(config.resume_training_from, "resume_training_from", STAGE)
    return check_resume(config, saved_config(checkpoint)), checkpoint


def _resolved(config: SegmentationConfig, backbone: Backbone, cases: OpenedCases) -> SegmentationConfig:
    settled = resolved(config, backbone)
    if settled.patch_size is None or settled.spacing is not None:
        return settled
    assert settled.orientation is not None
    return resolved(config, backbone, spacing=cases.median_spacing(settled.orientation))


def _volumes(config: SegmentationConfig, cases: OpenedCases, split: str) -> tuple[CaseVolumes, ...]:
    return prepare_cases(
        getattr(cases, split),
        cases.headers,
        store_of(config),
        config.csv_path,
        num_classes=config.num_classes,
        mask_takes_image_affine=config.mask_affine == "from_image",
    )


def _task(config: SegmentationConfig, backbone: Backbone) -> SegmentationTask:
    recipe = SegmentationRecipe(config.learning_rate, config.weight_decay, config.warmup_epochs, config.patch_size, config.overlap)
    head = SegmentationHead(backbone.decoder_dim, config.num_classes)
    return SegmentationTask(backbone, head, DiceCELoss(config.num_classes), config.structures, recipe)


def _callbacks(config: SegmentationConfig) -> list[Callback]:
    callbacks: list[Callback] = [SegmentationPictures(config.log_images_every_n_epochs, config.structures)]
    if config.early_stopping_patience is not None:
        callbacks.append(EarlyStopping("val/dice", mode="max", patience=config.early_stopping_patience))
    return callbacks


def _label_pairs(config: SegmentationConfig) -> list[tuple[int, int]]:
    labels = {name: label for label, name in enumerate(config.structures, start=1)}
    return [(labels[one], labels[other]) for one, other in config.augmentation.flip_label_pairs or ()]
