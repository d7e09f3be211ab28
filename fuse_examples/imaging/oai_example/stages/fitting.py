"""Training as all stages do it: loggers, callbacks, trainer, and the way back into an interrupted run."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.training.checkpoint_writer import CheckpointWriter
from fuse_examples.imaging.oai_example.training.interruption import Interruption
from fuse_examples.imaging.oai_example.training.progress import progress_callbacks
from fuse_examples.imaging.oai_example.training.run import Run
from fuse_examples.imaging.oai_example.training.trackers import RunTensorBoard
from fuse_examples.imaging.oai_example.training.trainer import build_trainer, fit


def fit_run(
    config: StageConfig,
    run: Run,
    task: pl.LightningModule,
    data: pl.LightningDataModule,
    project: Mapping[str, Any],
    interruption: Interruption,
    *,
    monitor: str | None,
    mode: Literal["max", "min"] = "max",
    validate_every_n_epochs: int = 1,
    callbacks: Sequence[Callback] = (),
    resumed_at: int | None = None,
) -> CheckpointWriter:
    """Train `task` in `run`, and return the writer of its checkpoints.

    Args:
        config: the resolved configuration.
        run: the open run.
        task, data: what is trained on what.
        project: what travels in every checkpoint.
        interruption: owner of the signals.
        monitor, mode: the validation metric that chooses `best.ckpt`; None takes the last epoch.
        validate_every_n_epochs: epochs between validations.
        callbacks: the stage's own, before the writer.
        resumed_at: optimiser step of the checkpoint the run goes on from.
    """
    writer = CheckpointWriter(
        run.folder, project, monitor=monitor, mode=mode, save_every_n_steps=config.save_every_n_steps, interruption=interruption
    )
    trainer = build_trainer(
        folder=run.folder,
        n_epochs=config.n_epochs,
        precision=config.precision,
        accumulate_grad_batches=config.accumulate_grad_batches,
        grad_clip=config.grad_clip,
        callbacks=[*progress_callbacks(), *callbacks, writer],
        loggers=[RunTensorBoard(run.folder, resumed_at)],
        validate_every_n_epochs=validate_every_n_epochs,
    )
    fit(trainer, task, data, config.resume_training_from)
    return writer
