"""A tiny training run that the tests of interruption start as a process of its own, and kill.

`python toy_run.py FOLDER [--resume CHECKPOINT] [--workers N] [--accumulate N] [--save-every N] [--send SIGNAL --at STEP] ...`
It appends the rows of each batch to FOLDER/rows.txt as it trains on them and writes its final weights to FOLDER/final.pt.
"""

import argparse
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import Dataset

from fuse_examples.imaging.oai_example.data.loading import build_loader
from fuse_examples.imaging.oai_example.data.sampler import EpochSampler, ResumableOrder, SampleKey
from fuse_examples.imaging.oai_example.training.checkpoint_writer import CheckpointWriter
from fuse_examples.imaging.oai_example.training.interruption import Interrupted, Interruption
from fuse_examples.imaging.oai_example.training.optimisation import adamw_with_schedule, parameter_groups
from fuse_examples.imaging.oai_example.training.seeding import seed_run
from fuse_examples.imaging.oai_example.training.trainer import build_trainer, fit

SEED = 7


class ToyScans(Dataset):
    """Samples drawn from (seed, epoch, row): (1, 4, 4, 4) and the row."""

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, key: SampleKey) -> tuple[torch.Tensor, int, int]:
        draw = np.random.default_rng([SEED, key.epoch, key.row])
        return torch.from_numpy(draw.standard_normal((1, 4, 4, 4), dtype=np.float32)), key.epoch, key.row


class ToyData(ResumableOrder, pl.LightningDataModule):
    def __init__(self, n_rows: int, n_workers: int) -> None:
        super().__init__()
        self.n_rows, self.n_workers = n_rows, n_workers

    def train_dataloader(self) -> object:
        return build_loader(ToyScans(self.n_rows), self.train_sampler(self.n_rows, 2, SEED), n_workers=self.n_workers)

    def val_dataloader(self) -> object:
        return build_loader(ToyScans(4), EpochSampler(4, 2, SEED, shuffle=False), n_workers=self.n_workers)


class ToyTask(pl.LightningModule):
    """Dropout (random state), batch norm (buffers) and a teacher that follows after each step (a hook that comes late)."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__()
        self.options = options
        self.student = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(32, 1))
        self.teacher = nn.Linear(32, 1)
        self.teacher.requires_grad_(False)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, epochs, rows = batch
        with (self.options.folder / "rows.txt").open("a") as file:
            file.write(
                f"{self.trainer.global_step} " + " ".join(f"{e}:{r}" for e, r in zip(epochs.tolist(), rows.tolist(), strict=True)) + "\n"
            )
        self.send("step", self.global_step)
        loss = (self.student(images) - images.mean((1, 2, 3, 4))[:, None] - 0.1 * self.teacher.weight.mean()).square().mean()
        self.log("train/loss", loss, on_epoch=True)
        return loss

    def on_train_batch_end(self, *_: object) -> None:
        with torch.no_grad():
            self.teacher.weight.lerp_(self.student[-1].weight, 0.1)

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        self.send("validation", self.current_epoch)
        self.log("val/score", -self.student(batch[0]).square().mean())

    def send(self, phase: str, at: int) -> None:
        """Send the signal once, when the run is where the options say."""
        if (phase, at) == (self.options.phase, self.options.at) and self.options.send:
            target = f"-{os.getpgrp()}" if self.options.group else f"{os.getpid()}"
            # By another process, as in life: a loader's workers ask who sent it.
            subprocess.run(["sh", "-c", f"kill -s {self.options.send.removeprefix('SIG')} -- {target}"])
            self.options.send = None
            time.sleep(self.options.slow_step)

    def configure_optimizers(self) -> dict[str, object]:
        groups = parameter_groups(self.student.named_parameters(), 1e-2, 0.05)
        return adamw_with_schedule(groups, n_steps=int(self.trainer.estimated_stepping_batches), n_warmup=3)


def options(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--rows", type=int, default=19)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--validate-every", type=int, default=1)
    parser.add_argument("--save-every", type=int)
    parser.add_argument("--send")
    parser.add_argument("--at", type=int, default=0)
    parser.add_argument("--phase", choices=["start", "step", "validation"], default="step")
    parser.add_argument("--slow-step", type=float, default=0.0, help="seconds that the step takes in which the signal comes")
    parser.add_argument("--group", action="store_true", help="send the signal to the whole process group, as a terminal does")
    return parser.parse_args(words)


def train(chosen: argparse.Namespace, interruption: Interruption) -> None:
    torch.set_num_threads(1)
    seed_run(SEED)
    task = ToyTask(chosen)
    data = ToyData(chosen.rows, chosen.workers)
    if chosen.phase == "start":
        os.kill(os.getpid(), getattr(signal, chosen.send))
    writer = CheckpointWriter(
        chosen.folder, {"stage": "toy"}, monitor="val/score", save_every_n_steps=chosen.save_every, interruption=interruption
    )
    trainer = build_trainer(
        folder=chosen.folder,
        n_epochs=chosen.epochs,
        accelerator="cpu",
        precision="fp32",
        accumulate_grad_batches=chosen.accumulate,
        validate_every_n_epochs=chosen.validate_every,
        callbacks=[writer],
    )
    fit(trainer, task, data, chosen.resume)
    torch.save(task.state_dict(), chosen.folder / "final.pt")


def main(words: Sequence[str] | None = None) -> int:
    chosen = options(words)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    try:
        with Interruption() as interruption:
            train(chosen, interruption)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return stopped.exit_code
    return 0


def as_child(words: Sequence[str], errors: Path) -> None:
    """Be a process of one's own: a session for signals to the group, and a file for standard error."""
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # for the loader's workers, as in a process started by hand
    with errors.open("w") as file:
        os.dup2(file.fileno(), 2)
    warnings.simplefilter("ignore")
    sys.exit(main(words))


if __name__ == "__main__":
    sys.exit(main())
