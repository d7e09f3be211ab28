"""DINO with masked objectives beside it: the student also says what is in the parts of a view that it was not shown."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.objectives.dino_loss import DINOLoss
from fuse_examples.imaging.oai_example.objectives.patch_loss import PatchLoss
from fuse_examples.imaging.oai_example.objectives.processes import is_distributed, rows_of_all, weight_of_process
from fuse_examples.imaging.oai_example.objectives.reconstruction import reconstruction_loss
from fuse_examples.imaging.oai_example.objectives.teacher import start_teacher
from fuse_examples.imaging.oai_example.tasks.dino import DINOTask
from fuse_examples.imaging.oai_example.tasks.dino_passes import Batch, MaskedOutputs, Outputs, teacher_outputs
from fuse_examples.imaging.oai_example.tasks.dino_recipe import DINORecipe, StepValues
from fuse_examples.imaging.oai_example.tasks.masked_passes import (
    MaskedGlobals,
    logits_of_cells,
    masked_student,
    masked_teacher,
    without_masks,
)


class PatchParts(NamedTuple):
    """Masked self-distillation on cells: its weight, its head and its loss with a centre of its own.

    The head turns (N, F) cells into (N, K) logits, its last layer being `last_layer`. It has no batch normalisation, whose statistics
    would be of masked cells, and the teacher would use them on cells that it sees.
    """

    weight: float
    head: nn.Module
    criterion: PatchLoss


class ReconstructionParts(NamedTuple):
    """Masked reconstruction: its weight, and a head from the decoder's map (B, decoder_dim, D, H, W) to the image (B, C, D, H, W)."""

    weight: float
    head: nn.Module


class MaskedDINOTask(DINOTask):
    """DINO, masked self-distillation on cells (iBOT, arXiv 2111.07832) and masked reconstruction (SimMIM, arXiv 2111.09886) in one run.

    A batch has {"masks": (V_g, B, d, h, w)} besides, True for cells of the deepest map whose voxels the student does not see. The teacher
    sees all. The student sees masked views with the mask only: its part in the image-level loss comes from the same pass.

    * Masked views do not move the backbone's running statistics; views without a mask do, the decoder's included.
    * The patch head has a teacher that follows it, the reconstruction head has none. The teacher's decoder follows the student's, and is
      not run: it is what is exported.
    * Chance decides which views are masked, so processes hold different numbers of them: a mean over masked views is over those of all.
    * Validation and the start of statistics see no masks, so `val/loss` is plain DINO's.

    Attributes:
        student_patch_head, teacher_patch_head, patch_criterion, reconstruction_head: also the prefixes of keys in checkpoints; None, and
            without keys, where their objective is off.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        criterion: DINOLoss,
        recipe: DINORecipe | None = None,
        *,
        patch: PatchParts | None = None,
        reconstruction: ReconstructionParts | None = None,
        stop_on_alarm: bool = False,
    ) -> None:
        """See `DINOTask`; with `reconstruction` the backbone has its decoder."""
        super().__init__(backbone, head, criterion, recipe, stop_on_alarm=stop_on_alarm)
        self.patch_weight = patch.weight if patch else 0.0
        self.student_patch_head = patch.head if patch else None
        self.teacher_patch_head = start_teacher(patch.head) if patch else None
        self.patch_criterion = patch.criterion if patch else None
        self.reconstruction_weight = reconstruction.weight if reconstruction else 0.0
        self.reconstruction_head = reconstruction.head if reconstruction else None
        self._pending_cells: list[Tensor] = []
        if patch and self.teacher_patch_head is not None:
            self._pairs.append((patch.head, self.teacher_patch_head))
            self._pending.append((patch.criterion, self._pending_cells))
        self.train()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Plain DINO's loss of one batch."""
        super().validation_step(without_masks(batch), batch_idx)

    def _part_of(self, name: str) -> str:
        part, _, rest = name.partition(".")
        is_decoder = part == "student_backbone" and not self.student_backbone.is_encoder_key(rest)
        return "decoder" if is_decoder else super()._part_of(name)

    def _start_pass(self, batch: Batch) -> None:
        self._student(without_masks(batch))

    def _student(self, batch: Batch) -> tuple[list[Tensor], Tensor, MaskedGlobals | None]:
        return masked_student(self.student_backbone, self.student_head, batch, decode=self.reconstruction_head is not None)

    def _both_networks(self, batch: Batch) -> Outputs:
        features, logits, deepest = self._teacher(batch)
        student_features, student_logits, masked = self._student(batch)
        of_masked = None if masked is None else self._masked_outputs(batch, masked, deepest)
        # Made here, as what others make of masked views is: gradients then come in one order in all processes, KoLeo's exchange among them.
        idle = self._idle() if masked is None and is_distributed() else None
        return Outputs(features, logits, student_features, student_logits, of_masked, idle)

    def _idle(self) -> Tensor:
        parts = [self.student_patch_head, self.reconstruction_head]
        parts += [self.student_backbone] if self.reconstruction_head is not None else []  # its decoder
        learned = [one for part in parts if part is not None for one in part.parameters() if one.requires_grad]
        return 0.0 * torch.stack([one.sum() for one in learned]).sum()

    def _teacher(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.teacher_patch_head is None:
            return *teacher_outputs(self.teacher_backbone, self.teacher_head, batch), None
        return masked_teacher(self.teacher_backbone, self.teacher_head, batch)

    def _masked_outputs(self, batch: Batch, masked: MaskedGlobals, deepest: Tensor | None) -> MaskedOutputs:
        student_cells = teacher_cells = reconstruction = None
        if self.student_patch_head is not None and self.teacher_patch_head is not None and deepest is not None:
            student_cells = logits_of_cells(self.student_patch_head, masked.deepest, masked.cells)
            teacher_cells = logits_of_cells(self.teacher_patch_head, deepest[masked.rows], masked.cells).detach()
        if self.reconstruction_head is not None:
            reconstruction = self.reconstruction_head(masked.decoded)
        n_cells = masked.cells.flatten(1).sum(dim=1)
        return MaskedOutputs(n_cells, student_cells, teacher_cells, reconstruction, masked.whole, masked.hidden)

    def _loss(self, outputs: Outputs, values: StepValues) -> Tensor:
        loss, device = super()._loss(outputs, values), outputs.teacher_logits.device
        n_masked = 0 if outputs.masked is None else len(outputs.masked.n_cells)
        n_of_all = rows_of_all(n_masked, device)
        if outputs.masked is not None:
            return loss + weight_of_process(n_masked, n_of_all) * self._masked_loss(outputs.masked, values)
        none = self._no_cells(outputs)
        if self.patch_criterion is not None and n_of_all:
            # Others balance their cells, and wait for this process's.
            self.patch_criterion.teacher_probabilities(none, values.teacher_temperature)
        return loss if outputs.idle is None else loss + outputs.idle

    def _no_cells(self, outputs: Outputs) -> Tensor:
        """What the centre of cells moves by where there are none."""
        none = outputs.teacher_logits.new_zeros(0, outputs.teacher_logits.shape[-1])
        if self.patch_criterion is not None:
            self._pending_cells.append(none)
        return none

    def _masked_loss(self, masked: MaskedOutputs, values: StepValues) -> Tensor:
        loss = masked.target.new_zeros(())
        if self.patch_criterion is not None and masked.student_cells is not None and masked.teacher_cells is not None:
            probabilities = self.patch_criterion.teacher_probabilities(masked.teacher_cells, values.teacher_temperature)
            patch = self.patch_criterion.of_targets(masked.student_cells, probabilities, masked.n_cells)
            self.log_dict({"train/patch": patch.detach(), **self._watch.patch_figures(patch.detach(), probabilities)})
            self._pending_cells.append(masked.teacher_cells)
            loss = loss + self.patch_weight * patch
        if masked.reconstruction is not None:
            reconstruction = reconstruction_loss(masked.reconstruction, masked.target, masked.hidden)
            self.log("train/reconstruction", reconstruction.detach())
            loss = loss + self.reconstruction_weight * reconstruction
        return loss
