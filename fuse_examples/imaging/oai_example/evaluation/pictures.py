"""Pictures for TensorBoard while a segmenter trains: what it sees, and what it makes of a validation case."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from fuse_examples.imaging.oai_example.data.segmentation_views import EvaluationCase
from fuse_examples.imaging.oai_example.evaluation.figures import figure_pixels
from fuse_examples.imaging.oai_example.evaluation.overlay import overlay_figure
from fuse_examples.imaging.oai_example.geometry.maps import output_affine
from fuse_examples.imaging.oai_example.geometry.resampling import resample
from fuse_examples.imaging.oai_example.geometry.volume import Grid
from fuse_examples.imaging.oai_example.inference.restoration import SegmentedCase
from fuse_examples.imaging.oai_example.training.trackers import log_image


class SegmentationPictures(Callback):
    """Every few epochs: `train/view`, the first augmented image with its mask, and `val/prediction`, the first validation case.

    Args:
        every_n_epochs: 0 for no pictures.
        structures: names of labels 1 and up.
    """

    def __init__(self, every_n_epochs: int, structures: Sequence[str]) -> None:
        self.every_n_epochs = every_n_epochs
        self.structures = tuple(structures)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Show the first view of the epoch, as the network gets it."""
        if batch_idx == 0 and self._is_due(trainer):
            image = batch["image"][0, 0].float().cpu().numpy()
            mask = batch["mask"][0].cpu().numpy().astype(np.uint8)
            self._show(trainer, "train/view", image, None, mask, np.eye(4))

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: EvaluationCase,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show the first case of the validation folds with truth and prediction, on the network's voxels."""
        if batch_idx == 0 and self._is_due(trainer) and isinstance(outputs, SegmentedCase):
            shape = batch.image.shape[1:]
            truth = None if batch.mask is None else _labels_of_view(batch.mask, batch.matrix, shape)
            predicted = _labels_of_view(outputs.labels, batch.matrix, shape)
            affine = output_affine(batch.grid.affine, batch.matrix)
            self._show(trainer, "val/prediction", batch.image[0].float().cpu().numpy(), truth, predicted, affine)

    def _is_due(self, trainer: pl.Trainer) -> bool:
        return self.every_n_epochs > 0 and trainer.is_global_zero and trainer.current_epoch % self.every_n_epochs == 0

    def _show(
        self,
        trainer: pl.Trainer,
        tag: str,
        image: NDArray[Any],
        truth: NDArray[Any] | None,
        labels: NDArray[Any],
        affine: NDArray[np.float64],
    ) -> None:
        depth, height, width = image.shape
        figure = overlay_figure(image, truth, labels, Grid((depth, height, width), affine), self.structures)
        log_image(trainer.loggers, tag, figure_pixels(figure), trainer.global_step)


def _labels_of_view(labels: NDArray[Any], matrix: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.uint8]:
    view = resample(np.ascontiguousarray(labels), matrix, shape, mode="nearest")
    return view.numpy().astype(np.uint8)
