"""What the student and the teacher of DINO say about the views of a batch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.objectives.norm_statistics import statistics_momentum

Batch = dict[str, Any]


class MaskedOutputs(NamedTuple):
    """What both networks say about the masked global views of a batch, M of them with N masked cells; None for what is not asked for.

    Attributes:
        n_cells: (M,), masked cells of each view.
        student_cells, teacher_cells: logits (N, K) of the masked cells, view by view.
        reconstruction: (M, C, D, H, W).
        target: the same views without a mask, (M, C, D, H, W).
        hidden: (M, 1, D, H, W), True where a voxel was masked.
    """

    n_cells: Tensor
    student_cells: Tensor | None
    teacher_cells: Tensor | None
    reconstruction: Tensor | None
    target: Tensor
    hidden: Tensor


class Outputs(NamedTuple):
    """What both networks say about one batch; global views come first.

    Attributes:
        teacher_features: of the global views, (V_t * B, F).
        teacher_logits: (V_t, B, K).
        student_features: (B, F) of each global view.
        student_logits: (V, B, K) of all views.
        masked: where some views were masked from the student.
        idle: 0, of the parameters that this process has no use for in this batch while others have: they wait for its gradients.
    """

    teacher_features: Tensor
    teacher_logits: Tensor
    student_features: Sequence[Tensor]
    student_logits: Tensor
    masked: MaskedOutputs | None = None
    idle: Tensor | None = None


def teacher_outputs(backbone: Backbone, head: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Features (V_t * B, F) and logits (V_t, B, K) of the global views, without gradient."""
    with torch.no_grad():
        features = embed_views(backbone, batch["views"][: batch["n_global"]])
        return torch.cat(features), logits_of_views(head, features)


def student_outputs(backbone: Backbone, head: nn.Module, batch: Batch) -> tuple[list[Tensor], Tensor]:
    """Features (B, F) of each global view, and logits (V, B, K) of all views.

    Global views alone move the backbone's statistics, so local ones are a batch of their own.
    """
    views, n_global = batch["views"], batch["n_global"]
    of_global = embed_views(backbone, views[:n_global])
    with statistics_momentum(backbone, 0.0):
        of_local = embed_views(backbone, views[n_global:])
    return of_global, logits_of_views(head, [*of_global, *of_local])


def embed_views(backbone: Backbone, views: Sequence[Tensor]) -> list[Tensor]:
    """Features (B, F) of each view; views of one size go through the backbone as one batch."""
    by_size: dict[torch.Size, list[int]] = {}
    for index, view in enumerate(views):
        by_size.setdefault(view.shape, []).append(index)
    features: dict[int, Tensor] = {}
    for indices in by_size.values():
        together = backbone.embed(torch.cat([views[index] for index in indices]))
        features.update(zip(indices, together.chunk(len(indices)), strict=True))
    return [features[index] for index in range(len(views))]


def logits_of_views(head: nn.Module, features: Sequence[Tensor]) -> Tensor:
    """Logits (V, B, K) of V views' features (B, F), in float32 also under autocast.

    A softmax at temperature 0.04 magnifies rounding 25 times.
    """
    together = torch.stack(list(features)).float()
    with torch.autocast(together.device.type, enabled=False):
        logits: Tensor = head(together.flatten(0, 1))
    return logits.view(*together.shape[:2], -1)
