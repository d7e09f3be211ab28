"""Pictures of what a backbone's features say, while it is pre-trained: the embedding projector, and maps of their principal components."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.class_index import MISSING, ClassIndex
from fuse_examples.imaging.oai_example.data.volume_data_module import VolumeDataModule
from fuse_examples.imaging.oai_example.evaluation.feature_maps import map_sheet, principal_colours
from fuse_examples.imaging.oai_example.evaluation.projector import write_projector
from fuse_examples.imaging.oai_example.evaluation.view_pictures import grey_values
from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.training.trackers import log_image

MOST_CASES = 256
"""As many cases are embedded at most, so that pictures take no long time."""
MAPPED_CASES = 4
Values = NDArray[np.float32]


class FeaturePictures(Callback):
    """Every few epochs, and after the last: the projector of whole volumes, and `features/principal_components` of the first of them.

    Args:
        every_n_epochs: 0 for no pictures.
        backbone: the network whose features they are, in evaluation mode.
        data: whole volumes, in the order of their table, at most `MOST_CASES`.
        targets: labelled columns, to colour the points by.
        folder: the run's.
    """

    def __init__(
        self, every_n_epochs: int, backbone: Backbone, data: VolumeDataModule, targets: Sequence[ClassIndex], folder: Path
    ) -> None:
        self.every_n_epochs, self.backbone, self.data = every_n_epochs, backbone, data
        self.targets, self.folder = tuple(targets), folder

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the features as they stand."""
        is_due = self.every_n_epochs and (
            trainer.current_epoch % self.every_n_epochs == 0 or trainer.current_epoch + 1 == trainer.max_epochs
        )
        if not is_due or not trainer.is_global_zero:
            return
        with trainer.precision_plugin.forward_context():
            features, slices, shown = self._passed(pl_module.device)
        if not np.isfinite(features).all():
            return  # a run that has come to this has its alarm
        cases = [one.case for one in self.data.volumes]
        header = ["case", "PatientID", "fold", *(index.target for index in self.targets)]
        write_projector(self.folder, trainer.global_step, features, header, [self._row(case) for case in cases], slices)
        colours = principal_colours([deepest for _, deepest in shown])
        sheets = [map_sheet(image, one, self.backbone.size_multiple) for (image, _), one in zip(shown, colours, strict=True)]
        log_image(trainer.loggers, "features/principal_components", np.concatenate(sheets), trainer.global_step)

    @torch.no_grad()
    def _passed(self, device: torch.device) -> tuple[Values, list[NDArray[np.uint8]], list[tuple[Values, Values]]]:
        """Features (n, F), a slice of each case, and (image, deepest map) of the first cases."""
        features: list[torch.Tensor] = []
        slices: list[NDArray[np.uint8]] = []
        shown: list[tuple[Values, Values]] = []
        for batch in self.data.predict_dataloader():
            images = batch["image"]
            deepest = self.backbone.encode(images.to(device))[-1]
            features.append(self.backbone.pool(deepest, images.shape[2:]).float().cpu())
            for image, of_image in zip(images[:, 0].float().cpu().numpy(), deepest.float().cpu().numpy(), strict=True):
                slices.append(_slice(image))
                if len(shown) < MAPPED_CASES:
                    shown.append((image, of_image))
        return torch.cat(features).numpy(), slices, shown

    def _row(self, case: Case) -> list[str]:
        labels = [(index, index.label(case)) for index in self.targets]
        return [case.name, case.patient, case.fold, *("" if label == MISSING else index.classes[label] for index, label in labels)]


def _slice(image: Values) -> NDArray[np.uint8]:
    """The middle slice of (D, H, W) along its shortest axis, which in most scans is that across the slices."""
    axis = int(np.argmin(image.shape))
    middle: NDArray[np.uint8] = np.take(grey_values(image), image.shape[axis] // 2, axis)
    return middle
