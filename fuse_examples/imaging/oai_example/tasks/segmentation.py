"""Fine-tuning a backbone to segment: where network, loss and Dice meet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torchmetrics import MeanMetric

from fuse_examples.imaging.oai_example.data.segmentation_views import EvaluationCase
from fuse_examples.imaging.oai_example.geometry.resampling import resample
from fuse_examples.imaging.oai_example.inference.restoration import SegmentedCase, labels_on_grid
from fuse_examples.imaging.oai_example.inference.windows import predict_volume
from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.objectives.overlap import dice_per_class, joint_histogram
from fuse_examples.imaging.oai_example.tasks.fine_tuning import FineTuningTask, Reestimation
from fuse_examples.imaging.oai_example.training.optimisation import adamw_with_schedule, parameter_groups


@dataclass(frozen=True)
class SegmentationRecipe:
    """How a segmenter is trained and evaluated.

    Attributes:
        learning_rate, weight_decay, warmup_epochs: AdamW and its schedule (`training.optimisation`).
        window: voxels of a sliding window in evaluation, None for whole volumes.
        overlap: share of a window's edge that neighbours share.
        freeze_backbone, reestimate_norm_statistics: see `FineTuningTask`.
        layer_decay: factor of the backbone's learning rate per level of distance from the head.
    """

    learning_rate: float
    weight_decay: float
    warmup_epochs: int
    window: tuple[int, int, int] | None
    overlap: float
    freeze_backbone: bool | int = False
    layer_decay: float = 1.0
    reestimate_norm_statistics: Reestimation = "auto"


class SegmentationTask(FineTuningTask):
    """A backbone's decoder with a 1x1x1 head, trained on views and evaluated on whole cases on their own grid.

    Args:
        backbone: encoder and decoder.
        head: (B, decoder_dim, D, H, W) to logits (B, K, D, H, W).
        loss: of logits and labels (B, D, H, W).
        structure_names: of labels 1 to K - 1, for logging.
        recipe: learning rate, schedule and windows.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        loss: nn.Module,
        structure_names: Sequence[str],
        recipe: SegmentationRecipe,
    ) -> None:
        super().__init__(backbone, recipe.freeze_backbone, recipe.reestimate_norm_statistics)
        self.head = head
        self.loss = loss
        self.structure_names = tuple(structure_names)
        self.recipe = recipe
        self.structure_dice = [MeanMetric(nan_strategy="ignore") for _ in self.structure_names]
        self.mean_dice = MeanMetric(nan_strategy="ignore")

        self.train()  # Lightning trains modules in the mode it finds them in, and a frozen backbone comes in training mode

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, D, H, W) image to (B, K, D, H, W) logits."""
        logits: Tensor = self.head(self.features(image))
        return logits

    def _features(self, image: Tensor) -> Tensor:
        return self.backbone.decode(self.backbone.encode(image))

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Loss of one batch of augmented views."""
        loss: Tensor = self.loss(self(batch["image"]), batch["mask"])
        self.log("train/loss", loss, on_step=True, on_epoch=False, prog_bar=True, batch_size=len(batch["image"]))
        return loss

    def validation_step(self, case: EvaluationCase, batch_index: int) -> SegmentedCase:  # type: ignore[override]  # any output is passed on
        """Dice on the input's own voxels, as in testing; the loss on the network's."""
        assert case.mask is not None  # the table of a segmentation run has a mask in each row
        prediction, logits = self._predict(case)
        truth = resample(case.mask, case.matrix, logits.shape[1:], mode="nearest")
        loss = self.loss(logits[None], truth[None].long().to(logits.device))
        self.log("val/loss", loss, on_epoch=True, batch_size=1, sync_dist=True)
        scores = dice_per_class(joint_histogram(case.mask, prediction.labels, len(self.structure_names) + 1))[1:]
        for metric, score in zip(self.structure_dice, scores, strict=True):
            metric.update(float(score))
        self.mean_dice.update(float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan"))
        return prediction

    def on_validation_epoch_end(self) -> None:
        """Log Dice per structure over the cases that have it, and the mean over cases of each case's mean."""
        for name, metric in zip(("", *(f"/{name}" for name in self.structure_names)), (self.mean_dice, *self.structure_dice), strict=True):
            self.log(f"val/dice{name}", metric.compute(), prog_bar=not name)
            metric.reset()

    def predict_step(self, case: EvaluationCase, batch_index: int) -> SegmentedCase:
        """Labels of one case on the input's voxels."""
        return self._predict(case)[0]

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and cosine per optimiser step."""
        n_steps = int(self.trainer.estimated_stepping_batches)
        n_warmup = round(n_steps * self.recipe.warmup_epochs / max(1, self.trainer.max_epochs or 1))
        groups = [
            *parameter_groups(self.head.named_parameters(), self.recipe.learning_rate, self.recipe.weight_decay),
            *self.backbone_groups(self.recipe.learning_rate, self.recipe.weight_decay, self.recipe.layer_decay),
        ]
        return adamw_with_schedule(groups, n_steps=n_steps, n_warmup=n_warmup)

    def _predict(self, case: EvaluationCase) -> tuple[SegmentedCase, Tensor]:
        logits = predict_volume(self, case.image, self.recipe.window, self.recipe.overlap)
        labels = labels_on_grid(logits, case.matrix, case.grid.shape)
        row = case.case
        return SegmentedCase(row.name, row.patient, row.fold, row.row, labels, case.mask, case.grid, case.source), logits
