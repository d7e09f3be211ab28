"""Fine-tuning a backbone to classify volumes by one or more targets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fuse_examples.imaging.oai_example.data.class_index import MISSING
from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.objectives.ranking import macro_auc
from fuse_examples.imaging.oai_example.training.optimisation import adamw_with_schedule, parameter_groups


@dataclass(frozen=True)
class ClassificationRecipe:
    """How a classifier is trained.

    Attributes:
        learning_rate: of the backbone.
        head_learning_rate: of the heads.
        weight_decay, warmup_epochs: AdamW and its schedule (`training.optimisation`).
        freeze_backbone: whether the heads alone learn; the backbone then stays in evaluation mode.
    """

    learning_rate: float
    head_learning_rate: float
    weight_decay: float
    warmup_epochs: int
    freeze_backbone: bool = False


class ClassificationTask(pl.LightningModule):
    """A backbone's pooled features with a head per target.

    Args:
        backbone: the encoder.
        heads: features (B, F) to {target: logits (B, K)}.
        class_weights: target -> weight of each class in the loss, (K,).
        recipe: learning rates and schedule.
    """

    def __init__(self, backbone: Backbone, heads: nn.Module, class_weights: Mapping[str, Tensor], recipe: ClassificationRecipe) -> None:
        super().__init__()
        self.backbone, self.heads, self.recipe = backbone, heads, recipe
        self.class_weights = dict(class_weights)
        self._validated: dict[str, list[tuple[Tensor, Tensor]]] = {target: [] for target in class_weights}
        if recipe.freeze_backbone:
            backbone.requires_grad_(False)
        self.train()  # Lightning trains modules in the mode it finds them in, and a frozen backbone comes in training mode

    def train(self, mode: bool = True) -> "ClassificationTask":
        """Set the mode; a frozen backbone stays in evaluation mode, so that its normalisation keeps its statistics."""
        super().train(mode)
        if self.recipe.freeze_backbone:
            self.backbone.eval()
        return self

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(B, C, D, H, W) images to {target: logits (B, K)}, float32."""
        features = self.backbone.embed(image).float()
        with torch.autocast(features.device.type, enabled=False):
            logits: dict[str, Tensor] = self.heads(features)
        return logits

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """Loss of one batch of augmented volumes."""
        loss = self.loss(self(batch["image"]), batch["labels"])
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch["image"]))
        return loss

    def loss(self, logits: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> Tensor:
        """Mean over targets of the weighted cross-entropy of the cases whose target is known; 0 where none is."""
        losses = []
        for target, scores in logits.items():
            known = labels[target] != MISSING
            weight = self.class_weights[target].to(scores.device)
            losses.append(F.cross_entropy(scores[known], labels[target][known], weight=weight) if known.any() else scores.sum() * 0)
        return torch.stack(losses).mean()

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """Keep labels and probabilities for the epoch's metrics."""
        logits = self(batch["image"])
        self.log("val/loss", self.loss(logits, batch["labels"]), on_epoch=True, batch_size=len(batch["image"]), sync_dist=True)
        for target, scores in logits.items():
            self._validated[target].append((batch["labels"][target].cpu(), scores.softmax(dim=1).cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log the AUC of each target and their mean, which chooses the best epoch."""
        scores = []
        for target, parts in self._validated.items():
            labels, probabilities = (torch.cat(column) for column in zip(*parts, strict=True))
            known = labels != MISSING
            scores.append(macro_auc(labels[known].numpy(), probabilities[known].numpy()))
            self.log(f"val/auc/{target}", scores[-1])
            parts.clear()
        self.log("val/auc", float(torch.tensor(scores).nanmean()), prog_bar=True)

    def predict_step(self, batch: dict[str, Any], batch_index: int) -> dict[str, Any]:
        """{"row": (B,), "probabilities": {target: (B, K)}}."""
        logits = self(batch["image"])
        return {"row": batch["row"], "probabilities": {target: scores.softmax(dim=1) for target, scores in logits.items()}}

    def configure_optimizers(self) -> Any:
        """AdamW with a learning rate for the backbone and one for the heads; warm-up and cosine per optimiser step."""
        n_steps = int(self.trainer.estimated_stepping_batches)
        n_warmup = round(n_steps * self.recipe.warmup_epochs / max(1, self.trainer.max_epochs or 1))
        groups = [
            *parameter_groups(self.backbone.named_parameters(), self.recipe.learning_rate, self.recipe.weight_decay),
            *parameter_groups(self.heads.named_parameters(), self.recipe.head_learning_rate, self.recipe.weight_decay),
        ]
        return adamw_with_schedule(groups, n_steps=n_steps, n_warmup=n_warmup)
