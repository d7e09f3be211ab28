"""When checkpoints are written: `last.ckpt` at the end of epochs, every so many steps and on a signal; `best.ckpt` by a metric."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from fuse_examples.imaging.oai_example.errors import ConfigError, WeightsError
from fuse_examples.imaging.oai_example.training.checkpoints import FORMAT_VERSION, PROJECT
from fuse_examples.imaging.oai_example.training.gathering import states_of_all
from fuse_examples.imaging.oai_example.training.interruption import Interrupted, Interruption
from fuse_examples.imaging.oai_example.training.run import leave_to_the_first_process
from fuse_examples.imaging.oai_example.training.safe_files import copy_whole, write_json
from fuse_examples.imaging.oai_example.training.seeding import random_state, restore_random_state

log = logging.getLogger(__name__)

LAST, BEST, METRICS = "last.ckpt", "best.ckpt", "val_metrics.json"


class CheckpointWriter(Checkpoint):
    """Callback that writes a run's checkpoints and `val_metrics.json`, stops the run after a signal, and restores random numbers on resume.

    Being Lightning's `Checkpoint`, it comes after all other callbacks and, at the end of an epoch, after the LightningModule.

    Args:
        folder: the run's folder; checkpoints go to its `checkpoints/`.
        project: what the stage wants to travel in each checkpoint: plain values and tensors. The format version is added.
        monitor: name of the logged validation metric that chooses `best.ckpt`; None makes the last epoch the best.
        mode: whether a larger or a smaller value of it is better.
        veto: name of a logged count; an epoch in which it is not 0 is the best only as long as there is no other.
        save_every_n_steps: also write `last.ckpt` after each so many optimiser steps.
        interruption: the owner of the signals, or None when there is none.
    """

    def __init__(
        self,
        folder: Path,
        project: Mapping[str, Any],
        *,
        monitor: str | None,
        mode: Literal["max", "min"] = "max",
        veto: str | None = None,
        save_every_n_steps: int | None = None,
        interruption: Interruption | None = None,
    ) -> None:
        self.folder, self.project = folder, project
        self.monitor, self.mode, self.veto = monitor, mode, veto
        self.save_every_n_steps, self.interruption = save_every_n_steps, interruption
        self.best: dict[str, Any] | None = None
        self._validated = False
        self._random_state: dict[str, Any] | None = None
        self._stopped_early = False

    @property
    def last_path(self) -> Path:
        """Where the newest state of the run lies."""
        return self.folder / "checkpoints" / LAST

    @property
    def best_path(self) -> Path:
        """Where the state of the best epoch lies."""
        return self.folder / "checkpoints" / BEST

    # ---- when

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on a signal waits for the next optimiser step."""
        if trainer.ckpt_path is not None:
            self._bring_best(Path(trainer.ckpt_path))
        if self._stopped_early:
            log.info("%s was stopped early and is complete; nothing is trained.", trainer.ckpt_path)
            trainer.should_stop = True
        if self.interruption is not None:
            self.interruption.defer()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Resumed at the end of an epoch: random numbers go on as they would have, from the start of the next one."""
        self._restore_random_state(trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Resumed in the middle of an epoch, whose start Lightning does not announce again."""
        self._restore_random_state(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that there are new validation metrics."""
        self._validated = not trainer.sanity_checking

    def on_step_boundary(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Between two optimiser steps of an epoch: save when it is time, save and stop when a signal has come."""
        signum = self._signal(trainer)
        due = self.save_every_n_steps is not None and trainer.global_step % self.save_every_n_steps == 0
        if signum is not None or due:
            self._save(trainer, self.last_path)
        if signum is not None:
            self._stop(signum)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After an epoch and its validation: best first, then last, so that a run cut off between them does this epoch again."""
        if self._better(trainer):
            self._save(trainer, self.best_path)
            if trainer.is_global_zero:
                copy_whole(self.best_path, self.last_path)
        else:
            self._save(trainer, self.last_path)
        self._validated = False
        signum = self._signal(trainer)
        if signum is not None:
            self._stop(signum)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training is over: a signal ends the run at once again, and so does one that came after the last checkpoint."""
        if self.interruption is not None:
            self.interruption.end_deferral()
        signum = self._signal(trainer)
        if signum is not None:
            self._stop(signum)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Likewise when training broke off."""
        if self.interruption is not None:
            self.interruption.end_deferral()

    # ---- what

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch so far; a resumed run goes on comparing with it."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best epoch so far."""
        best = state_dict["best"]
        self.best = None if best is None else {"vetoed": False, **best}

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the project's entry, the state of the random numbers of each rank, and whether early stopping has ended the run."""
        checkpoint[PROJECT] = {**self.project, "format_version": FORMAT_VERSION}
        checkpoint["random_state"] = states_of_all(random_state(), trainer.world_size)
        checkpoint["stopped_early"] = trainer.should_stop

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the state of the random numbers until training begins; building the network and the loaders still draws some."""
        if PROJECT not in checkpoint:
            raise WeightsError(f"{trainer.ckpt_path} was not written by a run of this project and cannot be resumed.")
        states = checkpoint["random_state"]
        self._random_state = states[trainer.global_rank] if len(states) == trainer.world_size else None
        self._stopped_early = checkpoint["stopped_early"]
        done, wanted = epochs_done(checkpoint), trainer.max_epochs or 0
        check_epochs(done, wanted, trainer.ckpt_path)
        if done == wanted:
            log.info("%s has trained for all %d epochs; nothing is trained. A larger n_epochs goes on.", trainer.ckpt_path, wanted)

    # ---- how

    def _save(self, trainer: pl.Trainer, path: Path) -> None:
        for logger in trainer.loggers:
            logger.save()  # what was logged before a checkpoint is on the disk when a resumed run begins after it
        trainer.save_checkpoint(path)

    def _signal(self, trainer: pl.Trainer) -> int | None:
        """The signal that has come to any rank, so that all stop at the same step."""
        own = 0 if self.interruption is None else self.interruption.requested or 0
        if trainer.world_size > 1:
            own = int(trainer.strategy.reduce(torch.tensor(float(own), device=trainer.strategy.root_device), reduce_op="max"))
        return own or None

    def _stop(self, signum: int) -> None:
        stopped = Interrupted(signum, f"Stopped by {Interrupted(signum).signum.name}; go on with resume_training_from={self.last_path}")
        leave_to_the_first_process()
        log.debug("%s", stopped)  # for the file; the entry script shows it
        raise stopped

    def _better(self, trainer: pl.Trainer) -> bool:
        """Compare this epoch's validation with the best so far and, when it is better, take it down."""
        logged = trainer.callback_metrics.items()
        metrics = {name: float(value) for name, value in logged if not name.startswith("train/")}
        vetoed = self.veto is not None and metrics.get(self.veto, 0.0) > 0
        if vetoed and self.best is not None and not self.best["vetoed"]:
            return False
        if self.monitor is None:
            value = None
        elif not self._validated:
            return False
        elif self.monitor not in metrics:
            raise RuntimeError(
                f"{self.monitor} is to choose the best checkpoint but was not logged in validation; logged: {sorted(metrics)}"
            )
        else:
            value = metrics[self.monitor]
            is_first_sound = not vetoed and self.best is not None and self.best["vetoed"] and value == value
            if not is_first_sound and not self._beats(value):
                return False
        self.best = {
            "monitor": self.monitor,
            "value": value,
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "metrics": metrics,
            "vetoed": vetoed,
        }
        if metrics and trainer.is_global_zero:
            self._write_metrics()
        return True

    def _write_metrics(self) -> None:
        assert self.best is not None
        # Epochs count from 1 wherever people read them.
        told = {name: value for name, value in self.best.items() if name != "vetoed"}
        write_json(self.folder / METRICS, {**told, "epoch": self.best["epoch"] + 1})

    def _beats(self, value: float) -> bool:
        if self.best is None or self.best["value"] is None:
            return value == value  # NaN is never the best
        best: float = self.best["value"]
        return value > best if self.mode == "max" else value < best

    def _restore_random_state(self, trainer: pl.Trainer) -> None:
        state, self._random_state = self._random_state, None
        if state is not None:
            restore_random_state(state)

    def _bring_best(self, resumed: Path) -> None:
        """A run resumed into another folder takes its best epoch along, or begins to look for one anew."""
        if self.best is None or self.best_path.exists():
            return
        beside = resumed.with_name(BEST)
        if beside.exists():
            copy_whole(beside, self.best_path)
            self._write_metrics()
        else:
            log.warning("%s is not there any more; the best epoch is chosen among those that follow.", beside)
            self.best = None


def epochs_done(checkpoint: Mapping[str, Any]) -> int:
    """Whole epochs that the run of a checkpoint has behind it."""
    done: int = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    return done


def check_epochs(done: int, wanted: int, path: object) -> None:
    """Refuse an `n_epochs` that a run has left behind already. Raises ConfigError."""
    if done > wanted:
        raise ConfigError(f"n_epochs: {wanted}, but {path} has trained for {done} epochs. Give n_epochs of {done} or more.")
