"""Test predictions, one case at a time: the mask on disk and the scores in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import BasePredictionWriter

from fuse_examples.imaging.oai_example.evaluation.masks import mask_path, write_mask
from fuse_examples.imaging.oai_example.evaluation.segmentation_results import CasePrediction, score_case
from fuse_examples.imaging.oai_example.evaluation.structure_scores import ScoreSettings
from fuse_examples.imaging.oai_example.geometry.volume import to_source_order
from fuse_examples.imaging.oai_example.inference.restoration import SegmentedCase


class SegmentationWriter(BasePredictionWriter):
    """Callback that writes each predicted mask and scores it where there is a true one.

    Attributes:
        cases: the scores so far.
    """

    def __init__(self, folder: Path, structures: Sequence[str], settings: ScoreSettings | None = None) -> None:
        super().__init__(write_interval="batch")
        self.folder = folder
        self.structures = tuple(structures)
        self.settings = settings
        self.cases: list[CasePrediction] = []

    def write_on_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, prediction: Any, *_: Any) -> None:
        """Write and score one `SegmentedCase`."""
        self.add(prediction)

    def add(self, prediction: SegmentedCase) -> None:
        """Write the mask in the file's own axis order, and score it on the same voxels."""
        path = mask_path(self.folder, prediction.name)
        write_mask(path, to_source_order(prediction.labels, prediction.grid, prediction.source), prediction.source)
        if prediction.mask is not None:
            self.cases.append(
                score_case(
                    prediction.mask,
                    prediction.labels,
                    prediction.grid,
                    self.structures,
                    name=prediction.name,
                    patient=prediction.patient,
                    fold=prediction.fold,
                    row=prediction.row,
                    mask=str(path.relative_to(self.folder)),
                    settings=self.settings,
                )
            )
