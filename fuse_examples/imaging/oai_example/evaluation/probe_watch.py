"""Probes while a backbone is pre-trained: the one curve that says whether its features become useful."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from fuse_examples.imaging.oai_example.data.class_index import ClassIndex
from fuse_examples.imaging.oai_example.data.volume_data_module import VolumeDataModule
from fuse_examples.imaging.oai_example.evaluation.bootstrap import Estimate
from fuse_examples.imaging.oai_example.evaluation.probes import Embedded, probe, with_finite_features
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_table
from fuse_examples.imaging.oai_example.training.gathering import states_of_all

log = logging.getLogger(__name__)
PROBE = "val/probe"
"""Name of the mean of the k-NN's AUC over targets that have one, which chooses the best epoch; the curves are those of the targets."""
TABLE = "probes.csv"
_SETTINGS = Bootstrap(n_resamples=500)  # intervals of a curve


class ProbeWatch(Callback):
    """Every few epochs, and after the first and the last: k-NN and linear probe of each target on the validation cases.

    Logs `val/knn_auc/<target>` and `val/linear_auc/<target>`, and adds rows with intervals to `probes.csv`. Several processes share the
    volumes; the first one probes the features of all, so that all go by the same figures.

    Args:
        every_n_epochs: epochs between two probes.
        known: whole training volumes, in the order of their table.
        asked: whole validation volumes.
        targets: the labelled columns.
        folder: the run's.
    """

    def __init__(
        self, every_n_epochs: int, known: VolumeDataModule, asked: VolumeDataModule, targets: Sequence[ClassIndex], folder: Path
    ) -> None:
        self.every_n_epochs, self.known, self.asked = every_n_epochs, known, asked
        self.targets, self.folder = tuple(targets), folder

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Probe the teacher as it stands."""
        done = trainer.current_epoch + 1
        if done % self.every_n_epochs and done not in (1, trainer.max_epochs):
            pl_module.log(PROBE, float("nan"), logger=False)  # else Lightning keeps the last one, and this epoch might pass for the best
            return
        with trainer.precision_plugin.forward_context():
            known, asked = (embed(pl_module, data, trainer.global_rank, trainer.world_size) for data in (self.known, self.asked))
        if n_damaged := sum(len(one.cases) - len(with_finite_features(one).cases) for one in (known, asked)):
            log.warning("epoch %d: the features of %d volumes are not finite; the probes leave these out", done, n_damaged)
        found = {index.target: probe(known, asked, index, _SETTINGS) for index in self.targets} if trainer.is_global_zero else {}
        found = trainer.strategy.broadcast(found)
        for target, estimates in found.items():
            for name, one in estimates.items():
                pl_module.log(f"val/{name}/{target}", _value(one))
            log.info("epoch %d: %s: k-NN AUC %s, linear AUC %s", done, target, *map(_described, estimates.values()))
        values = [one.value for estimates in found.values() if (one := estimates["knn_auc"]).value is not None]
        pl_module.log(PROBE, float(np.mean(values)) if values else float("nan"), logger=False)
        if trainer.is_global_zero:
            self._write(done, found)

    def _write(self, epoch: int, found: Mapping[str, Mapping[str, Estimate]]) -> None:
        path = self.folder / TABLE
        before = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))[1:] if path.exists() else []
        rows = [
            [str(epoch), target, name, *("" if value is None else f"{value:.4f}" for value in (one.value, one.low, one.high))]
            for target, estimates in found.items()
            for name, one in estimates.items()
        ]
        # A run that was cut off and goes on sees an epoch twice.
        write_table(path, ["epoch", "target", "probe", "value", "low", "high"], [*(row for row in before if int(row[0]) < epoch), *rows])


@torch.no_grad()
def embed(network: pl.LightningModule, data: VolumeDataModule, rank: int = 0, world_size: int = 1) -> Embedded:
    """Features of whole volumes by a task whose `forward` gives them, in the order of the table.

    Args:
        network: the task.
        data: the volumes.
        rank: of this process, which passes its share of the volumes through the network.
        world_size: number of processes. Each of them must call this, and gets the features of all.
    """
    loader, rows = data.shared_dataloader(rank, world_size)
    own = torch.cat([network(batch["image"].to(network.device)).float().cpu() for batch in loader])
    features = own.new_empty(len(data.volumes), own.shape[1])
    for share in states_of_all({"rows": rows, "features": own}, world_size):
        features[share["rows"]] = share["features"]
    return Embedded([one.case for one in data.volumes], features.numpy())


def _value(one: Estimate) -> float:
    return float("nan") if one.value is None else one.value


def _described(one: Estimate) -> str:
    if one.value is None:
        return one.note
    return f"{one.value:.3f}" + (f" ({one.low:.3f} to {one.high:.3f})" if one.low is not None else "")
