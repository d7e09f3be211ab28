"""Where curves and pictures go: TensorBoard's event files in the run's folder, and ClearML when it is asked for."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_only
from numpy.typing import NDArray
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loggers.logger import Logger

from fuse_examples.imaging.oai_example.training.clearml_tracker import ClearMLTracker


class RunTensorBoard(TensorBoardLogger):
    """TensorBoard's event files directly in `folder`: no version_0, no hparams.yaml (config.yaml says it all), no "epoch" curve.

    Args:
        folder: the run's folder.
        resumed_at: the optimiser step a run is resumed at; TensorBoard then drops what a cut-off run logged after it, which comes again.
    """

    def __init__(self, folder: Path, resumed_at: int | None = None) -> None:
        super().__init__(save_dir=folder, name="", version="", default_hp_metric=False, purge_step=resumed_at)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars; Lightning's "epoch", which it adds to each call, would arrive several times per step."""
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)

    @rank_zero_only
    def save(self) -> None:
        """Put what was logged on the disk; Lightning's would write hparams.yaml besides."""
        self.experiment.flush()

    @property
    def log_dir(self) -> str:
        """The run's folder."""
        return str(self._root_dir)

    @rank_zero_only
    def log_image(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """Write a picture, (H, W) or (H, W, 3)."""
        self.experiment.add_image(name, image, step, dataformats="HW" if image.ndim == 2 else "HWC")


def log_image(loggers: Iterable[Logger], name: str, image: NDArray[np.uint8], step: int) -> None:
    """Give a picture, (H, W) or (H, W, 3), to each tracker that takes pictures and may have them."""
    for logger in loggers:
        if isinstance(logger, RunTensorBoard | ClearMLTracker):
            logger.log_image(name, image, step)
