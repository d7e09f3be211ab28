"""Masked objectives beside DINO: what the student sees, what counts, what moves, and what stays as it is."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fuse_examples.imaging.oai_example.catalogue import BACKBONES
from fuse_examples.imaging.oai_example.models.backbone import Backbone, build_backbone
from fuse_examples.imaging.oai_example.models.heads import DINOProjectionHead
from fuse_examples.imaging.oai_example.models.padding import cell_grid, voxels_of_cells
from fuse_examples.imaging.oai_example.objectives.dino_loss import DINOLoss
from fuse_examples.imaging.oai_example.objectives.patch_loss import PatchLoss
from fuse_examples.imaging.oai_example.tasks.dino_passes import MaskedOutputs, Outputs
from fuse_examples.imaging.oai_example.tasks.dino_recipe import DINORecipe
from fuse_examples.imaging.oai_example.tasks.masked_dino import MaskedDINOTask, PatchParts, ReconstructionParts

K = 7
QUIET = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
OPTIONS: dict[str, dict[str, Any]] = {
    "unet3d": {"width": 2},
    "segresnet": {"width": 8},
    "resnet3d": {"width": 2, "depth": 10},
    "swin_unetr": {"width": 12},
}
# No multiples along the first axis: 12 voxels become two cells of 8, 33 become two of 32.
SIZES = {name: (33, 32, 32) if name == "swin_unetr" else (12, 16, 16) for name in OPTIONS}
RECIPE = DINORecipe(learning_rate=0.01, warmup_epochs=0, momentum_start=0.8, momentum_end=0.9, freeze_last_layer_epochs=0)


def head_of(backbone: Backbone) -> DINOProjectionHead:
    return DINOProjectionHead(backbone.feature_dim, hidden_dim=8, bottleneck_dim=4, n_prototypes=K)


def make_task(name: str = "unet3d", *, patch: float = 1.0, reconstruction: float = 1.0, seed: int = 0, **options: Any) -> MaskedDINOTask:
    torch.manual_seed(seed)
    backbone = build_backbone(name, with_decoder=reconstruction > 0, **{**OPTIONS[name], **options})
    patch_parts = PatchParts(patch, head_of(backbone), PatchLoss(K)) if patch else None
    to_image = ReconstructionParts(reconstruction, nn.Conv3d(backbone.decoder_dim, 1, 1)) if reconstruction else None
    return MaskedDINOTask(backbone, head_of(backbone), DINOLoss(K), RECIPE, patch=patch_parts, reconstruction=to_image)


def make_batch(name: str = "unet3d", n: int = 2, masked: tuple[tuple[int, int], ...] = ((0, 0), (1, 1)), seed: int = 0) -> dict[str, Any]:
    """Two global views and a local one of `n` volumes; of the (view, sample) pairs in `masked` some cells are."""
    generator, size = torch.Generator().manual_seed(seed), SIZES[name]
    views = [torch.rand(n, 1, *size, generator=generator) + torch.arange(n).view(n, 1, 1, 1, 1) for _ in range(3)]
    grid = cell_grid(size, build_backbone(name, with_decoder=False, **OPTIONS[name]).size_multiple)
    masks = torch.zeros(2, n, *grid, dtype=torch.bool)
    for view, sample in masked:
        masks[view, sample, 0] = torch.rand(grid[1:], generator=generator) < 0.7
        masks[view, sample, 0, 0, 0] = True
        masks[view, sample, -1, -1, -1] = False
    return {"views": views, "n_global": 2, "masks": masks}


def hidden_voxels(name: str, batch: dict[str, Any]) -> list[Tensor]:
    """(B, 1, D, H, W) of each global view: each voxel looks up the cell that it lies in once margins are added."""
    multiple, hidden = 32 if name == "swin_unetr" else 8, batch["masks"].numpy()
    for axis, length in enumerate(SIZES[name], start=2):
        before = (-length % multiple) // 2
        hidden = np.take(hidden, [(place + before) // multiple for place in range(length)], axis=axis)
    return list(torch.from_numpy(hidden)[:, :, None])


def loss_of(task: MaskedDINOTask, outputs: Outputs) -> Tensor:
    task.log = task.log_dict = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    return task._loss(outputs, RECIPE.at(3, 10, 5))


SLOW = ("segresnet", "swin_unetr")
NAMES = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in sorted(BACKBONES)]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_in_masked_voxels_changes_nothing_in_the_student(name: str) -> None:
    """Loss and gradients to the bit, with the same targets; the deepest map has the cells that masks are made of."""
    batch = make_batch(name)
    hidden = hidden_voxels(name, batch)
    of_cells = voxels_of_cells(batch["masks"][0], SIZES[name], make_task(name).student_backbone.size_multiple)
    assert torch.equal(of_cells, hidden[0])
    views = [torch.where(mask, 50.0, view) for mask, view in zip(hidden, batch["views"], strict=False)]
    changed = {**batch, "views": [*views, batch["views"][2]]}
    found = []
    for seen in (batch, changed):
        task = make_task(name)
        outputs, targets = task._both_networks(seen), make_task(name)._both_networks(batch)
        assert outputs.masked is not None
        assert targets.masked is not None
        masked = outputs.masked._replace(target=targets.masked.target, teacher_cells=targets.masked.teacher_cells)
        same = {"teacher_features": targets.teacher_features, "teacher_logits": targets.teacher_logits, "masked": masked}
        loss = loss_of(task, outputs._replace(**same))
        loss.backward()
        found.append((loss, {key: value.grad for key, value in task.named_parameters() if value.grad is not None}, outputs))
    (loss, gradients, one), (again, gradients_again, other) = found
    assert torch.equal(loss, again)
    assert gradients.keys() == gradients_again.keys()
    parts = {key.split(".")[0] for key, value in gradients.items() if value.abs().max() > 0}
    assert parts == {"student_backbone", "student_head", "student_patch_head", "reconstruction_head"}
    assert [key for key in gradients if not torch.equal(gradients[key], gradients_again[key])] == []
    assert not torch.equal(one.teacher_logits, other.teacher_logits), "the teacher sees what is masked"
    if name == "unet3d":
        decoder = {key for key, value in gradients.items() if "up_tr" in key and value.abs().max() > 0}
        assert {key.split(".")[1] for key in decoder} == {"up_tr256", "up_tr128", "up_tr64"}


def independent_losses(task: MaskedDINOTask, batch: dict[str, Any], temperature: float) -> tuple[float, float]:
    """Patch and reconstruction loss of a network in evaluation mode, in float64, one masked view at a time."""
    double, of_views = copy.deepcopy(task).double().eval(), hidden_voxels("unet3d", batch)
    patches, reconstructions = [], []
    for view, sample in np.ndindex(2, 2):
        cells = batch["masks"][view, sample]
        if not cells.any():
            continue
        hidden = of_views[view][sample]
        whole = batch["views"][view][sample].double()
        shown = torch.where(hidden, whole[~hidden].mean(), whole)
        maps, of_teacher = double.student_backbone.encode(shown[None]), double.teacher_backbone.encode(whole[None])[-1][0]
        of_cells = []
        for d, h, w in np.argwhere(cells.numpy()):
            target = torch.softmax(_logits(double.teacher_patch_head, of_teacher[:, d, h, w]) / temperature, dim=0)
            prediction = torch.log_softmax(_logits(double.student_patch_head, maps[-1][0, :, d, h, w]) / 0.1, dim=0)
            of_cells.append(-(target * prediction).sum().item())
        patches.append(math.fsum(of_cells) / len(of_cells))
        image = double.reconstruction_head(double.student_backbone.decode(maps))[0]
        reconstructions.append((image - whole).abs()[hidden].mean().item())
    return math.fsum(patches) / len(patches), math.fsum(reconstructions) / len(reconstructions)


def _logits(head: Any, cell: Tensor) -> Tensor:
    """The head's formula on one cell (F,), in its own precision."""
    projected = head.layers(cell[None])
    return head.last_layer(projected / projected.norm())[0]


def test_the_losses_are_those_of_their_formulas() -> None:
    batch, task = make_batch(), make_task(patch=2.0, reconstruction=3.0)
    with torch.no_grad():
        for parameter in task.teacher_backbone.parameters():
            parameter.mul_(1.1)
    task.eval()
    outputs = task._both_networks(batch)
    plain = loss_of(task, outputs._replace(masked=None))
    patch, reconstruction = independent_losses(task, batch, RECIPE.at(3, 10, 5).teacher_temperature)
    assert (loss_of(task, outputs) - plain).item() == pytest.approx(2 * patch + 3 * reconstruction, rel=1e-5)
    assert patch > 0.1
    assert reconstruction > 0.1


def test_masked_and_local_views_do_not_move_statistics_and_seen_ones_move_the_decoders_too() -> None:
    """As a pass of the seen views alone would."""
    batch, alone = make_batch(masked=((0, 0), (1, 0), (1, 1))), make_task().student_backbone
    task = make_task()
    task._both_networks(batch)
    with torch.no_grad():
        alone.decode(alone.encode(batch["views"][0][1:]))
    found, expected = dict(task.student_backbone.named_buffers()), dict(alone.named_buffers())
    moved = [name for name in found if name.endswith(("mean", "var"))]
    for name in moved:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)
    assert any("up_tr" in name for name in moved)
    before = copy.deepcopy(found)
    task._both_networks(make_batch(masked=((0, 0), (0, 1), (1, 0), (1, 1)), seed=5))
    assert all(torch.equal(before[name], value) for name, value in task.student_backbone.named_buffers() if "num_batches" not in name)


def test_features_keep_the_order_of_views_and_samples() -> None:
    batch, task = make_batch(masked=((0, 1), (1, 0))), make_task().eval()
    features, _, masked = task._student(batch)
    hidden = hidden_voxels("unet3d", batch)
    for view, sample in np.ndindex(2, 2):
        whole, mask = batch["views"][view][sample], hidden[view][sample]
        shown = torch.where(mask, whole[~mask].mean(), whole)
        torch.testing.assert_close(features[view][sample], task.student_backbone.embed(shown[None])[0], rtol=1e-4, atol=1e-5)
    assert masked is not None
    assert masked.rows.tolist() == [False, True, True, False]


def test_without_masks_it_is_plain_dino() -> None:
    batch, task = make_batch(masked=()), make_task()
    outputs = task._both_networks(batch)
    assert outputs.masked is None
    expected = task.student_backbone.embed(torch.cat(batch["views"][:2]))
    torch.testing.assert_close(torch.cat(list(outputs.student_features)), expected)
    assert loss_of(task, outputs).isfinite()
    task.patch_criterion.update_center(torch.cat(task._pending_cells, dim=-2))
    assert (task.patch_criterion.center == 0).all()


def test_keys_are_absent_where_an_objective_is_off() -> None:
    def prefixes(**weights: float) -> set[str]:
        return {key.split(".")[0] for key in make_task(**weights).state_dict()} - plain

    plain = {"student_backbone", "student_head", "teacher_backbone", "teacher_head", "criterion"}
    assert prefixes(patch=0.0) == {"reconstruction_head"}
    assert prefixes(reconstruction=0.0) == {"student_patch_head", "teacher_patch_head", "patch_criterion"}
    assert not make_task(reconstruction=0.0).student_backbone.has_decoder


class Views(Dataset[dict[str, Any]]):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, row: int) -> dict[str, Any]:
        batch = make_batch(n=1, masked=((row % 2, 0),), seed=row)
        return {"views": [view[0] for view in batch["views"]], "masks": batch["masks"][:, 0]}


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    views = [torch.stack(same) for same in zip(*(row["views"] for row in rows), strict=True)]
    return {"views": views, "n_global": 2, "masks": torch.stack([row["masks"] for row in rows], dim=1)}


def fit(task: MaskedDINOTask, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    data = DataLoader(Views(), batch_size=2, collate_fn=collate)
    ckpt_path = options.pop("ckpt_path", None)
    trainer = pl.Trainer(**{**QUIET, "max_epochs": 2, "num_sanity_val_steps": 0, "callbacks": list(callbacks), **options})
    trainer.fit(task, data, data, ckpt_path=ckpt_path, weights_only=True)
    return trainer


class Keep(pl.Callback):
    def __init__(self, path: Path) -> None:
        self.path, self.states = path, []

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        if not self.states:
            self.states.append(copy.deepcopy(pl_module.state_dict()))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.states.append(copy.deepcopy(pl_module.state_dict()))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)


def test_a_run_moves_all_parts_once_a_step_logs_its_losses_and_resumes_to_the_bit(tmp_path: Path) -> None:
    whole, kept = make_task(), Keep(tmp_path / "epoch.ckpt")
    trainer = fit(whole, kept)
    assert {"train/patch", "train/reconstruction", "dino/patch_teacher_entropy", "val/loss"} <= set(trainer.callback_metrics)
    parts = {name.removeprefix("dino/gradient_norm/") for name in trainer.callback_metrics if name.startswith("dino/gradient_norm/")}
    assert parts == {"backbone", "decoder", "head", "patch_head", "reconstruction_head"}
    start = kept.states[0]
    decoder = "backbone.up_tr64.ops.0.bn1.running_mean"
    assert start[f"student_{decoder}"].abs().max() > 0, "the decoder's statistics start from seen views"
    for step, (before, after) in enumerate(zip(kept.states, kept.states[1:], strict=False)):
        momentum = 0.9 - 0.05 * (1 + math.cos(math.pi * step / 6))
        for name in ("patch_head.layers.0.weight", "backbone.up_tr64.ops.0.conv1.weight", decoder):
            expected = momentum * before[f"teacher_{name}"].double() + (1 - momentum) * after[f"student_{name}"].double()
            torch.testing.assert_close(after[f"teacher_{name}"].double(), expected, rtol=1e-5, atol=1e-6)
            # The first state is noted after the first forward pass, which has moved statistics already.
            assert torch.equal(before[f"student_{name}"], after[f"student_{name}"]) == (step == 0 and name == decoder), name
        assert not torch.equal(before["patch_criterion.center"], after["patch_criterion.center"])
        assert not torch.equal(before["reconstruction_head.weight"], after["reconstruction_head.weight"])
    resumed = make_task(seed=1)
    fit(resumed, ckpt_path=tmp_path / "epoch.ckpt")
    ours, theirs = whole.state_dict(), resumed.state_dict()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_the_last_layers_of_both_heads_are_frozen_in_the_first_epochs() -> None:
    task = make_task()
    task.recipe = DINORecipe(learning_rate=0.01, warmup_epochs=0, freeze_last_layer_epochs=2)
    start = copy.deepcopy(task.state_dict())
    fit(task)
    frozen = [name for name in start if name.startswith(("student_head.last_layer", "student_patch_head.last_layer"))]
    assert len(frozen) == 4
    assert all(torch.equal(start[name], task.state_dict()[name]) for name in frozen)


def test_bf16_autocast_keeps_logits_and_losses_in_float32() -> None:
    task = make_task()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = task._both_networks(make_batch())
        loss = loss_of(task, outputs)
    assert isinstance(outputs.masked, MaskedOutputs)
    assert outputs.masked.student_cells is not None
    assert outputs.masked.student_cells.dtype == loss.dtype == torch.float32
    loss.backward()
    assert all(value.grad.isfinite().all() for value in task.parameters() if value.grad is not None)


# --- collapse of the head on cells


def alarms_after(n_epochs: int, temperature: float = 0.04, **patch_loss: Any) -> list[str]:
    """Of a small network with 16 prototypes; `patch_loss` sabotages the head on cells alone."""
    torch.manual_seed(0)
    backbone, k = build_backbone("unet3d", with_decoder=False, width=2), 16
    recipe = DINORecipe(
        learning_rate=2e-3,
        learning_rate_end=2e-4,
        warmup_epochs=1,
        momentum_start=0.9,
        teacher_temperature=temperature,
        teacher_temperature_start=temperature,
        freeze_last_layer_epochs=0,
    )
    heads = [DINOProjectionHead(backbone.feature_dim, 8, 4, k, use_batch_norm=use) for use in (True, False)]
    task = MaskedDINOTask(backbone, heads[0], DINOLoss(k), recipe, patch=PatchParts(1.0, heads[1], PatchLoss(k, **patch_loss)))
    fit(task, max_epochs=n_epochs)
    return [alarm.name for alarm in task.alarms]


def test_a_sound_run_with_masks_ends_without_an_alarm() -> None:
    assert alarms_after(4) == []


def test_patches_without_centring_fall_into_one_prototype_while_images_do_not() -> None:
    assert alarms_after(12, temperature=0.02, center_momentum=1.0) == ["one-prototype patch collapse"]


def test_patches_under_a_teacher_at_temperature_1_are_uniform() -> None:
    assert "uniform patch collapse" in alarms_after(8, temperature=1.0)


def test_the_figures_of_an_epoch_are_means_over_its_batches_and_cells() -> None:
    """Against the masked cells of each batch, passed once more."""
    task, seen = make_task(reconstruction=0.0), []
    of_targets = task.patch_criterion.of_targets

    def noted(student: Tensor, probabilities: Tensor, n_cells: Tensor) -> Tensor:
        loss = of_targets(student, probabilities, n_cells)
        seen.append((loss.item(), probabilities.double()))
        return loss

    task.patch_criterion.of_targets = noted
    fit(task, max_epochs=1)
    figures = task._watch._of_patches()
    assert figures is not None
    assert len(seen) == 3
    assert figures.loss == pytest.approx(math.fsum(loss for loss, _ in seen) / 3, rel=1e-6)
    entropies = [-(rows * rows.log()).sum(dim=1).mean().item() for _, rows in seen]
    assert figures.teacher_entropy == pytest.approx(math.fsum(entropies) / 3, rel=1e-5)
    assert figures.largest_share == pytest.approx(torch.cat([rows for _, rows in seen]).mean(dim=0).max().item(), rel=1e-5)
    assert figures.n_prototypes == K
