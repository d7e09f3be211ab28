"""Fine-tuning a backbone to predict one or more targets of a volume: classes, grades or numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fuse_examples.imaging.oai_example.data.class_index import MISSING
from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.objectives.target_objectives import TargetObjective
from fuse_examples.imaging.oai_example.tasks.fine_tuning import FineTuningTask, Reestimation
from fuse_examples.imaging.oai_example.training.optimisation import adamw_with_schedule, parameter_groups

THRESHOLDS = "thresholds"
"""Where a checkpoint keeps, by target, the threshold that its validation cases chose."""


@dataclass(frozen=True)
class ClassificationRecipe:
    """How a classifier is trained.

    Attributes:
        learning_rate: of the backbone.
        head_learning_rate: of the heads.
        weight_decay, warmup_epochs: AdamW and its schedule (`training.optimisation`).
        freeze_backbone, reestimate_norm_statistics: see `FineTuningTask`.
        layer_decay: factor of the backbone's learning rate per level of distance from the heads.
    """

    learning_rate: float
    head_learning_rate: float
    weight_decay: float
    warmup_epochs: int
    freeze_backbone: bool | int = False
    layer_decay: float = 1.0
    reestimate_norm_statistics: Reestimation = "auto"


class ClassificationTask(FineTuningTask):
    """A backbone's pooled features with a head per target.

    Args:
        backbone: the encoder.
        heads: features (B, F) to {target: outputs (B, its objective's n_outputs)}.
        objectives: target -> what its head learns.
        recipe: learning rates and schedule.
        pooling: turns the backbone's deepest map into features; None leaves that to the backbone.

    Attributes:
        thresholds: target -> threshold of the positive class, chosen in the last validation; travels in checkpoints.
    """

    def __init__(
        self,
        backbone: Backbone,
        heads: nn.Module,
        objectives: Mapping[str, TargetObjective],
        recipe: ClassificationRecipe,
        pooling: nn.Module | None = None,
    ) -> None:
        super().__init__(backbone, recipe.freeze_backbone, recipe.reestimate_norm_statistics)
        self.heads, self.recipe, self.pooling = heads, recipe, pooling
        self.objectives = dict(objectives)
        self.thresholds: dict[str, float] = {}
        self._validated: dict[str, list[tuple[Tensor, Tensor]]] = {target: [] for target in objectives}
        self.train()  # Lightning trains modules in the mode it finds them in, and a frozen backbone comes in training mode

    def forward(self, image: Tensor, covariates: Tensor | None = None) -> dict[str, Tensor]:
        """(B, C, D, H, W) images and, where the heads take them, (B, n) covariates to {target: outputs (B, n_outputs)}, float32."""
        features = self.features(image).float()
        if self.pooling is not None:
            features = self.pooling(features, image.shape[2:], self.backbone.size_multiple)
        return self._judged(features, covariates)

    def deepest_map(self, image: Tensor) -> Tensor:
        """(B, C, D, H, W) images to the backbone's deepest map (B, F, d, h, w)."""
        return self.backbone.encode(image)[-1]

    def from_map(self, deepest: Tensor, size: Sequence[int], covariates: Tensor | None = None) -> dict[str, Tensor]:
        """`forward` from a deepest map that is there already, of images of `size`."""
        pooled = self.backbone.pool(deepest, size) if self.pooling is None else self.pooling(deepest, size, self.backbone.size_multiple)
        return self._judged(pooled.float(), covariates)

    def _judged(self, features: Tensor, covariates: Tensor | None) -> dict[str, Tensor]:
        if covariates is not None:
            features = torch.cat([features, covariates.to(features)], dim=1)
        with torch.autocast(features.device.type, enabled=False):
            outputs: dict[str, Tensor] = self.heads(features)
        return outputs

    def features(self, image: Tensor) -> Tensor:
        """The pooled features, or the deepest map where the pooling learns; without a graph while the backbone is frozen."""
        # A pooling that learns belongs to the heads, which learn also where the backbone is frozen.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.backbone_is_frozen):
            return self.backbone.embed(image) if self.pooling is None else self.backbone.encode(image)[-1]

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """Loss of one batch of augmented volumes."""
        loss = self.loss(self(batch["image"], batch.get("covariates")), batch["labels"])
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch["image"]), sync_dist=True)
        return loss

    def loss(self, outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> Tensor:
        """Mean over targets of the loss of the cases whose target is known; 0 where none is."""
        losses = []
        for target, found in outputs.items():
            known = known_labels(labels[target])
            losses.append(self.objectives[target].loss(found[known], labels[target][known]) if known.any() else found.sum() * 0)
        return torch.stack(losses).mean()

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """Keep labels and predictions for the epoch's metrics."""
        outputs = self(batch["image"], batch.get("covariates"))
        self.log("val/loss", self.loss(outputs, batch["labels"]), on_epoch=True, batch_size=len(batch["image"]), sync_dist=True)
        for target, found in outputs.items():
            self._validated[target].append((batch["labels"][target].cpu(), self.objectives[target].predict(found).cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log each target's scores, their mean, which chooses the best epoch, and choose the thresholds."""
        main: dict[str, list[float]] = {}
        for target, parts in self._validated.items():
            labels, predictions = (torch.cat(column) for column in zip(*parts, strict=True))
            known, objective = known_labels(labels), self.objectives[target]
            scores = objective.scores(labels[known], predictions[known])
            for name, value in scores.items():
                self.log(f"val/{name}/{target}", value)
            main.setdefault(objective.main_score, []).append(scores[objective.main_score])
            threshold = objective.threshold(labels[known], predictions[known])
            if threshold is not None:
                self.thresholds[target] = threshold
            parts.clear()
        if "auc" in main:
            self.log("val/auc", _mean(main["auc"]), prog_bar=True)
        if set(main) != {"auc"}:
            self.log("val/score", _mean([value for values in main.values() for value in values]), prog_bar=True)

    @property
    def monitor(self) -> str:
        """The logged metric that chooses the best epoch: the mean over targets of AUC, quadratic kappa or R squared."""
        return "val/auc" if all(objective.main_score == "auc" for objective in self.objectives.values()) else "val/score"

    def predict_step(self, batch: dict[str, Any], batch_index: int) -> dict[str, Any]:
        """{"row": (B,), "predictions": {target: probabilities (B, K), or numbers (B, 1)}}."""
        outputs = self(batch["image"], batch.get("covariates"))
        return {"row": batch["row"], "predictions": {target: self.objectives[target].predict(found) for target, found in outputs.items()}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the thresholds."""
        checkpoint[THRESHOLDS] = dict(self.thresholds)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the thresholds."""
        self.thresholds = dict(checkpoint.get(THRESHOLDS, {}))

    def configure_optimizers(self) -> Any:
        """AdamW with a learning rate for the backbone and one for the heads; warm-up and cosine per optimiser step."""
        n_steps = int(self.trainer.estimated_stepping_batches)
        n_warmup = round(n_steps * self.recipe.warmup_epochs / max(1, self.trainer.max_epochs or 1))
        groups = [
            *self.backbone_groups(self.recipe.learning_rate, self.recipe.weight_decay, self.recipe.layer_decay),
            *parameter_groups(self._of_heads(), self.recipe.head_learning_rate, self.recipe.weight_decay),
        ]
        return adamw_with_schedule(groups, n_steps=n_steps, n_warmup=n_warmup)

    def _of_heads(self) -> list[tuple[str, nn.Parameter]]:
        pooling = [] if self.pooling is None else self.pooling.named_parameters()
        return [*pooling, *self.heads.named_parameters()]


def known_labels(labels: Tensor) -> Tensor:
    """Which of (B,) labels stand for a value and not for an empty cell."""
    return ~labels.isnan() if labels.is_floating_point() else labels != MISSING


def _mean(values: list[float]) -> float:
    """The mean of the values that are defined; NaN where none is."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
