"""Test predictions, one case at a time: the mask on disk, the scores in memory, and the pictures of the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import BasePredictionWriter

from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.evaluation.figures import png_bytes
from fuse_examples.imaging.oai_example.evaluation.masks import mask_path, write_mask
from fuse_examples.imaging.oai_example.evaluation.overlay import overlay_figure
from fuse_examples.imaging.oai_example.evaluation.segmentation_results import CasePrediction, choose_examples, score_case
from fuse_examples.imaging.oai_example.evaluation.structure_scores import ScoreSettings
from fuse_examples.imaging.oai_example.geometry.volume import from_file_order, to_source_order
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


def example_overlays(
    folder: Path, cases: Sequence[CasePrediction], volumes: Mapping[str, CaseVolumes], structures: Sequence[str]
) -> dict[str, bytes]:
    """Return pictures (PNG) of the worst, the median and the best case by name, from the masks on disk; each is also written as a file."""
    overlays = {}
    for role, case in choose_examples(cases).items():
        image, truth = volumes[case.name].image(), volumes[case.name].mask()
        written: Any = nibabel.load(folder / case.mask)
        predicted = from_file_order(np.asarray(written.dataobj), written.affine).oriented(image.grid.orientation)
        title = f"{case.name}: mean Dice {case.mean():.3f}"
        figure = overlay_figure(np.asarray(image.array), np.asarray(truth.array), predicted.array, image.grid, structures, title)
        overlays[case.name] = png_bytes(figure)
        (folder / f"{role}.png").write_bytes(overlays[case.name])
    return overlays
