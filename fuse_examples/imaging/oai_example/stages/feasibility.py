"""`--check`: try two batches of a run for real, and say what the whole run would do and cost."""

import logging
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.volume_data_module import VolumeDataModule
from fuse_examples.imaging.oai_example.geometry.volume import Shape
from fuse_examples.imaging.oai_example.models.backbone import Backbone, describe_padding
from fuse_examples.imaging.oai_example.stages.opening import OpenedCases
from fuse_examples.imaging.oai_example.training.trainer import build_trainer, device_kind, fit, resolve_precision

_TRIED = 2  # the first batch also allocates memory and chooses kernels; the second is what the others will be like


class _Clock(Callback):
    """Seconds of the last training batch, waiting for it included, and of the last evaluation batch: on the clock, and of this processor.

    The two differ where other work is on the machine, or where workers or a GPU do what the clock waits for.
    """

    def __init__(self) -> None:
        self.training = self.evaluation = (0.0, 0.0)
        self._then = self._now()

    def on_train_batch_end(self, *_: Any) -> None:
        self.training = self._since()

    def on_validation_batch_end(self, *_: Any) -> None:
        self.evaluation = self._since()

    def on_validation_start(self, *_: Any) -> None:
        self._since()

    def _since(self) -> tuple[float, float]:
        now = self._now()
        (clock, processor), self._then = self._then, now
        return now[0] - clock, now[1] - processor

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()


@dataclass(frozen=True)
class Trial:
    """What a trial took: seconds of a training batch, waiting for it included, and of an evaluation batch.

    Attributes:
        training, evaluation: on the clock.
        training_cpu, evaluation_cpu: of this process's processor time, in which other work on the machine does not count.
    """

    training: float
    evaluation: float
    training_cpu: float
    evaluation_cpu: float


def try_out(config: StageConfig, task: pl.LightningModule, data: VolumeDataModule, cases: OpenedCases, facts: Sequence[str]) -> Trial:
    """Train on two batches and evaluate one, in a folder that is thrown away; print cases, counts, store, memory and time.

    Args:
        config: the resolved configuration.
        task, data: what the run would train on what.
        cases: the cases of the run.
        facts: the stage's own lines, such as class counts.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # its remarks speak of the two batches, not of the run
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(
            folder=Path(folder),
            n_epochs=1,
            precision=config.precision,
            accumulate_grad_batches=config.accumulate_grad_batches,
            grad_clip=config.grad_clip,
            callbacks=[clock],
            limit_train_batches=_TRIED,
            limit_val_batches=1,
        )
        fit(trainer, task, data)
    trial = Trial(clock.training[0], clock.evaluation[0], clock.training[1], clock.evaluation[1])
    steps = len(data.train_dataloader())
    evaluations = len(data.val_dataloader())
    validations = config.n_epochs // getattr(config, "validate_every_n_epochs", 1)
    seconds = config.n_epochs * steps * trial.training + validations * evaluations * trial.evaluation
    lines = [
        f"training      {_counted(cases.train)}",
        f"validation    {_counted(cases.evaluation)}",
        f"test          {_counted(cases.test)}, opened by a run with test_ckpt only",
        *facts,
        f"network       {config.backbone}, {sum(p.numel() for p in task.parameters() if p.requires_grad):,} parameters to train",
        f"device        {device_kind()}, {resolve_precision(config.precision)}",
        f"memory        {_peak_memory()}",
        f"time          {trial.training:.2f} s a batch, {steps} batches an epoch, {config.n_epochs} epochs: about {duration(seconds)}",
    ]
    print("\n".join(lines))
    return trial


def store_size(volumes: Sequence[CaseVolumes]) -> str:
    """A line that says how much of the store these cases take."""
    size = sum(sum(image.array.nbytes for image in one.images()) + (one.mask().array.nbytes if one.case.mask else 0) for one in volumes)
    return f"store         {_bytes(size)}"


def padding_lines(backbone: Backbone, sizes: Mapping[str, Shape]) -> list[str]:
    """Lines on the sizes, by their keys, that the backbone pads."""
    told = (describe_padding(backbone, size, key) for key, size in sizes.items())
    return [f"padding       {text}" for text in told if text is not None]


def print_test(cases: OpenedCases) -> None:
    """What a test run would do; its checkpoint and cases have been looked at by now."""
    print(f"test          {_counted(cases.evaluation)}")


def _counted(cases: Sequence[Case]) -> str:
    folds = sorted({case.fold for case in cases})
    each = ", ".join(f"fold {fold}: {sum(case.fold == fold for case in cases)}" for fold in folds)
    return f"{len(cases)} cases of {len({case.patient for case in cases})} patients" + (f" ({each})" if each else "")


def _peak_memory() -> str:
    # Linux counts kilobytes, macOS bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    on_device = f", {_bytes(torch.cuda.max_memory_allocated())} on the GPU" if torch.cuda.is_available() else ""
    return f"{_bytes(peak)} at most{on_device}; each of n_workers needs about two volumes more"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def duration(seconds: float) -> str:
    """Return seconds as people read them: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
