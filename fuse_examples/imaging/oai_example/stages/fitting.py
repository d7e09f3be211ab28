"""Training as all stages do it: loggers, callbacks, trainer, and the way back into an interrupted run."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.stages.checkpoint_entry import check_fits
from fuse_examples.imaging.oai_example.training.checkpoint_writer import BEST, CheckpointWriter
from fuse_examples.imaging.oai_example.training.checkpoints import PROJECT
from fuse_examples.imaging.oai_example.training.clearml_tracker import ClearMLTracker, clearml_tracker
from fuse_examples.imaging.oai_example.training.history import EpochHistory
from fuse_examples.imaging.oai_example.training.interruption import Interruption
from fuse_examples.imaging.oai_example.training.progress import progress_callbacks
from fuse_examples.imaging.oai_example.training.run import Run
from fuse_examples.imaging.oai_example.training.trackers import RunTensorBoard
from fuse_examples.imaging.oai_example.training.trainer import build_trainer, fit

log = logging.getLogger(__name__)
CLEARML_TASK = "clearml_task"
"""Where a checkpoint keeps the ClearML task that a resumed run continues."""


def fit_run(
    config: StageConfig,
    run: Run,
    task: pl.LightningModule,
    data: pl.LightningDataModule,
    *,
    project: Mapping[str, Any],
    environment: Mapping[str, Any],
    interruption: Interruption,
    monitor: str | None,
    mode: Literal["max", "min"] = "max",
    veto: str | None = None,
    validate_every_n_epochs: int = 1,
    callbacks: Sequence[Callback] = (),
    checkpoint: Mapping[str, Any] | None = None,
) -> CheckpointWriter:
    """Train `task` in `run`, and return the writer of its checkpoints.

    Args:
        config: the resolved configuration.
        run: the open run.
        task, data: what is trained on what.
        project: what travels in every checkpoint.
        environment: versions and device, for ClearML.
        interruption: owner of the signals.
        monitor, mode: the validation metric that chooses `best.ckpt`; None takes the last epoch.
        veto: a logged count that keeps an epoch from being the best (`CheckpointWriter`).
        validate_every_n_epochs: epochs between validations.
        callbacks: the stage's own, before the writer.
        checkpoint: content of the checkpoint the run goes on from, or None.

    Raises:
        WeightsError: the checkpoint does not fit the task.
    """
    if checkpoint is not None:
        check_fits(task, checkpoint["state_dict"], config.resume_training_from, "resume_training_from")
    loggers = _loggers(config, run, environment, checkpoint)
    clearml_task = next((logger.version for logger in loggers if isinstance(logger, ClearMLTracker)), None)
    writer = CheckpointWriter(
        run.folder,
        {**project, CLEARML_TASK: clearml_task},
        monitor=monitor,
        mode=mode,
        veto=veto,
        save_every_n_steps=config.save_every_n_steps,
        interruption=interruption,
    )
    history = EpochHistory(run.folder)
    trainer = build_trainer(
        folder=run.folder,
        n_epochs=config.n_epochs,
        precision=config.precision,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=config.strategy,
        sync_batchnorm=config.sync_batchnorm,
        accumulate_grad_batches=config.accumulate_grad_batches,
        grad_clip=config.grad_clip,
        callbacks=[*callbacks, history, *progress_callbacks(history), writer],
        loggers=loggers,
        validate_every_n_epochs=validate_every_n_epochs,
    )
    resumed = config.resume_training_from
    assert resumed != "auto"  # `begin_training` has put a file in its place
    fit(trainer, task, data, resumed)
    return writer


def log_best_epoch(writer: CheckpointWriter) -> None:
    """Say which epoch was the best and how to test it; or that none could be scored."""
    if writer.best is None:
        log.warning("no epoch could be scored on the validation folds, so there is no %s; the last is %s", BEST, writer.last_path)
    else:
        log.info("best epoch: %d; to test it: test_ckpt=%s", writer.best["epoch"] + 1, writer.best_path)


def _loggers(config: StageConfig, run: Run, environment: Mapping[str, Any], checkpoint: Mapping[str, Any] | None) -> list[Logger]:
    loggers: list[Logger] = [RunTensorBoard(run.folder, checkpoint["global_step"] if checkpoint else None)]
    if config.clearml:
        assert config.clearml_project_name is not None  # by the configuration's rules
        tracker = clearml_tracker(
            project=config.clearml_project_name,
            experiment=config.experiment,
            config_dump=config.dump(),
            environment=environment,
            upload_images=config.clearml_upload_images,
            task_id=(checkpoint or {}).get(PROJECT, {}).get(CLEARML_TASK),
        )
        loggers.append(tracker)
    return loggers
