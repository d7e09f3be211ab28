"""The pre-training stage: a frozen configuration in, a pre-trained backbone's run folder out."""

import logging
from collections.abc import Sequence
from pathlib import Path

from fuse_examples.imaging.oai_example.configuration.dino_auto import RunSize, without_auto
from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.configuration.dino_remarks import remarks
from fuse_examples.imaging.oai_example.configuration.precedence import READING, TAUGHT_WITH
from fuse_examples.imaging.oai_example.data.masking import MaskedCollation, MaskedViews, Masking
from fuse_examples.imaging.oai_example.data.multi_crop import MultiCrop, PretrainingViews, ViewCollation
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.volume_data_module import VolumeDataModule
from fuse_examples.imaging.oai_example.errors import UserError
from fuse_examples.imaging.oai_example.evaluation.embeddings import EmbeddingWriter
from fuse_examples.imaging.oai_example.evaluation.probe_watch import PROBE
from fuse_examples.imaging.oai_example.evaluation.probes import Embedded
from fuse_examples.imaging.oai_example.evaluation.view_pictures import ViewPictures
from fuse_examples.imaging.oai_example.geometry.volume import Shape
from fuse_examples.imaging.oai_example.models.backbone import Backbone, check_cells, check_size
from fuse_examples.imaging.oai_example.models.padding import cell_grid
from fuse_examples.imaging.oai_example.models.weights import save_backbone
from fuse_examples.imaging.oai_example.stages.beginning import begin_test, begin_training
from fuse_examples.imaging.oai_example.stages.checkpoint_entry import project_entry, saved_backbone
from fuse_examples.imaging.oai_example.stages.dino_parts import dino_task, recipe_of, with_decoder_of
from fuse_examples.imaging.oai_example.stages.feasibility import padding_lines, print_test, store_size, try_out
from fuse_examples.imaging.oai_example.stages.fitting import fit_run
from fuse_examples.imaging.oai_example.stages.opening import OpenedCases, open_cases
from fuse_examples.imaging.oai_example.stages.pretraining_results import write_results
from fuse_examples.imaging.oai_example.stages.probing import feature_pictures, probe_results, probe_watch, probed_classes, whole_volumes
from fuse_examples.imaging.oai_example.stages.report_facts import run_facts
from fuse_examples.imaging.oai_example.stages.resolution import (
    build_configured_backbone,
    makes_views_on_device,
    preprocessing_of,
    resolved,
)
from fuse_examples.imaging.oai_example.stages.starting_weights import keep_report, refuse_seen_patients
from fuse_examples.imaging.oai_example.stages.stored_cases import store_cases
from fuse_examples.imaging.oai_example.tasks.dino import ALARMS, DINOTask
from fuse_examples.imaging.oai_example.training.interruption import Interruption
from fuse_examples.imaging.oai_example.training.run import leave_to_the_first_process
from fuse_examples.imaging.oai_example.training.trainer import build_trainer, n_devices

STAGE = "dino"
CHECKPOINT_KEYS = (
    *TAUGHT_WITH, *READING, "crops", "head", "masking", "pooling", "student_temperature", "centering", "center_momentum"
)  # fmt: skip
"""What a checkpoint decides in a test."""
EXPORTED = "backbone.safetensors"
log = logging.getLogger(__name__)


def train_or_test(config: DINOConfig, *, check: bool = False) -> None:
    """Pre-train; or, with `test_ckpt`, embed the cases of the test folds. With `check`, try it and say what it would do."""
    with Interruption() as interruption:
        if config.test_ckpt is None:
            train(config, interruption, check=check)
        else:
            evaluate(config, check=check)


def train(config: DINOConfig, interruption: Interruption, *, check: bool = False) -> None:
    """Pre-train a backbone in its run folder, and export the teacher's."""
    start = begin_training(config, STAGE)
    config, run, weights = start.config, start.run, start.weights
    backbone = build_configured_backbone(config, with_decoder=with_decoder_of(config), pooling=config.pooling)
    backbone.use_drop_path(config.drop_path)
    for key, size in _sizes(config).items():
        check_size(backbone, size, key)
    if config.masking.is_on:
        check_cells(backbone, config.crops.global_size, "crops.global_size")
    report = weights.load_into(backbone)
    cases = open_cases(config, masks=False, targets=config.probe_targets or ())
    classes = probed_classes(config, cases)
    seen = refuse_seen_patients(cases.test, weights.patients, weights.path, config)
    run_size = _run_size(config, cases)
    config, rules = without_auto(resolved(config, backbone), run_size)
    rules = (*rules, *remarks(config, run_size))
    preprocessing = preprocessing_of(config, config.crops.global_size)
    if check:
        data = _training_data(config, backbone, cases, preprocessing, None)
        try_out(config, dino_task(config, backbone, recipe_of(config)), data, cases, [*_facts(config, data, backbone), *rules])
        return
    with run.opened(config.dump(), (*start.notes, *seen, *rules)) as environment:
        keep_report(report, run.folder)
        project = project_entry(STAGE, config, backbone, preprocessing, cases, start.seen_patients, origins=start.origins)
        task = dino_task(config, backbone, recipe_of(config))
        data = _training_data(config, backbone, cases, preprocessing, run.folder)
        fit_run(
            config,
            run,
            task,
            data,
            project=project,
            environment=environment,
            interruption=interruption,
            monitor=PROBE if classes else None,  # the loss says nothing about the features: both networks move
            veto=ALARMS,
            callbacks=[
                ViewPictures(config.log_images_every_n_epochs, config.crops.n_global),
                *probe_watch(config, data, preprocessing, classes, run.folder),
                feature_pictures(config, task.teacher_backbone, data, preprocessing, classes, run.folder),
            ],
            checkpoint=start.checkpoint,
        )
        if config.on_collapse == "stop" and task.alarms:
            leave_to_the_first_process()
            raise UserError([f"epoch {task.trainer.current_epoch}: {alarm}" for alarm in task.alarms])
        backbone.load_state_dict(task.teacher_backbone.state_dict())
        save_backbone(run.folder / EXPORTED, backbone, project)
        log.info("the teacher's backbone: dino_weights=%s", run.folder / EXPORTED)


def evaluate(config: DINOConfig, *, check: bool = False) -> None:
    """Embed the cases of the test folds with the teacher; embeddings and collapse statistics go to `test/`."""
    start = begin_test(config, STAGE, CHECKPOINT_KEYS)
    config, run, project = start.config, start.run, start.project
    task = dino_task(config, saved_backbone(project, with_decoder=with_decoder_of(config)))
    start.fill(task)
    cases = open_cases(config, masks=False, targets=config.probe_targets or (), train_in_test=config.probe_targets is not None)
    classes = probed_classes(config, cases)
    notes = (*start.notes, *refuse_seen_patients(cases.evaluation, project["patients"], config.test_ckpt, config))
    if check:
        print_test(cases)
        return
    with run.opened(config.dump(), notes) as environment:
        stored = store_cases(config, cases, run.output)
        preprocessing = Preprocessing.from_dict(project["preprocessing"])
        asked = _embedded(config, task, stored.evaluation, preprocessing, run.output)
        known = _embedded(config, task, stored.train, preprocessing, run.output) if classes else None
        probes = probe_results(known, asked, classes) if known else None
        facts = run_facts(config, (*notes, *stored.notes), environment, start.members)
        write_results(config, run.output, asked, probes, stored.evaluation, preprocessing, facts)


def _embedded(config: DINOConfig, task: DINOTask, volumes: Sequence[CaseVolumes], preprocessing: Preprocessing, folder: Path) -> Embedded:
    writer = EmbeddingWriter()
    trainer = build_trainer(folder=folder, n_epochs=1, precision=config.precision, callbacks=[writer])
    trainer.predict(task, datamodule=whole_volumes(config, volumes, preprocessing), return_predictions=False)
    return Embedded([one.case for one in volumes], writer.features().numpy())


def _training_data(
    config: DINOConfig, backbone: Backbone, cases: OpenedCases, preprocessing: Preprocessing, folder: Path | None
) -> VolumeDataModule:
    multi_crop = MultiCrop(config.crops, config.augmentation, preprocessing)
    on_device, n_global = makes_views_on_device(config), config.crops.n_global
    stored = store_cases(config, cases, folder)
    masking = Masking(config.masking, n_global, cell_grid(config.crops.global_size, backbone.size_multiple))

    def views(volumes: Sequence[CaseVolumes]) -> PretrainingViews | MaskedViews:
        plain = PretrainingViews(volumes, multi_crop, config.seed, on_device=on_device)
        return MaskedViews(plain, masking) if config.masking.is_on else plain

    return VolumeDataModule(
        views(stored.train),
        views(stored.evaluation) if cases.evaluation else None,
        config.batch_size,
        config.n_workers,
        config.seed,
        collate=MaskedCollation(n_global) if config.masking.is_on else ViewCollation(n_global),
        evaluation_batch_size=config.batch_size,
    )


def _run_size(config: DINOConfig, cases: OpenedCases) -> RunSize:
    n_processes = n_devices(config.devices) * config.num_nodes
    return RunSize(len(cases.train), config.batch_size * config.accumulate_grad_batches * n_processes, config.n_epochs)


def _sizes(config: DINOConfig) -> dict[str, Shape]:
    local = {"crops.local_size": config.crops.local_size} if config.crops.n_local else {}
    return {"crops.global_size": config.crops.global_size, **local}


def _facts(config: DINOConfig, data: VolumeDataModule, backbone: Backbone) -> list[str]:
    return [store_size(data.volumes), *padding_lines(backbone, _sizes(config))]
