"""Where a Lightning trainer is put together; what it must leave alone (files, signals, the order of samples) matters most."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint, ProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector

from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.training.checkpoints import AtomicCheckpointIO
from fuse_examples.imaging.oai_example.training.epoch_loop import install_epoch_loop

Precision = Literal["auto", "bf16", "fp32"]

UNWANTED_WARNINGS = {
    "resuming from a checkpoint that ended before the epoch ended": "the sampler is repositioned by the data module",
    "does not have many workers": "n_workers is the user's choice, and data_wait shows whether it is too small",
    "is smaller than the logging interval": "small data sets are meant",
    "was not set when": "the batch size is read from the samples by the task",
    "Found .* module\\(s\\) in eval mode": "frozen and teacher networks are meant to be in evaluation mode",
    "You defined a `validation_step` but have no `val_dataloader`": "val_folds may be empty in pre-training",
    "Total length of `list` across ranks is zero": "likewise",
    "Checkpoint directory .* exists and is not empty": "the run folder refuses or clears what is there",
    "GPU available but not used": "the device is the user's choice",
    "You are using a custom batch sampler": "EpochSampler returns every row",
    "isinstance\\(treespec, LeafSpec\\)": "Lightning 2.6 against torch 2.13; theirs to mend",
    "The dirpath has changed": "checkpoints are not Lightning's here",
}
"""Texts of Lightning's warnings that are passed over, each with the reason."""


def build_trainer(
    *,
    folder: Path,
    n_epochs: int,
    precision: Precision = "auto",
    accelerator: str = "auto",
    devices: int | Literal["auto"] = 1,
    num_nodes: int = 1,
    strategy: Literal["auto", "ddp"] = "auto",
    sync_batchnorm: bool = False,
    accumulate_grad_batches: int = 1,
    grad_clip: float | None = None,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    log_every_n_steps: int = 10,
    validate_every_n_epochs: int = 1,
    limit_train_batches: int | None = None,
    limit_val_batches: int | None = None,
) -> pl.Trainer:
    """Return a trainer that writes only what its callbacks and loggers write, and that can stop and resume between optimiser steps.

    Args:
        folder: the run's folder.
        n_epochs: epochs of the whole run, those before a resume included.
        precision: "auto" takes bf16 where the device is good at it.
        accelerator: Lightning's name of the device: "auto", "cpu", "gpu", "mps".
        devices: how many of them on each machine; "auto" takes all GPUs, or one process on a CPU.
        num_nodes: machines, started together by torchrun or SLURM.
        strategy: "auto" is data-parallel ("ddp") where there are several processes.
        sync_batchnorm: take the statistics of batch normalisation over all GPUs.
        accumulate_grad_batches: batches per optimiser step; the last step of an epoch may have fewer.
        grad_clip: largest norm of the gradient, or None.
        callbacks: among them the `CheckpointWriter`; without one nothing is saved.
        loggers: where scalars go.
        log_every_n_steps: optimiser steps between two scalars of a curve.
        validate_every_n_epochs: epochs between validations.
        limit_train_batches: end each epoch after so many batches; for trying a configuration.
        limit_val_batches: the same in validation.

    Raises:
        ConfigError: synchronised batch normalisation without a GPU.
    """
    if sync_batchnorm and device_kind(accelerator) != "cuda":
        raise ConfigError("sync_batchnorm: true needs GPUs, and this machine shows none. Set it to false, or norm_statistics: instance.")
    for text in UNWANTED_WARNINGS:
        warnings.filterwarnings("ignore", message=f".*{text}")
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_epochs=n_epochs,
        accelerator=accelerator,
        devices=n_devices(devices),
        num_nodes=num_nodes,
        strategy=strategy,
        sync_batchnorm=sync_batchnorm,
        precision=resolve_precision(precision, accelerator),
        accumulate_grad_batches=accumulate_grad_batches,
        gradient_clip_val=grad_clip,
        callbacks=list(callbacks),
        logger=list(loggers) or False,
        log_every_n_steps=log_every_n_steps,
        check_val_every_n_epoch=validate_every_n_epochs,
        limit_train_batches=limit_train_batches,
        limit_val_batches=limit_val_batches,
        # With a Checkpoint among the callbacks True only keeps Lightning from adding its own.
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=False,
        enable_autolog_hparams=False,
        # A first look at validation batches would draw random numbers and log a step before the first.
        num_sanity_val_steps=0,
        # The sampler knows ranks itself; Lightning's would change the order.
        use_distributed_sampler=False,
        plugins=[AtomicCheckpointIO()],
    )
    install_epoch_loop(trainer)
    trainer._signal_connector = _NoSignals(trainer)
    return trainer


def fit(trainer: pl.Trainer, task: pl.LightningModule, data: pl.LightningDataModule, resume_from: Path | None = None) -> None:
    """Train, from the start or from a checkpoint; every load is safe."""
    trainer.fit(task, datamodule=data, ckpt_path=resume_from, weights_only=True)


def n_devices(devices: int | Literal["auto"]) -> int:
    """How many processes a machine trains with: the number asked for, or with "auto" one for each GPU and at least one."""
    return max(1, torch.cuda.device_count()) if devices == "auto" else devices


def resolve_precision(precision: Precision, accelerator: str = "auto") -> Literal["bf16-mixed", "32-true"]:
    """Return Lightning's name for a precision; "auto" is bf16 where the device computes in it, else fp32."""
    wanted = has_fast_bf16(device_kind(accelerator)) if precision == "auto" else precision == "bf16"
    return "bf16-mixed" if wanted else "32-true"


def device_kind(accelerator: str = "auto") -> Literal["cuda", "mps", "cpu"]:
    """The kind of device that an accelerator's name stands for on this machine."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "cuda"
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def has_fast_bf16(device: Literal["cuda", "mps", "cpu"]) -> bool:
    """Whether the device multiplies bf16 in hardware; emulation is slower than fp32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "mps":
        return False
    return any(cpu_has(flag) for flag in ("avx512_bf16", "amx_bf16"))


def cpu_has(flag: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor lists an instruction set; False where there is no such list (macOS)."""
    try:
        return f" {flag} " in cpuinfo.read_text().replace("\n", " ")
    except OSError:
        return False


class _NoSignals(_SignalConnector):
    """Lightning's signal handling, left out: `Interruption` owns the signals.

    Lightning would stop at any batch on SIGTERM, also between the batches of one optimiser step, exit with 0, and requeue under SLURM.
    """

    def register_signal_handlers(self) -> None:
        """Install nothing; `teardown` then restores nothing."""
