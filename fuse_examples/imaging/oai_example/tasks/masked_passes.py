"""What the student and the teacher of DINO say about masked views: the passes of the objectives that need masks."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.models.padding import voxels_of_cells
from fuse_examples.imaging.oai_example.objectives.norm_statistics import keeps_statistics, statistics_momentum
from fuse_examples.imaging.oai_example.objectives.reconstruction import hide
from fuse_examples.imaging.oai_example.tasks.dino_passes import Batch, embed_views, logits_of_views


class MaskedGlobals(NamedTuple):
    """What the student says about the masked views of a batch, M of them in the order of views and samples.

    Attributes:
        rows: (V_g * B,), True for a masked view.
        cells: (M, d, h, w), True where a cell is masked.
        whole: the views without the mask, (M, C, D, H, W).
        hidden: (M, 1, D, H, W), True where a voxel is masked.
        deepest: (M, F, d, h, w).
        decoded: (M, decoder_dim, D, H, W), or None without reconstruction.
    """

    rows: Tensor
    cells: Tensor
    whole: Tensor
    hidden: Tensor
    deepest: Tensor
    decoded: Tensor | None


class MaskedStudent(NamedTuple):
    """Features (B, F) of each global view, logits (V, B, K) of all views, and what is said of the masked ones, if there are any."""

    features: list[Tensor]
    logits: Tensor
    masked: MaskedGlobals | None


def masked_student(backbone: Backbone, head: nn.Module, batch: Batch, *, decode: bool) -> MaskedStudent:
    """The student's pass over a batch whose `masks` (V_g, B, d, h, w) say which cells of its global views it does not see.

    Views without a mask alone move the backbone's statistics, so there are three batches: seen, masked and local. With `decode` the
    decoder's statistics are moved by seen views too, whose pass through it is for that alone and keeps no graph.
    """
    views, n_global = batch["views"], batch["n_global"]
    together, cells = torch.cat(views[:n_global]), batch["masks"].flatten(0, 1)
    rows = cells.flatten(1).any(dim=1)
    order = torch.cat([(~rows).nonzero()[:, 0], rows.nonzero()[:, 0]])
    features = []
    if not rows.all():
        features.append(_seen(backbone, together[~rows], decode=decode))
    masked = None
    with statistics_momentum(backbone, 0.0):
        if rows.any():
            of_masked, masked = _masked(backbone, together[rows], cells[rows], rows, decode=decode)
            features.append(of_masked)
        of_local = embed_views(backbone, views[n_global:])
    of_global = list(torch.cat(features)[order.argsort()].chunk(n_global))
    return MaskedStudent(of_global, logits_of_views(head, [*of_global, *of_local]), masked)


def masked_teacher(backbone: Backbone, head: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Features (V_g * B, F), logits (V_g, B, K) and deepest maps (V_g * B, F, d, h, w) of the global views without masks."""
    views = batch["views"][: batch["n_global"]]
    with torch.no_grad():
        together = torch.cat(views)
        deepest = backbone.encode(together)[-1]
        features = backbone.pool(deepest, together.shape[2:])
        return features, logits_of_views(head, features.chunk(len(views))), deepest


def logits_of_cells(head: nn.Module, deepest: Tensor, cells: Tensor) -> Tensor:
    """Logits (N, K) of those cells of maps (M, F, d, h, w) that are True in `cells` (M, d, h, w), in float32 also under autocast."""
    chosen = deepest.movedim(1, -1)[cells].float()
    with torch.autocast(chosen.device.type, enabled=False):
        logits: Tensor = head(chosen)
    return logits


def without_masks(batch: Batch) -> Batch:
    """The batch with all of its views seen."""
    return {**batch, "masks": torch.zeros_like(batch["masks"])} if "masks" in batch else batch


def _seen(backbone: Backbone, views: Tensor, *, decode: bool) -> Tensor:
    maps = backbone.encode(views)
    if decode and backbone.training and keeps_statistics(backbone):
        with torch.no_grad():
            backbone.decode([one.detach() for one in maps])
    return backbone.pool(maps[-1], views.shape[2:])


def _masked(backbone: Backbone, views: Tensor, cells: Tensor, rows: Tensor, *, decode: bool) -> tuple[Tensor, MaskedGlobals]:
    hidden = voxels_of_cells(cells, views.shape[2:], backbone.size_multiple)
    maps = backbone.encode(hide(views, hidden))
    decoded = backbone.decode(maps) if decode else None
    return backbone.pool(maps[-1], views.shape[2:]), MaskedGlobals(rows, cells, views, hidden, maps[-1], decoded)
