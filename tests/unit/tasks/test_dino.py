"""The DINO task under a real trainer: what moves when, and by how much."""

import math
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fuse_examples.imaging.oai_example.objectives.dino_loss import DINOLoss
from fuse_examples.imaging.oai_example.tasks.dino import DINOTask
from fuse_examples.imaging.oai_example.tasks.dino_recipe import DINORecipe

N_PROTOTYPES = 16
RECIPE = DINORecipe(
    learning_rate=0.01,
    learning_rate_end=0.001,
    warmup_epochs=0.5,
    momentum_start=0.8,
    momentum_end=0.9,
    teacher_temperature_start=0.03,
    teacher_temperature=0.07,
    teacher_temperature_warmup_epochs=1.5,
    freeze_last_layer_epochs=1,
)


class TinyBackbone(nn.Module):
    feature_dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(1, 4, 3, stride=2, padding=1),
            nn.BatchNorm3d(4),
            nn.ReLU(),
            nn.Conv3d(4, 8, 3, padding=1),
            nn.BatchNorm3d(8),
            nn.ReLU(),
        )
        self.batches: list[tuple[int, ...]] = []

    def embed(self, volumes: Tensor) -> Tensor:
        self.batches.append(tuple(volumes.shape))
        return self.layers(volumes).mean(dim=(2, 3, 4))


class TinyHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(8, 6)
        self.last_layer = nn.Linear(6, N_PROTOTYPES, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        assert features.dtype == torch.float32
        return self.last_layer(nn.functional.normalize(self.hidden(features), dim=-1))


class Views(Dataset[dict[str, Any]]):
    """Two global and three local views of blobs; `poisoned` rows hold a NaN."""

    def __init__(self, n: int, poisoned: tuple[int, ...] = ()) -> None:
        self.n, self.poisoned = n, poisoned

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, row: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(row)
        level = torch.rand(1, generator=generator) * 4
        sizes = [(6, 8, 8)] * 2 + [(4, 6, 6)] * 3
        views = [level * torch.rand(1, *size, generator=generator) + level for size in sizes]
        if row in self.poisoned:
            views[0][0, 0, 0, 0] = math.nan
        return {"views": views, "n_global": 2}


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"views": [torch.stack(views) for views in zip(*(row["views"] for row in rows), strict=True)], "n_global": 2}


def loader(n: int = 8, batch_size: int = 2, poisoned: tuple[int, ...] = ()) -> DataLoader[dict[str, Any]]:
    return DataLoader(Views(n, poisoned), batch_size=batch_size, collate_fn=collate)


def make_task(recipe: DINORecipe = RECIPE, seed: int = 0, task: type[DINOTask] = DINOTask) -> DINOTask:
    torch.manual_seed(seed)
    return task(TinyBackbone(), TinyHead(), DINOLoss(N_PROTOTYPES), recipe)


class Recorder(pl.Callback):
    """Keeps every logged value by name and global step, and the state before and after each training batch."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []
        self.states: list[dict[str, Tensor]] = []
        self.steps: list[int] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.states.append(snapshot(pl_module))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.states.append(snapshot(pl_module))
        self.steps.append(trainer.global_step)
        self.logged.append({name: value.item() for name, value in trainer.callback_metrics.items()})


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def fit(task: DINOTask, train: DataLoader[dict[str, Any]] | None = None, **options: Any) -> tuple[pl.Trainer, Recorder]:
    recorder = Recorder()
    defaults = {"max_epochs": 2, "num_sanity_val_steps": 0, "log_every_n_steps": 1, "logger": False, "enable_checkpointing": False}
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "callbacks": [recorder]}
    trainer = pl.Trainer(**{**defaults, **quiet, **options})
    trainer.fit(task, loader() if train is None else train, options.pop("val", None))
    return trainer, recorder


def same(a: dict[str, Tensor], b: dict[str, Tensor], prefix: str = "") -> bool:
    return all(torch.equal(a[name], b[name]) for name in a if name.startswith(prefix))


# --- the start


def test_teacher_starts_as_the_student_head_included() -> None:
    task = make_task()
    state = task.state_dict()
    for part in ("backbone", "head"):
        names = [name for name in state if name.startswith(f"student_{part}.")]
        assert names
        for name in names:
            assert torch.equal(state[name], state[name.replace("student_", "teacher_")]), name
    assert not any(parameter.requires_grad for parameter in [*task.teacher_backbone.parameters(), *task.teacher_head.parameters()])


def test_checkpoint_keys_keep_their_prefixes() -> None:
    prefixes = {name.split(".")[0] for name in make_task().state_dict()}
    assert prefixes == {"student_backbone", "student_head", "teacher_backbone", "teacher_head", "criterion"}


# --- once per optimiser step, after it


@pytest.mark.parametrize("accumulate", [1, 3])
def test_teacher_follows_once_per_optimiser_step_after_it(accumulate: int) -> None:
    """8 samples in batches of 2 are 4 batches an epoch: with 3 accumulated, steps after batches 3 and 4 of each epoch."""
    task = make_task()
    trainer, recorder = fit(task, accumulate_grad_batches=accumulate)
    n_steps = 8 if accumulate == 1 else 4
    assert trainer.global_step == n_steps
    teacher = {name: tensor.double().numpy() for name, tensor in recorder.states[0].items() if name.startswith("teacher_")}
    steps_done = 0
    for before, after, step in zip(recorder.states, recorder.states[1:], recorder.steps, strict=False):
        if step == steps_done:
            assert same(before, after, "teacher_")
            assert same(before, after, "criterion")
            continue
        assert step == steps_done + 1
        momentum = 0.9 + 0.5 * (0.8 - 0.9) * (1 + math.cos(math.pi * steps_done / n_steps))
        steps_done = step
        for name in teacher:
            student = after[name.replace("teacher_", "student_")].double().numpy()
            if name.endswith("num_batches_tracked"):
                teacher[name] = student
            teacher[name] = momentum * teacher[name] + (1 - momentum) * student
            np.testing.assert_allclose(after[name].numpy(), teacher[name], rtol=1e-5, atol=1e-6, err_msg=name)
        assert not same(before, after, "criterion")
        assert not same(before, after, "student_backbone")
    assert steps_done == n_steps


def test_loss_and_centre_of_a_step_use_the_centre_before_it_and_all_accumulated_batches() -> None:
    """With fixed statistics, three accumulated batches move the centre as one batch three times as large does."""
    moved = []
    for batch_size, accumulate in [(2, 3), (6, 1)]:
        task = make_task()
        _, recorder = fit(task, loader(6, batch_size), accumulate_grad_batches=accumulate, max_epochs=1)
        moved.append(recorder.states[-1]["criterion.center"])
    assert moved[0].abs().max() > 1e-3
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-5, atol=1e-7)


def test_validation_touches_neither_centre_nor_teacher_nor_student() -> None:
    task = make_task()
    fit(task)
    before = snapshot(task)
    results = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False).validate(
        task, loader(4), verbose=False
    )
    assert same(before, snapshot(task))
    assert math.isfinite(results[0]["val/loss"])


def test_training_with_validation_is_training_without() -> None:
    states = []
    for val in (None, loader(4)):
        task = make_task()
        fit(task, val=val) if val else fit(task)
        states.append(snapshot(task))
    assert same(*states)
