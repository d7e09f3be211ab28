"""Fine-tuning a backbone to segment: where network, loss and Dice meet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import MeanMetric

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.segmentation_views import EvaluationCase
from fuse_examples.imaging.oai_example.geometry.resampling import resample
from fuse_examples.imaging.oai_example.geometry.volume import Grid
from fuse_examples.imaging.oai_example.inference.restoration import labels_on_grid
from fuse_examples.imaging.oai_example.inference.windows import predict_volume
from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.objectives.overlap import dice_per_class, joint_histogram
from fuse_examples.imaging.oai_example.training.optimisation import OptimiserSettings, configure_adamw


@dataclass(frozen=True)
class SegmentedCase:
    """Predicted and true labels of one case, (D, H, W) on the input's voxels in the network's axis order (`grid`)."""

    case: Case
    labels: NDArray[Any]
    mask: NDArray[Any] | None
    grid: Grid
    source: Grid


class SegmentationTask(pl.LightningModule):
    """A backbone's decoder with a 1x1x1 head, trained on views and evaluated on whole cases on their own grid.

    Args:
        backbone: encoder and decoder.
        head: (B, decoder_dim, D, H, W) to logits (B, K, D, H, W).
        loss: of logits and labels (B, D, H, W).
        structure_names: of labels 1 to K - 1, for logging.
        optimiser: learning rate and its schedule.
        window: voxels of a sliding window in evaluation, None for whole volumes.
        overlap: share of a window's edge that neighbours share.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        loss: nn.Module,
        structure_names: Sequence[str],
        optimiser: OptimiserSettings,
        window: Sequence[int] | None,
        overlap: float,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.loss = loss
        self.structure_names = tuple(structure_names)
        self.optimiser = optimiser
        self.window = window
        self.overlap = overlap
        self.structure_dice = nn.ModuleList(MeanMetric(nan_strategy="ignore") for _ in self.structure_names)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, D, H, W) image to (B, K, D, H, W) logits."""
        logits: Tensor = self.head(self.backbone.decode(self.backbone.encode(image)))
        return logits

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        loss: Tensor = self.loss(self(batch["image"]), batch["mask"])
        self.log("train/loss", loss, on_step=True, on_epoch=False, prog_bar=True, batch_size=len(batch["image"]))
        return loss

    def validation_step(self, case: EvaluationCase, batch_index: int) -> SegmentedCase:
        prediction, logits = self._predict(case)
        truth = resample(torch.from_numpy(case.mask.copy()), case.matrix, logits.shape[1:], mode="nearest")
        loss = self.loss(logits[None], truth[None].long().to(logits.device))
        self.log("val/loss", loss, on_epoch=True, batch_size=1, sync_dist=True)
        scores = dice_per_class(joint_histogram(case.mask, prediction.labels, len(self.structure_names) + 1))[1:]
        for metric, score in zip(self.structure_dice, scores, strict=True):
            metric.update(float(score))
        return prediction

    def on_validation_epoch_end(self) -> None:
        """Log Dice per structure (mean over the cases that have it) and their mean, on the input's grid."""
        means = torch.stack([metric.compute() for metric in self.structure_dice])
        for name, mean in zip(self.structure_names, means, strict=True):
            self.log(f"val/dice/{name}", mean)
        self.log("val/dice", means.nanmean(), prog_bar=True)
        for metric in self.structure_dice:
            metric.reset()

    def predict_step(self, case: EvaluationCase, batch_index: int) -> SegmentedCase:
        """Labels of one case on the input's voxels."""
        return self._predict(case)[0]

    def configure_optimizers(self) -> Any:
        return configure_adamw(self, self.optimiser)

    def _predict(self, case: EvaluationCase) -> tuple[SegmentedCase, Tensor]:
        logits = predict_volume(self, case.image, self.window, self.overlap)
        labels = labels_on_grid(logits, case.matrix, case.grid.shape)
        return SegmentedCase(case.case, labels, case.mask, case.grid, case.source), logits
