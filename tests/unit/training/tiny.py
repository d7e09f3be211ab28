"""A training run of a fraction of a second: one weight, scripted validation scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from fuse_examples.imaging.oai_example.training.checkpoint_writer import CheckpointWriter
from fuse_examples.imaging.oai_example.training.trainer import build_trainer, fit


class TinyTask(pl.LightningModule):
    def __init__(self, scores: Sequence[float] = (), n_batches: int = 3) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.scores, self.n_batches = scores, n_batches
        self.steps: list[int] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.steps.append(self.global_step)
        loss = self.layer(batch).square().mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/score", torch.tensor(float(self.scores[self.current_epoch])), prog_bar=True)
        self.log("val/other", torch.tensor(float(self.current_epoch)))

    def train_dataloader(self) -> Any:
        return DataLoader(torch.ones(self.n_batches, 1), batch_size=1)

    def val_dataloader(self) -> Any:
        return DataLoader(torch.ones(1 if self.scores else 0, 1), batch_size=1)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def tiny_run(
    folder: Path, task: TinyTask, *, n_epochs: int, resume_from: Path | None = None, callbacks: Sequence[Any] = (), **options: Any
) -> CheckpointWriter:
    loggers = options.pop("loggers", ())
    trainer_options = {
        name: options.pop(name) for name in ("accumulate_grad_batches", "log_every_n_steps", "validate_every_n_epochs") if name in options
    }
    writer = CheckpointWriter(folder, {"classes": ["a"]}, **({"monitor": "val/score"} | options))
    trainer = build_trainer(
        folder=folder,
        n_epochs=n_epochs,
        accelerator="cpu",
        precision="fp32",
        callbacks=[*callbacks, writer],
        loggers=loggers,
        **trainer_options,
    )
    fit(trainer, task, None, resume_from)  # type: ignore[arg-type]
    return writer
