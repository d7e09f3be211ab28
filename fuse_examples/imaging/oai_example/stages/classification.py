"""The classification stage: a frozen configuration in, a trained or tested classifier's run folder out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytorch_lightning.callbacks import Callback, EarlyStopping

from fuse_examples.imaging.oai_example.configuration.classification_config import ClassificationConfig
from fuse_examples.imaging.oai_example.configuration.precedence import READING, TAUGHT_WITH
from fuse_examples.imaging.oai_example.data.classification_views import LabelledVolumes
from fuse_examples.imaging.oai_example.data.covariates import Covariates, check_covariates
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.targets import LearnedTarget, check_targets, check_types, target_from_dict
from fuse_examples.imaging.oai_example.data.volume_data_module import VolumeDataModule
from fuse_examples.imaging.oai_example.evaluation.baselines import fit_baselines
from fuse_examples.imaging.oai_example.evaluation.classified_cases import ClassifiedCase
from fuse_examples.imaging.oai_example.evaluation.ensembles import average_cases, average_rivals, mean_thresholds
from fuse_examples.imaging.oai_example.evaluation.explained_cases import ExplainedCase
from fuse_examples.imaging.oai_example.evaluation.view_pictures import InputPictures
from fuse_examples.imaging.oai_example.models.backbone import Backbone, check_size
from fuse_examples.imaging.oai_example.stages.beginning import Member, begin_test, begin_training
from fuse_examples.imaging.oai_example.stages.checkpoint_entry import project_entry, saved_backbone
from fuse_examples.imaging.oai_example.stages.classification_parts import (
    backbone_pooling,
    classification_task,
    covariates_of_network,
    training_data,
)
from fuse_examples.imaging.oai_example.stages.classification_results import (
    PredictionWriter,
    pool_results,
    rivals_of,
    test_targets,
    write_results,
)
from fuse_examples.imaging.oai_example.stages.classification_targets import (
    described,
    learned_covariates,
    learned_targets,
    open_labelled,
    read_labelled,
    same_in_all_folds,
    stratum,
)
from fuse_examples.imaging.oai_example.stages.cross_validation import CrossValidated, cross_validate
from fuse_examples.imaging.oai_example.stages.explaining import explain_cases
from fuse_examples.imaging.oai_example.stages.feasibility import Trial, padding_lines, print_test, store_size, try_out
from fuse_examples.imaging.oai_example.stages.fitting import fit_run, log_best_epoch
from fuse_examples.imaging.oai_example.stages.report_facts import run_facts
from fuse_examples.imaging.oai_example.stages.resolution import build_configured_backbone, preprocessing_of, resolved
from fuse_examples.imaging.oai_example.stages.starting_weights import keep_report, refuse_seen_patients
from fuse_examples.imaging.oai_example.stages.stored_cases import StoredCases, store_cases
from fuse_examples.imaging.oai_example.tasks.classification import ClassificationTask
from fuse_examples.imaging.oai_example.training.interruption import Interruption
from fuse_examples.imaging.oai_example.training.trainer import build_trainer

STAGE = "classification"
CHECKPOINT_KEYS = (*TAUGHT_WITH, *READING, "resize_to", "cls_targets", "target_types", "covariates", "covariate_input", "pooling", "head")
"""What a checkpoint decides in a test."""


def train_or_test(config: ClassificationConfig, *, check: bool = False) -> None:
    """Train and validate; or, with `test_ckpt`, evaluate the test folds. With `check`, try it and say what it would do."""
    with Interruption() as interruption:
        if config.test_ckpt is not None:
            evaluate(config, check=check)
        elif config.cross_validation is not None:
            cross_validate(config, config.cross_validation, CROSS_VALIDATED, interruption, check=check)
        else:
            train(config, interruption, check=check)


def train(config: ClassificationConfig, interruption: Interruption, *, check: bool = False) -> Trial | None:
    """Train a classifier in its run folder. With `check`, return what a trial took."""
    start = begin_training(config, STAGE)
    config, run, weights = start.config, start.run, start.weights
    backbone = build_configured_backbone(config, with_decoder=False, pooling=backbone_pooling(config))
    check_size(backbone, config.resize_to, "resize_to")
    report = weights.load_into(backbone)
    cases = open_labelled(config)
    classes = learned_targets(config, cases)
    covariates = learned_covariates(config, cases)
    seen = refuse_seen_patients(cases.test, weights.patients, weights.path, config)
    config = resolved(config, backbone)
    preprocessing = preprocessing_of(config, config.resize_to)
    if check:
        data = training_data(config, store_cases(config, cases, None), preprocessing, classes, covariates)
        task = classification_task(config, backbone, classes, covariates)
        return try_out(config, task, data, cases, _facts(config, data, classes, backbone))
    with run.opened(config.dump(), (*start.notes, *seen, *map(described, classes))) as environment:
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
            training_data(config, stored, preprocessing, classes, covariates),
            project=project_entry(
                STAGE,
                config,
                backbone,
                preprocessing,
                cases,
                start.seen_patients,
                origins=start.origins,
                **facts,
            ),
            environment=environment,
            interruption=interruption,
            monitor=task.monitor,
            validate_every_n_epochs=config.validate_every_n_epochs,
            callbacks=_callbacks(config, task.monitor),
            checkpoint=start.checkpoint,
        )
        log_best_epoch(writer)
    return None


def evaluate(config: ClassificationConfig, *, check: bool = False) -> None:
    """Evaluate the cases of the test folds with a checkpoint; probabilities, metrics with intervals and the report go to `test/`.

    With several checkpoints their predictions are averaged case by case, and so are those of their baselines.
    """
    start = begin_test(config, STAGE, CHECKPOINT_KEYS)
    config, run = start.config, start.run
    tasks = [tested_classifier(member) for member in start.members]
    cases = open_labelled(config)
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
        found = [predict_volumes(config, one, stored.evaluation, run.output) for one in tasks]
        rivals = average_rivals([rivals_of(one.member.project, stored.evaluation, one.covariates) for one in tasks])
        targets = test_targets(tasks[0].classes, mean_thresholds([member.thresholds for member in start.members]))
        facts = run_facts(config, (*notes, *stored.notes), environment, start.members)
        classified = average_cases(found)
        write_results(config, run.output, classified, targets, facts, rivals, _explained(config, tasks, stored, classified, run.output))


@dataclass(frozen=True)
class TestedTask:
    """A checkpoint's classifier, and what it has learnt of the table."""

    member: Member[ClassificationConfig]
    task: ClassificationTask
    classes: tuple[LearnedTarget, ...]
    covariates: Covariates


def tested_classifier(member: Member[ClassificationConfig]) -> TestedTask:
    """The classifier of one checkpoint. Raises WeightsError for tensors that are not its own."""
    classes = tuple(target_from_dict(entry) for entry in member.project["classes"])
    covariates = Covariates.from_list(member.project.get("covariates", []))
    task = classification_task(member.config, saved_backbone(member.project, with_decoder=False), classes, covariates)
    member.fill(task)
    return TestedTask(member, task, classes, covariates)


def predict_volumes(config: ClassificationConfig, one: TestedTask, volumes: Sequence[CaseVolumes], folder: Path) -> list[ClassifiedCase]:
    """What one checkpoint predicts for every case, in the order of the table.

    Cases are predicted one at a time: what is found for one does not depend on which others stand beside it.
    """
    writer = PredictionWriter([volume.case for volume in volumes], test_targets(one.classes, {}), config.report_by)
    trainer = build_trainer(folder=folder, n_epochs=1, precision=config.precision, callbacks=[writer])
    preprocessing, seen = Preprocessing.from_dict(one.member.project["preprocessing"]), covariates_of_network(config, one.covariates)
    items = LabelledVolumes(volumes, preprocessing, one.classes, covariates=seen)
    data = VolumeDataModule(None, items, 1, config.n_workers, config.seed, evaluation_batch_size=1)
    trainer.predict(one.task, datamodule=data, return_predictions=False)
    return writer.cases


def _explained(
    config: ClassificationConfig, tasks: Sequence[TestedTask], stored: StoredCases, cases: Sequence[ClassifiedCase], folder: Path
) -> Mapping[str, list[ExplainedCase]]:
    """Where the networks looked, by target; nothing with `explain: none`."""
    if config.explain == "none":
        return {}
    networks = [(one.task, covariates_of_network(config, one.covariates)) for one in tasks]
    preprocessing = Preprocessing.from_dict(tasks[0].member.project["preprocessing"])
    targets = test_targets(tasks[0].classes, mean_thresholds([one.member.thresholds for one in tasks]))
    return explain_cases(networks, stored.evaluation, preprocessing, cases, targets, config.explain, config.explain_cases, folder)


def _facts(config: ClassificationConfig, data: VolumeDataModule, classes: Sequence[LearnedTarget], backbone: Backbone) -> list[str]:
    return [store_size(data.volumes), *map(described, classes), *padding_lines(backbone, {"resize_to": config.resize_to})]


def _callbacks(config: ClassificationConfig, monitor: str) -> list[Callback]:
    callbacks: list[Callback] = [InputPictures(config.log_images_every_n_epochs)]
    if config.early_stopping_patience is not None:
        callbacks.append(EarlyStopping(monitor, mode="max", patience=config.early_stopping_patience))
    return callbacks


CROSS_VALIDATED = CrossValidated(
    read=read_labelled,
    train=lambda config, interruption, check: train(config, interruption, check=check),
    evaluate=evaluate,
    pool=pool_results,
    target=stratum,
    fixed=same_in_all_folds,
)
"""What cross-validation needs of this stage."""
