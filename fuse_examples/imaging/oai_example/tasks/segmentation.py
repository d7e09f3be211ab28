"""Fine-tuning a backbone to segment: where network, loss and Dice meet."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fuse_examples.imaging.oai_example.data.segmentation_views import EvaluationCase
from fuse_examples.imaging.oai_example.geometry.resampling import resample
from fuse_examples.imaging.oai_example.inference.components import keep_largest
from fuse_examples.imaging.oai_example.inference.mirroring import mirrored
from fuse_examples.imaging.oai_example.inference.restoration import SegmentedCase, labels_from_slabs
from fuse_examples.imaging.oai_example.inference.windows import predict_slabs
from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.models.padding import pad
from fuse_examples.imaging.oai_example.tasks.fine_tuning import FineTuningTask, Reestimation
from fuse_examples.imaging.oai_example.tasks.segmentation_scores import ValidationScores
from fuse_examples.imaging.oai_example.training.optimisation import adamw_with_schedule, parameter_groups

Decoded = TypeVar("Decoded", Tensor, list[Tensor])
NEW_DECODER = "new_decoder"
"""Entry of checkpoints: whether the decoder started from random numbers."""


@dataclass(frozen=True)
class SegmentationRecipe:
    """How a segmenter is trained and evaluated.

    Attributes:
        learning_rate, weight_decay, warmup_epochs: AdamW and its schedule (`training.optimisation`).
        window: voxels of a sliding window in evaluation, None for whole volumes.
        overlap: share of a window's edge that neighbours share.
        freeze_backbone, reestimate_norm_statistics: see `FineTuningTask`.
        layer_decay: factor of the backbone's learning rate per level of distance from the head.
        mirror_axes: axes of the volume that predictions are averaged over, mirrored.
        side_axis: the axis from left to right, for `label_pairs`.
        label_pairs: labels that change places in a left-right flip.
        largest_component: whether validation decides which structures keep their largest component alone.
        num_classes: labels of the masks, where they are not the structures; None otherwise.
        regions: labels of each structure, where structures are unions of labels.
        written: the label that each region writes into a mask, see `labels_from_slabs`.
    """

    learning_rate: float
    weight_decay: float
    warmup_epochs: int
    window: tuple[int, int, int] | None
    overlap: float
    freeze_backbone: bool | int = False
    layer_decay: float = 1.0
    reestimate_norm_statistics: Reestimation = "auto"
    mirror_axes: tuple[int, ...] = ()
    side_axis: int | None = None
    label_pairs: tuple[tuple[int, int], ...] = ()
    largest_component: bool = False
    num_classes: int | None = None
    regions: tuple[tuple[int, ...], ...] = ()
    written: tuple[int, ...] = ()


class SegmentationTask(FineTuningTask):
    """A backbone's decoder with a 1x1x1 head, trained on views and evaluated on whole cases on their own grid.

    Args:
        backbone: encoder and decoder.
        head: (B, decoder_dim, D, H, W) to logits (B, K, D, H, W).
        loss: of logits and labels (B, D, H, W).
        level_heads: for deep supervision, a head for each of the backbone's `level_dims`; none without it.
        structure_names: of labels 1 to K - 1, for logging.
        recipe: learning rate, schedule, windows and what is done to predictions.
        new_decoder: see `FineTuningTask`.

    Attributes:
        largest_only: (K - 1,) bool, the structures that keep their largest component alone; decided in each validation.
    """

    largest_only: Tensor

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        loss: nn.Module,
        structure_names: Sequence[str],
        recipe: SegmentationRecipe,
        level_heads: Sequence[nn.Module] = (),
        *,
        new_decoder: bool = False,
    ) -> None:
        super().__init__(backbone, recipe.freeze_backbone, recipe.reestimate_norm_statistics, new_decoder=new_decoder)
        self.head = head
        self.loss = loss
        self.level_heads = nn.ModuleList(level_heads)
        self.structure_names = tuple(structure_names)
        self.recipe = recipe
        self.scores = ValidationScores(self.structure_names, recipe.largest_component, recipe.regions, recipe.num_classes)
        # A buffer, so that every checkpoint holds the decision of its own epoch.
        self.register_buffer("largest_only", torch.zeros(len(self.structure_names), dtype=torch.bool))
        self.train()  # Lightning trains modules in the mode it finds them in, and a frozen backbone comes in training mode

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep whether the decoder was new: a run that is gone on with does not load the weights that it started from."""
        checkpoint[NEW_DECODER] = self._new_decoder

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up. In checkpoints of earlier versions a frozen decoder was frozen whatever it started from."""
        self._start_with(new_decoder=checkpoint.get(NEW_DECODER, False))

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, D, H, W) image to (B, K, D, H, W) logits."""
        logits: Tensor = self.head(self.features(image))
        return logits

    def features(self, image: Tensor) -> Tensor:
        """The decoder's map; without a graph through what is frozen."""
        return self._decoded(image, self.backbone.decode)

    def _decoded(self, image: Tensor, decode: Callable[[Sequence[Tensor]], Decoded]) -> Decoded:
        learns = torch.is_grad_enabled()
        with torch.set_grad_enabled(learns and not self.backbone_is_frozen):
            encoded = self.backbone.encode(image)
        with torch.set_grad_enabled(learns and not self.decoder_is_frozen):
            return decode(encoded)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Loss of one batch of augmented views."""
        loss = self._supervised(batch) if len(self.level_heads) else self.loss(self(batch["image"]), batch["mask"])
        self.log("train/loss", loss, on_step=True, on_epoch=False, prog_bar=True, batch_size=len(batch["image"]), sync_dist=True)
        return loss

    def _supervised(self, batch: dict[str, Tensor]) -> Tensor:
        """Loss at each resolution of the decoder, each counting half of the next finer one (Isensee et al., Nat Methods 2021)."""
        finest, *coarser = self._decoded(batch["image"], self.backbone.decode_levels)
        losses = [self.loss(self.head(finest), batch["mask"])]
        mask = pad(batch["mask"][:, None].float(), self.backbone.size_multiple)
        for head, level in zip(self.level_heads, coarser, strict=True):
            labels = F.interpolate(mask, size=level.shape[2:], mode="nearest-exact")[:, 0].long()
            losses.append(self.loss(head(level), labels))
        weights = [0.5**level for level in range(len(losses))]
        total: Tensor = sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / sum(weights)
        return total

    def validation_step(self, case: EvaluationCase, batch_index: int) -> SegmentedCase:  # type: ignore[override]  # any output is passed on
        """Dice on the input's own voxels, as in testing but without mirroring and clean-up; the loss on the network's."""
        assert case.mask is not None  # the table of a segmentation run has a mask in each row
        truth = resample(case.mask, case.matrix, case.image.shape[1:], mode="nearest").long()
        losses: list[tuple[Tensor, int]] = []

        def scored() -> Iterator[tuple[int, Tensor]]:
            for start, logits in predict_slabs(self, case.image, self.recipe.window, self.recipe.overlap):
                labels = truth[start : start + logits.shape[1]].to(logits.device)
                losses.append((self.loss(logits[None], labels[None]), logits.shape[1]))
                yield start, logits

        labels = labels_from_slabs(scored(), case.image.shape[1], case.matrix, case.grid.shape, self.recipe.written)
        loss = sum(loss * planes for loss, planes in losses) / len(truth)
        self.log("val/loss", loss, on_epoch=True, batch_size=1, sync_dist=True)
        self.scores.update(case.mask, labels)
        return _segmented(case, labels)

    def on_validation_epoch_end(self) -> None:
        """Log Dice per structure over the cases that have it, and the mean over cases of each case's mean; decide on clean-up.

        A structure keeps its largest component alone where that raises its mean Dice on the validation cases.
        """
        found = self.scores.compute()
        for name, value in found.items():
            self.log(name, value, prog_bar=name == "val/dice")
        if self.recipe.largest_component:
            gains = [found[f"val/largest_component_gain/{name}"] for name in self.structure_names]
            self.largest_only.copy_(torch.tensor([float(gain) > 0 for gain in gains]))

    def predict_step(self, case: EvaluationCase, batch_index: int) -> SegmentedCase:
        """Labels of one case on the input's voxels, by mirroring and clean-up where the recipe and validation say so."""
        labels = labels_from_slabs(self.case_slabs(case), case.image.shape[1], case.matrix, case.grid.shape, self.recipe.written)
        if self.recipe.largest_component:
            for structure in (self.largest_only.nonzero().flatten() + 1).tolist():
                keep_largest(labels, structure)
        return _segmented(case, labels)

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and cosine per optimiser step."""
        n_steps = int(self.trainer.estimated_stepping_batches)
        n_warmup = round(n_steps * self.recipe.warmup_epochs / max(1, self.trainer.max_epochs or 1))
        groups = [
            *parameter_groups(
                [*self.head.named_parameters(), *self.level_heads.named_parameters()], self.recipe.learning_rate, self.recipe.weight_decay
            ),
            *self.backbone_groups(self.recipe.learning_rate, self.recipe.weight_decay, self.recipe.layer_decay),
        ]
        return adamw_with_schedule(groups, n_steps=n_steps, n_warmup=n_warmup)

    def case_slabs(self, case: EvaluationCase) -> Iterator[tuple[int, Tensor]]:
        """Logits on the network's grid, slab after slab: the first plane, and (K, n, h, w) of n planes; mirrored as the recipe says."""
        network = mirrored(self, self.recipe.mirror_axes, self.recipe.side_axis, self.recipe.label_pairs)
        return predict_slabs(network, case.image, self.recipe.window, self.recipe.overlap)

    def probabilities(self, logits: Tensor) -> Tensor:
        """(K, n, h, w) logits to probabilities; of structures on their own beside a background of one half, which they must exceed."""
        return logits.float().sigmoid() if getattr(self.head, "independent", False) else logits.float().softmax(dim=0)


class SegmentationEnsemble(pl.LightningModule):
    """Several segmenters that predict together: the mean of their probabilities, on the network's grid, becomes labels on the input's.

    A structure keeps its largest component alone where the validation cases of more than half of the members say so.
    """

    def __init__(self, members: Sequence[SegmentationTask]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def predict_step(self, case: EvaluationCase, batch_index: int) -> SegmentedCase:
        """Labels of one case on the input's voxels."""
        written = self._tasks()[0].recipe.written  # of all members: the checkpoints decide it and must agree
        labels = labels_from_slabs(self._mean_slabs(case), case.image.shape[1], case.matrix, case.grid.shape, written)
        for structure in self._cleaned():
            keep_largest(labels, structure)
        return _segmented(case, labels)

    def _mean_slabs(self, case: EvaluationCase) -> Iterator[tuple[int, Tensor]]:
        tasks = self._tasks()
        for same in zip(*(task.case_slabs(case) for task in tasks), strict=True):  # the members' windows are the same, so are their slabs
            probabilities = [task.probabilities(logits) for task, (_, logits) in zip(tasks, same, strict=True)]
            yield same[0][0], torch.stack(probabilities).mean(dim=0)

    def _cleaned(self) -> list[int]:
        tasks = self._tasks()
        votes = sum(task.largest_only.float() for task in tasks if task.recipe.largest_component)
        return [] if isinstance(votes, int) else ((votes > len(tasks) / 2).nonzero().flatten() + 1).tolist()

    def _tasks(self) -> list[SegmentationTask]:
        return [task for task in self.members if isinstance(task, SegmentationTask)]


def _segmented(case: EvaluationCase, labels: NDArray[Any]) -> SegmentedCase:
    row = case.case
    return SegmentedCase(row.name, row.patient, row.fold, row.row, labels, case.mask, case.grid, case.source)
