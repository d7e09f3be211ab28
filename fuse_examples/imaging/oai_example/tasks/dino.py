"""DINO pre-training of a 3D backbone as a Lightning module: a student learns to say what its own moving average says."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from fuse_examples.imaging.oai_example.errors import UserError
from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.objectives.dino_loss import DINOLoss, cross_view_cross_entropy
from fuse_examples.imaging.oai_example.objectives.koleo import koleo_loss
from fuse_examples.imaging.oai_example.objectives.processes import rows_of_all, weight_of_process
from fuse_examples.imaging.oai_example.objectives.prototypes import PrototypeLoss
from fuse_examples.imaging.oai_example.objectives.teacher import start_teacher, update_teacher
from fuse_examples.imaging.oai_example.tasks.dino_alarms import Alarm, alarms_of
from fuse_examples.imaging.oai_example.tasks.dino_passes import Batch, Outputs, student_outputs, teacher_outputs
from fuse_examples.imaging.oai_example.tasks.dino_recipe import DINORecipe, StepValues
from fuse_examples.imaging.oai_example.tasks.dino_statistics import restore_statistics, start_statistics
from fuse_examples.imaging.oai_example.tasks.dino_watch import DINOWatch
from fuse_examples.imaging.oai_example.tasks.first_batches import first_batches
from fuse_examples.imaging.oai_example.training.optimisation import layered_parameter_groups

log = logging.getLogger(__name__)
MOST_SKIPPED_STEPS = 20
"""So many steps in a row without finite gradients end the run: they do not come from a single damaged volume."""
WATCHED = "dino_watch"
"""Entry of checkpoints: the state of the watch over the epoch."""
GRADIENT_NORM = "dino/gradient_norm"
"""Logged at each optimiser step for each part, behind a slash: the length of its gradient before it is clipped."""
LAST_ALARMS = "dino_alarms"
"""Entry of checkpoints: the last epoch's alarms, so that a run which they have ended is not taken for one that is done."""
ALARMS = "dino/alarms"
"""Logged at the end of each epoch: how many alarms it raised."""


class DINOTask(pl.LightningModule):
    """Self-distillation with no labels (Caron et al. 2021, arXiv 2104.14294).

    A batch is `{"views": [V tensors (B, C, D, H, W)], "n_global": int}`, global views first; other keys are left alone. The teacher
    sees the global views, the student all of them.

    What happens when:
    * Schedules are functions of `trainer.global_step`, so a resumed run takes them up where they were.
    * Teacher and centre move once per optimiser step, after it, the centre with the mean over all batches accumulated for the step:
      accumulating k batches is one k times larger batch, batch statistics aside. A step that is skipped, because its gradients are
      not finite, moves neither.
    * The teacher always runs in evaluation mode. Its normalisation statistics are the moving average of the student's, so its
      targets do not depend on what else is in the batch, nothing else writes to its buffers, and what is trained against is
      exactly what is exported (Cai et al. 2021, arXiv 2101.08482).
    * Only global views move the statistics of the student's backbone: the teacher and the tasks that come after see such views, and
      small crops look different.
    * A new run starts with the statistics of its first volumes in both networks. Those that a network is made with (mean 0,
      variance 1), or those of another modality, would linger in a slow teacher for a thousand steps and spoil its targets.

    Attributes:
        student_backbone, student_head, teacher_backbone, teacher_head, criterion: also the prefixes of keys in checkpoints.
        alarms: of the last epoch.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        criterion: DINOLoss,
        recipe: DINORecipe | None = None,
        *,
        stop_on_alarm: bool = False,
    ) -> None:
        """Copy the teacher from the student, so load weights into `backbone` beforehand.

        Args:
            backbone: the student's, without a decoder unless an objective trains it.
            head: (B, F) to (B, K) logits, its last layer being `last_layer`.
            criterion: the loss with its centre.
            recipe: schedules and optimiser values.
            stop_on_alarm: end the run at the end of an epoch that raised an alarm.
        """
        super().__init__()
        self.student_backbone = backbone
        self.student_head = head
        self.teacher_backbone = start_teacher(backbone)
        self.teacher_head = start_teacher(head)
        self.criterion = criterion
        self.recipe = recipe or DINORecipe()
        self.stop_on_alarm = stop_on_alarm
        self._pairs: list[tuple[nn.Module, nn.Module]] = [
            (self.student_backbone, self.teacher_backbone),
            (self.student_head, self.teacher_head),
        ]
        # With each loss the teacher's logits of the batches since the last optimiser step, which its centre moves by.
        self._pending: list[tuple[PrototypeLoss, list[Tensor]]] = [(criterion, [])]
        self._watch = DINOWatch()
        self._is_stepping = False
        self._n_skipped_in_a_row = 0
        self.alarms: tuple[Alarm, ...] = ()
        self.train()  # Lightning trains modules in the mode it finds them in, and a loaded backbone may come in evaluation mode

    def train(self, mode: bool = True) -> "DINOTask":
        """Set the student's mode; the teacher stays in evaluation mode."""
        super().train(mode)
        for _, teacher in self._pairs:
            teacher.eval()
        return self

    def forward(self, volumes: Tensor) -> Tensor:
        """Features of the teacher's backbone, (B, C, D, H, W) to (B, F): those of the network that is exported."""
        return self.teacher_backbone.embed(volumes)

    # --- the start

    def on_train_start(self) -> None:
        """Start the normalisation statistics, unless the run is resumed."""
        self._watch.to(self.device)
        if self.trainer.global_step == 0:
            batches = first_batches(self.trainer, self.device, lambda batch: len(batch["views"][0]))
            with self.trainer.precision_plugin.forward_context():
                start_statistics(self._pairs, self._start_pass, batches)

    # --- one batch

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch; remembers the teacher's logits for the centre."""
        return self._loss(self._both_networks(batch), self.values_at(self.trainer.global_step))

    def _loss(self, outputs: Outputs, values: StepValues) -> Tensor:
        distributions = self.criterion.distributions(outputs.student_logits, outputs.teacher_logits, values.teacher_temperature)
        n_volumes = outputs.teacher_logits.shape[1]
        # The last batch of an epoch may be dealt out unevenly; the mean over processes is then that over all volumes.
        loss = cross_view_cross_entropy(*distributions) * weight_of_process(n_volumes, rows_of_all(n_volumes, self.device))
        self._watch_batch(loss.detach(), outputs.teacher_features, distributions, values)
        if self.recipe.koleo_weight > 0:
            koleo = torch.stack([koleo_loss(view) for view in outputs.student_features]).mean()
            self.log("train/koleo", koleo.detach(), sync_dist=True)
            loss = loss + self.recipe.koleo_weight * koleo
        self._pending[0][1].append(outputs.teacher_logits)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss of one batch with the centre and teacher as they are."""
        outputs = self._both_networks(batch)
        is_fitting = self.trainer.state.fn == TrainerFn.FITTING
        temperature = self.values_at(self.trainer.global_step).teacher_temperature if is_fitting else self.recipe.teacher_temperature
        loss = self.criterion(outputs.student_logits, outputs.teacher_logits, temperature)
        self.log("val/loss", loss, on_epoch=True, batch_size=outputs.teacher_logits.shape[1], sync_dist=True)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Features (B, F) of {"image": (B, C, D, H, W)}."""
        features: Tensor = self(batch["image"])
        return features

    def _both_networks(self, batch: Batch) -> Outputs:
        of_student = student_outputs(self.student_backbone, self.student_head, batch)
        return Outputs(*teacher_outputs(self.teacher_backbone, self.teacher_head, batch), *of_student)

    def _start_pass(self, batch: Batch) -> None:
        """A pass through all layers of the student that keep statistics."""
        student_outputs(self.student_backbone, self.student_head, batch)

    # --- one optimiser step

    def values_at(self, step: int) -> StepValues:
        """Learning rate, weight decay, momentum and teacher temperature of an optimiser step of the current run.

        Raises:
            ValueError: the trainer does not know how long the run is.
        """
        n_steps = self.trainer.estimated_stepping_batches  # sets num_training_batches up, so it comes first
        per_epoch = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        if not (math.isfinite(n_steps) and math.isfinite(per_epoch)):
            raise ValueError("DINO's schedules need a run of known length: give the trainer max_epochs, and data with a length")
        return self.recipe.at(step, int(n_steps), math.ceil(per_epoch))

    def configure_optimizers(self) -> Optimizer:
        """AdamW over the student; `optimizer_step` sets learning rate and weight decay by each group's `share` of the rate and `decays`."""
        decay, distances = self.recipe.layer_decay, dict.fromkeys((name for name, _ in self.named_parameters()), 0)
        if decay != 1:
            distances |= {f"student_backbone.{name}": distance for name, distance in self.student_backbone.encoder_distances().items()}
        groups = layered_parameter_groups(self.named_parameters(), distances, 1.0, 1.0, decay)
        return AdamW([{**group, "share": group["lr"], "decays": group["weight_decay"] > 0} for group in groups])

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Freeze the last layer in the first epochs, before gradients are clipped, and drop gradients that are not finite."""
        if self.current_epoch < self.recipe.freeze_last_layer_epochs:
            # Gone, not zero: AdamW passes over a parameter without gradient, but decays one whose gradient is zero.
            for head, _ in self._pairs[1:]:
                _drop_gradients(head.get_submodule("last_layer"))
        norms = self._gradient_norms()
        self.log_dict({f"{GRADIENT_NORM}/{part}": norm for part, norm in norms.items()})
        self._is_stepping = bool(torch.nn.utils.get_total_norm(list(norms.values())).isfinite())  # one wait for a GPU
        self._watch.step_done(skipped=not self._is_stepping)
        self._n_skipped_in_a_row = 0 if self._is_stepping else self._n_skipped_in_a_row + 1
        if not self._is_stepping:
            log.warning("step %d is skipped: its gradients are not finite", self.trainer.global_step)
            _drop_gradients(self)
        if self._n_skipped_in_a_row >= MOST_SKIPPED_STEPS:
            raise UserError(
                f"not finite: the gradients of {self._n_skipped_in_a_row} steps in a row, up to step {self.trainer.global_step}, were "
                "not finite, so nothing is learnt any more. Lower learning_rate or set precision: fp32, and start anew."
            )

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """One step of the student, then of the teacher and the centre. Lightning calls this once per optimiser step."""
        values = self.values_at(self.trainer.global_step)
        for group in optimizer.param_groups:
            group["lr"] = values.learning_rate * group.get("share", 1.0)  # runs begun before there were shares have none
            group["weight_decay"] = values.weight_decay if group["decays"] else 0.0
        optimizer.step(closure=optimizer_closure)
        if self._is_stepping:
            for student, teacher in self._pairs:
                update_teacher(student, teacher, values.momentum)
        else:
            restore_statistics(self._pairs)
        for criterion, teacher_logits in self._pending:
            if self._is_stepping:
                criterion.update_center(torch.cat(teacher_logits, dim=-2))
            teacher_logits.clear()

    # --- what is watched

    def _gradient_norms(self) -> dict[str, Tensor]:
        """The norm of the gradient of each part that has one, as accumulated for the step and before it is clipped."""
        parts: dict[str, list[Tensor]] = {}
        for name, parameter in self.named_parameters():
            if parameter.grad is not None:
                parts.setdefault(self._part_of(name), []).append(parameter.grad)
        return {part: torch.nn.utils.get_total_norm(gradients) for part, gradients in parts.items()}

    def _part_of(self, name: str) -> str:
        """What a parameter of this name belongs to: `backbone`, `head` and so on, without the word for the student."""
        return name.split(".")[0].removeprefix("student_")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the epoch has shown so far: an epoch that is gone on with is judged as a whole. And the last epoch's alarms."""
        checkpoint[WATCHED] = self._watch.state_dict()
        checkpoint[LAST_ALARMS] = [asdict(alarm) for alarm in self.alarms]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take both up. Checkpoints of earlier versions lack them; their epoch's figures then cover what is left of it."""
        self._watch.load_state_dict(checkpoint.get(WATCHED, {}))
        self.alarms = tuple(Alarm(**alarm) for alarm in checkpoint.get(LAST_ALARMS, []))

    def _watch_batch(self, loss: Tensor, features: Tensor, distributions: tuple[Tensor, Tensor], values: StepValues) -> None:
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        self.log_dict({f"dino/{name}": value for name, value in asdict(values).items()})
        self.log_dict(self._watch.batch_figures(loss, features, *distributions, self.criterion.center), sync_dist=True)

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's figures."""
        self._watch.begin_epoch(self.student_backbone, self.teacher_backbone)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's figures, and raise its alarms."""
        figures = self._watch.epoch_figures(self.student_backbone, self.teacher_backbone, self.trainer.world_size)
        if figures is not None:
            logged = {"effective_rank": figures.effective_rank, "prototypes_used": figures.prototypes_used}
            logged["skipped_steps"] = float(figures.n_skipped)
            self.log_dict({f"dino/{name}": value for name, value in logged.items()})
            self._raise_alarms(alarms_of(figures, warmed_up=self.current_epoch >= self.recipe.warmup_epochs))

    def _raise_alarms(self, alarms: Sequence[Alarm]) -> None:
        self.alarms = tuple(alarms)
        self.log(ALARMS, float(len(alarms)))
        for alarm in alarms:
            log.warning("epoch %d: %s", self.current_epoch + 1, alarm)
        if alarms and self.stop_on_alarm:
            self.trainer.should_stop = True


def _drop_gradients(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter.grad = None
