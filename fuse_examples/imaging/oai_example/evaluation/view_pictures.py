"""Pictures of what networks train on, for TensorBoard: a wrong crop or grey scale is seen at a glance."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from fuse_examples.imaging.oai_example.training.trackers import log_image

GAP = 2
"""Black pixels between the slices of a sheet."""
Range = tuple[float, float]


class ViewPictures(Callback):
    """Every few epochs `views/global` and `views/local`: the middle slices of the first volume's views, a row per view.

    Args:
        every_n_epochs: 0 for no pictures.
        n_global: how many views come first as global ones.
    """

    def __init__(self, every_n_epochs: int, n_global: int) -> None:
        self.every_n_epochs, self.n_global = every_n_epochs, n_global

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: dict[str, Any], batch_idx: int) -> None:
        """Show the first batch of the epoch."""
        if batch_idx == 0 and _is_due(self.every_n_epochs, trainer):
            views = [view[0, 0] for view in batch["views"]]
            for name, chosen in (("global", views[: self.n_global]), ("local", views[self.n_global :])):
                if chosen:
                    log_image(trainer.loggers, f"views/{name}", contact_sheet(chosen), trainer.global_step)


class InputPictures(Callback):
    """Every few epochs `train/view`: the middle slices of the first volumes of the epoch, as the network gets them.

    Args:
        every_n_epochs: 0 for no pictures.
    """

    def __init__(self, every_n_epochs: int) -> None:
        self.every_n_epochs = every_n_epochs

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: dict[str, Any], batch_idx: int) -> None:
        """Show the first batch of the epoch."""
        if batch_idx == 0 and _is_due(self.every_n_epochs, trainer):
            log_image(trainer.loggers, "train/view", contact_sheet(list(batch["image"][:4, 0])), trainer.global_step)


def contact_sheet(views: list[Tensor]) -> NDArray[np.uint8]:
    """The three middle slices of each view (D, H, W), a row per view, as grey values 0 to 255."""
    rows = [middle_slices(view.float().cpu().numpy()) for view in views]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, GAP), (0, width - row.shape[1]))) for row in rows]
    return np.concatenate(padded)


def _is_due(every_n_epochs: int, trainer: pl.Trainer) -> bool:
    return every_n_epochs > 0 and trainer.current_epoch % every_n_epochs == 0 and trainer.is_global_zero


def middle_slices(volume: NDArray[Any], values: Range | None = None) -> NDArray[np.uint8]:
    """The three middle slices of (D, H, W) side by side, a gap behind each; `values` as in `grey_values`."""
    grey = grey_values(volume, values)
    slices = [np.take(grey, grey.shape[axis] // 2, axis) for axis in range(3)]
    height = max(picture.shape[0] for picture in slices)
    return np.concatenate([np.pad(picture, ((0, height - picture.shape[0]), (0, GAP))) for picture in slices], axis=1)


def grey_values(volume: NDArray[Any], values: Range | None = None) -> NDArray[np.uint8]:
    """A volume as grey values 0 to 255, from its lowest to its highest value or between those given."""
    low, high = values or (float(volume.min()), float(volume.max()))
    grey: NDArray[np.uint8] = ((volume - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
    return grey
