"""What is watched in a DINO run, batch by batch and over an epoch, to tell learning from collapse."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning_fabric.utilities import move_data_to_device
from torch import Tensor, nn

from fuse_examples.imaging.oai_example.objectives import collapse
from fuse_examples.imaging.oai_example.tasks.dino_alarms import EpochFigures, PatchFigures
from fuse_examples.imaging.oai_example.training.gathering import states_of_all

FEATURE_ROWS = 1024
"""How many of the teacher's latest features the effective rank is of."""
BETWEEN_SCANS = "dino/between_scans"
"""How far the teacher's outputs for the scans of a batch differ, which a batch of one does not say."""
_COMPARED = "batches of several scans"


class DINOWatch:
    """Keeps what an epoch's figures need. Its state is part of checkpoints, so that a run gone on with raises the alarms of a whole one."""

    def __init__(self) -> None:
        self._recent_features: list[Tensor] = []
        self._distribution: Tensor | None = None  # the teacher's, added up over rows
        self._used_prototypes: Tensor | None = None
        self._totals: dict[str, Tensor] = {}
        self._n_batches = self._n_rows = self._n_steps = self._n_skipped = 0
        self._patch_totals: dict[str, Tensor] = {}
        self._patch_distribution: Tensor | None = None  # likewise, over cells
        self._n_patch_batches = self._n_cells = 0
        self._teacher_weight: Tensor | None = None
        self._student_norm: Tensor | None = None
        self._teacher_moved_before = False

    def begin_epoch(self, student: nn.Module, teacher: nn.Module) -> None:
        """Forget the epoch before, but for whether the teacher has ever moved, and note where both networks stand."""
        moved = self._teacher_has_moved(teacher)
        self.__init__()  # type: ignore[misc]  # all there is to forget
        self._teacher_moved_before = moved
        self._teacher_weight, self._student_norm = _a_weight(teacher).clone(), _norm(student)

    def state_dict(self) -> dict[str, Any]:
        """All that is kept, as tensors, numbers, lists and dictionaries of them."""
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of `state_dict`."""
        vars(self).update(state)

    def to(self, device: torch.device) -> None:
        """Move what is kept to the device that the epoch's other batches come from."""
        vars(self).update(move_data_to_device(vars(self), device))

    @torch.no_grad()
    def batch_figures(
        self,
        loss: Tensor,
        features: Tensor,
        probabilities: Tensor,
        log_probabilities: Tensor,
        center: Tensor,
    ) -> dict[str, Tensor]:
        """Take note of one batch and return its figures by logged name.

        Args:
            loss: the batch's.
            features: the teacher's, (V_t * B, F).
            probabilities: the teacher's over the prototypes, (V_t, B, K).
            log_probabilities: logarithm of the student's, (V_s, B, K).
            center: of the teacher's logits.
        """
        log_probabilities = log_probabilities.detach()
        figures = {
            "dino/teacher_entropy": collapse.mean_entropy(probabilities),
            "dino/student_entropy": collapse.mean_entropy(log_probabilities.exp()),
            "dino/kl": collapse.teacher_student_divergence(probabilities, log_probabilities),
            "dino/center_norm": center.norm(),
            BETWEEN_SCANS: collapse.divergence_of_rows(probabilities),
        }
        if loss.isfinite():  # a damaged volume is counted, and leaves the other figures alone
            self._take(probabilities, features, {"loss": loss.detach()} | figures)
        return figures

    def _take(self, probabilities: Tensor, features: Tensor, figures: dict[str, Tensor]) -> None:
        used, together = collapse.prototypes_used(probabilities), probabilities.flatten(0, -2).sum(dim=0)
        self._used_prototypes = used if self._used_prototypes is None else self._used_prototypes | used
        self._distribution = together if self._distribution is None else self._distribution + together
        self._n_rows += probabilities[..., 0].numel()
        self._recent_features = _latest([*self._recent_features, features.float()])
        if probabilities.shape[-2] > 1:
            figures = {**figures, _COMPARED: torch.ones_like(figures[BETWEEN_SCANS])}
        for name, value in figures.items():
            self._totals[name] = self._totals.get(name, torch.zeros_like(value)) + value
        self._n_batches += 1

    @torch.no_grad()
    def patch_figures(self, loss: Tensor, probabilities: Tensor) -> dict[str, Tensor]:
        """Take note of one batch of masked cells and return its figures by logged name.

        Args:
            loss: of masked self-distillation.
            probabilities: the teacher's, of the masked cells, (N, K).
        """
        figures = {"dino/patch_teacher_entropy": collapse.mean_entropy(probabilities)}
        if loss.isfinite():
            together = probabilities.sum(dim=0)
            self._patch_distribution = together if self._patch_distribution is None else self._patch_distribution + together
            self._n_cells += len(probabilities)
            for name, value in ({"loss": loss.detach()} | figures).items():
                self._patch_totals[name] = self._patch_totals.get(name, torch.zeros_like(value)) + value
            self._n_patch_batches += 1
        return figures

    def step_done(self, *, skipped: bool) -> None:
        """Count an optimiser step."""
        self._n_steps += 1
        self._n_skipped += skipped

    def epoch_figures(self, student: nn.Module, teacher: nn.Module, world_size: int = 1) -> EpochFigures | None:
        """What the epoch has shown in all processes, `world_size` of them, which so raise the same alarms.

        None where no batch had a finite loss and no step was skipped.
        """
        together = _together(states_of_all(self.state_dict(), world_size))
        return together._figures(student, teacher)

    def _figures(self, student: nn.Module, teacher: nn.Module) -> EpochFigures | None:
        if self._distribution is None or self._used_prototypes is None:
            return _nothing_finite(self._n_steps, self._n_skipped) if self._n_skipped else None
        features = torch.cat(self._recent_features)
        return EpochFigures(
            loss=float(self._totals["loss"] / self._n_batches),
            teacher_entropy=float(self._totals["dino/teacher_entropy"] / self._n_batches),
            largest_share=float(self._distribution.max() / self._n_rows),
            prototypes_used=float(self._used_prototypes.float().mean()),
            effective_rank=float(collapse.effective_rank(features)),
            n_features=len(features),
            n_prototypes=len(self._distribution),
            n_steps=self._n_steps,
            n_skipped=self._n_skipped,
            weight_growth=1.0 if self._student_norm is None else float(_norm(student)) / float(self._student_norm),
            teacher_moved=self._teacher_weight is None or self._teacher_has_moved(teacher),
            between_scans=float(self._totals[BETWEEN_SCANS] / self._totals[_COMPARED]) if _COMPARED in self._totals else math.nan,
            patch=self._of_patches(),
        )

    def _teacher_has_moved(self, teacher: nn.Module) -> bool:
        """In this epoch or in one before: at the end of a long run, where its momentum nears 1, a sound teacher rests for whole epochs."""
        before = self._teacher_weight
        return self._teacher_moved_before or (before is not None and not torch.equal(before, _a_weight(teacher).to(before.device)))

    def _of_patches(self) -> PatchFigures | None:
        if self._patch_distribution is None:
            return None
        return PatchFigures(
            loss=float(self._patch_totals["loss"] / self._n_patch_batches),
            teacher_entropy=float(self._patch_totals["dino/patch_teacher_entropy"] / self._n_patch_batches),
            largest_share=float(self._patch_distribution.max() / self._n_cells),
            n_prototypes=len(self._patch_distribution),
        )


def _together(states: Sequence[Mapping[str, Any]]) -> DINOWatch:
    """The watch of one process that had seen the batches of all. Steps are the same in all of them, and so are weights."""
    watch = DINOWatch()
    watch.load_state_dict(states[0])
    for state in states[1:]:
        for name in ("_distribution", "_patch_distribution", "_n_batches", "_n_rows", "_n_patch_batches", "_n_cells"):
            setattr(watch, name, _added(getattr(watch, name), state[name]))
        for name in ("_totals", "_patch_totals"):
            mine, theirs = getattr(watch, name), state[name]
            setattr(watch, name, {key: _added(mine.get(key), theirs.get(key)) for key in {**mine, **theirs}})
        used = [one for one in (watch._used_prototypes, state["_used_prototypes"]) if one is not None]
        watch._used_prototypes = torch.stack(used).any(dim=0) if used else None
        watch._recent_features = [*watch._recent_features, *state["_recent_features"]]
    return watch


def _added(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else one + other


def _latest(features: list[Tensor]) -> list[Tensor]:
    """The last of `features` that hold `FEATURE_ROWS` rows together."""
    while sum(len(rows) for rows in features[1:]) >= FEATURE_ROWS:
        features = features[1:]
    return features


def _nothing_finite(n_steps: int, n_skipped: int) -> EpochFigures:
    unknown = math.nan
    return EpochFigures(unknown, unknown, unknown, unknown, unknown, 0, 1, n_steps, n_skipped, weight_growth=1.0, teacher_moved=True)


def _a_weight(network: nn.Module) -> Tensor:
    """One parameter of a network: any of them moves when the network moves."""
    return next(network.parameters()).detach()


def _norm(network: nn.Module) -> Tensor:
    return torch.nn.utils.get_total_norm([parameter.detach() for parameter in network.parameters()])
