"""The DINO task under a real trainer: what moves when, and by how much."""

import copy
import math
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fuse_examples.imaging.oai_example.objectives import collapse
from fuse_examples.imaging.oai_example.objectives.dino_loss import DINOLoss
from fuse_examples.imaging.oai_example.tasks.dino import DINOTask
from fuse_examples.imaging.oai_example.tasks.dino_passes import Outputs
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


SILENT = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
QUIET = {"accelerator": "cpu", "logger": False, **SILENT}


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

    def encoder_distances(self) -> dict[str, int]:
        return {name: 2 if int(name.split(".")[1]) < 2 else 1 for name, _ in self.named_parameters()}

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
    """Keeps what was logged, the global step and the state after each training batch, and the state before the first."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []
        self.states: list[dict[str, Tensor]] = []
        self.steps: list[int] = []

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        if not self.states:  # statistics have been started, nothing else has moved
            self.states.append(snapshot(pl_module))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.states.append(snapshot(pl_module))
        self.steps.append(trainer.global_step)
        self.logged.append({name: value.item() for name, value in trainer.callback_metrics.items()})


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def fit(
    task: DINOTask, train: DataLoader[dict[str, Any]] | None = None, val: DataLoader[dict[str, Any]] | None = None, **options: Any
) -> tuple[pl.Trainer, Recorder]:
    recorder = Recorder()
    ckpt_path = options.pop("ckpt_path", None)
    defaults = {"max_epochs": 2, "num_sanity_val_steps": 0, "log_every_n_steps": 1, "callbacks": [recorder, *options.pop("callbacks", [])]}
    trainer = pl.Trainer(**{**QUIET, **defaults, **options})
    trainer.fit(task, loader() if train is None else train, val, ckpt_path=ckpt_path, weights_only=True)
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
    assert steps_done == n_steps
    assert not same(recorder.states[0], recorder.states[-1], "student_backbone")
    assert not same(recorder.states[0], recorder.states[-1], "teacher_head")


def test_loss_and_centre_of_a_step_use_the_centre_before_it_and_all_accumulated_batches() -> None:
    """Without batch statistics, three accumulated batches move the centre as one batch three times as large does."""
    moved = []
    for batch_size, accumulate in [(2, 3), (6, 1)]:
        task = make_task()
        for backbone in (task.student_backbone, task.teacher_backbone):
            backbone.layers[1] = backbone.layers[4] = nn.Identity()
        _, recorder = fit(task, loader(6, batch_size), accumulate_grad_batches=accumulate, max_epochs=1)
        moved.append(recorder.states[-1]["criterion.center"])
    assert moved[0].abs().max() > 1e-3
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-5, atol=1e-7)


def test_validation_touches_neither_centre_nor_teacher_nor_student() -> None:
    task = make_task()
    fit(task)
    before = snapshot(task)
    results = pl.Trainer(**QUIET).validate(task, loader(4), verbose=False)
    assert same(before, snapshot(task))
    assert math.isfinite(results[0]["val/loss"])


def test_training_with_validation_is_training_without() -> None:
    states = []
    for val in (None, loader(4)):
        task = make_task()
        fit(task, val=val, num_sanity_val_steps=1)
        states.append(snapshot(task))
    assert same(*states)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_with_gradients_that_are_not_finite_moves_nothing(accumulate: int, caplog: pytest.LogCaptureFixture) -> None:
    """Rows 2 and 3 are the second batch of each epoch."""
    task = make_task()
    _, recorder = fit(task, loader(poisoned=(3,)), accumulate_grad_batches=accumulate)
    skipped = [1, 5] if accumulate == 1 else [0, 1, 4, 5]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    steps = [1, 5] if accumulate == 1 else [0, 2]
    of_steps = [warning for warning in warnings if not warning.startswith("epoch")]
    assert of_steps == [f"step {step} is skipped: its gradients are not finite" for step in steps]
    for batch, (before, after) in enumerate(zip(recorder.states, recorder.states[1:], strict=False)):
        weights = [name for name in before if "running" not in name and "num_batches" not in name]
        assert all(torch.equal(before[name], after[name]) for name in weights if "head.last" not in name) == (
            batch in skipped or (accumulate == 2 and batch % 2 == 0)
        ), batch
    assert all(tensor.isfinite().all() for tensor in task.state_dict().values())
    assert all(tensor.isfinite().all() for state in recorder.states[2:] for name, tensor in state.items() if "teacher" in name)


# --- schedules


class GroupRecorder(pl.Callback):
    def __init__(self) -> None:
        self.groups: list[list[tuple[float, float]]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.groups.append([(group["lr"], group["weight_decay"]) for group in trainer.optimizers[0].param_groups])


@pytest.mark.parametrize("accumulate", [1, 3])
def test_schedules_move_at_every_optimiser_step(accumulate: int) -> None:
    groups = GroupRecorder()
    trainer, recorder = fit(make_task(), accumulate_grad_batches=accumulate, max_epochs=3, callbacks=[groups])
    per_epoch = 4 if accumulate == 1 else 2
    n_steps = 3 * per_epoch
    assert trainer.global_step == n_steps
    warmup, temperature_warmup = per_epoch // 2, round(1.5 * per_epoch)
    rate = 0.001 + 0.0045 * (1 + np.cos(np.pi * np.arange(n_steps - warmup) / (n_steps - warmup)))
    cosine = 0.5 * (1 + np.cos(np.pi * np.arange(n_steps) / n_steps))
    tail = np.full(n_steps - temperature_warmup, 0.07)
    expected = {
        "dino/learning_rate": np.concatenate([np.linspace(0, 0.01, warmup), rate]),
        "dino/weight_decay": 0.4 + (0.04 - 0.4) * cosine,
        "dino/momentum": 0.9 + (0.8 - 0.9) * cosine,
        "dino/teacher_temperature": np.concatenate([np.linspace(0.03, 0.07, temperature_warmup), tail]),
    }
    stepped = [index for index in range(len(recorder.steps)) if recorder.steps[index] != ([0, *recorder.steps])[index]]
    assert len(stepped) == n_steps
    for name, values in expected.items():
        np.testing.assert_allclose([recorder.logged[index][name] for index in stepped], values, rtol=1e-5, err_msg=name)
    used = np.array([groups.groups[index] for index in stepped])  # (steps, groups, rate and decay)
    np.testing.assert_allclose(used[:, 0], np.stack([expected["dino/learning_rate"], expected["dino/weight_decay"]], axis=1))
    np.testing.assert_allclose(used[:, 1], np.stack([expected["dino/learning_rate"], np.zeros(n_steps)], axis=1))


def test_the_learning_rate_falls_from_level_to_level_at_every_step(tmp_path: Path) -> None:
    task, groups, saved = make_task(replace(RECIPE, layer_decay=0.5)), GroupRecorder(), tmp_path / "last.ckpt"
    trainer, recorder = fit(task, callbacks=[groups])
    names = {id(parameter): name for name, parameter in task.named_parameters()}
    of_groups = [{names[id(parameter)] for parameter in group["params"]} for group in trainer.optimizers[0].param_groups]
    distances = [0 if name.startswith("student_head") else 2 - (int(name.split(".")[2]) >= 3) for name, *_ in map(sorted, of_groups)]
    assert distances == [0, 0, 1, 1, 2, 2]
    assert {name for group in of_groups[4:] for name in group} == {
        f"student_backbone.layers.{i}.{w}" for i in (0, 1) for w in ("weight", "bias")
    }
    for logged, used in zip(recorder.logged, groups.groups, strict=True):
        assert [rate for rate, _ in used] == pytest.approx([logged["dino/learning_rate"] * 0.5**distance for distance in distances])
        assert [decay for _, decay in used] == pytest.approx([logged["dino/weight_decay"], 0.0] * 3)
    trainer.save_checkpoint(saved)
    resumed = GroupRecorder()
    fit(make_task(replace(RECIPE, layer_decay=0.5)), callbacks=[resumed], max_epochs=3, ckpt_path=saved)
    assert [rate / resumed.groups[0][0][0] for rate, _ in resumed.groups[0]] == [0.5**distance for distance in distances]


def test_a_checkpoint_from_before_there_were_levels_goes_on_at_one_rate(tmp_path: Path) -> None:
    trainer, _ = fit(make_task())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    old = torch.load(tmp_path / "last.ckpt", weights_only=True)
    for group in old["optimizer_states"][0]["param_groups"]:
        del group["share"]
    torch.save(old, tmp_path / "old.ckpt")
    runs = [make_task(), make_task()]
    for name, task in zip(("last", "old"), runs, strict=True):
        fit(task, max_epochs=3, ckpt_path=tmp_path / f"{name}.ckpt")
    assert same(*(snapshot(task) for task in runs))


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_last_layer_is_frozen_in_the_first_epochs_only(epochs: int) -> None:
    _, recorder = fit(make_task(replace(RECIPE, freeze_last_layer_epochs=epochs)), max_epochs=3)
    moves = [
        not same(before, after, "student_head.last_layer") for before, after in zip(recorder.states, recorder.states[1:], strict=False)
    ]
    assert moves[1:] == [batch >= 4 * epochs for batch in range(1, 12)]  # the very first step has learning rate 0
    assert all(not same(*pair, "student_head.hidden") for pair in zip(recorder.states[1:], recorder.states[2:], strict=False))


def test_frozen_last_layer_counts_for_nothing_when_gradients_are_clipped() -> None:
    seen: list[float] = []

    class Clipped(DINOTask):
        def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None) -> None:
            seen.append(sum(parameter.grad is not None for parameter in self.student_head.last_layer.parameters()))

    fit(make_task(task=Clipped))
    assert seen == [0] * 4 + [1] * 4


def test_weights_decay_and_biases_do_not() -> None:
    task = make_task()
    decaying, rest = task.configure_optimizers().param_groups
    assert decaying["decays"]
    assert not rest["decays"]
    names = {id(parameter): name for name, parameter in task.named_parameters()}
    assert {names[id(parameter)] for parameter in decaying["params"]} == {
        "student_backbone.layers.0.weight",
        "student_backbone.layers.3.weight",
        "student_head.hidden.weight",
        "student_head.last_layer.weight",
    }
    assert {names[id(parameter)].split(".")[-1] for parameter in rest["params"]} == {"bias", "weight"}
    assert all(parameter.ndim == 1 for parameter in rest["params"])
    assert len(decaying["params"]) + len(rest["params"]) == len([name for name in names.values() if name.startswith("student_")])


CHANGES = {
    "learning_rate": 0.02,
    "learning_rate_end": 0.005,
    "warmup_epochs": 1,
    "weight_decay": 0.5,
    "weight_decay_end": 2.0,
    "momentum_start": 0.5,
    "momentum_end": 1.0,
    "teacher_temperature_start": 0.2,
    "teacher_temperature": 0.5,
    "teacher_temperature_warmup_epochs": 0.5,
    "freeze_last_layer_epochs": 0,
    "koleo_weight": 1.0,
    "layer_decay": 0.5,
}


@pytest.fixture(scope="module")
def plain_run() -> dict[str, Tensor]:
    task = make_task()
    fit(task)
    return snapshot(task)


@pytest.mark.parametrize("name", [field.name for field in fields(DINORecipe)])
def test_every_value_of_the_recipe_changes_the_trained_teacher(name: str, plain_run: dict[str, Tensor]) -> None:
    task = make_task(replace(RECIPE, **{name: CHANGES[name]}))
    fit(task)
    assert not same(plain_run, snapshot(task), "teacher_")


def test_equal_recipes_train_equal_teachers(plain_run: dict[str, Tensor]) -> None:
    task = make_task()
    fit(task)
    assert same(plain_run, snapshot(task))


def test_values_no_schedule_can_use_are_refused_together() -> None:
    with pytest.raises(ValueError, match=r"learning_rate is nan, momentum_end is 1\.5, teacher_temperature is 0$"):
        DINORecipe(learning_rate=math.nan, momentum_end=1.5, teacher_temperature=0)


def test_a_run_of_unknown_length_is_refused() -> None:
    with pytest.raises(ValueError, match="need a run of known length: give the trainer max_epochs"):
        fit(make_task(), max_epochs=-1)


# --- views


def test_views_of_one_size_are_one_batch_and_the_teacher_sees_global_ones() -> None:
    task = make_task()
    fit(task, loader(4), max_epochs=1)
    assert task.student_backbone.batches[-4:] == [(4, 1, 6, 8, 8), (6, 1, 4, 6, 6)] * 2
    assert task.teacher_backbone.batches == [(4, 1, 6, 8, 8)] * 2


def test_batching_views_keeps_their_order() -> None:
    """Loss of the batched forward equals that of a view-by-view one where statistics are fixed."""
    task = make_task().eval()
    task.trainer = pl.Trainer(**QUIET)
    with torch.no_grad():
        task.student_head.hidden.weight.add_(0.3)
    views = [view.unsqueeze(0) for view in Views(1)[0]["views"]]
    views = [views[0], views[2], views[1], views[3], views[4]]  # sizes interleaved
    batch = {"views": views, "n_global": 2}
    student = torch.stack([task.student_head(task.student_backbone.embed(view)) for view in views])
    teacher = torch.stack([task.teacher_head(task.teacher_backbone.embed(view)) for view in views[:2]])
    outputs = task._both_networks(batch)
    torch.testing.assert_close(outputs.student_logits, student)
    torch.testing.assert_close(outputs.teacher_logits, teacher)


@pytest.mark.parametrize(("n", "batch_size"), [(2, 1), (5, 2)])
def test_batches_of_one_and_a_last_partial_batch_train(n: int, batch_size: int) -> None:
    task = make_task()
    trainer, recorder = fit(task, loader(n, batch_size), loader(n, batch_size))
    assert trainer.global_step == 2 * math.ceil(n / batch_size)
    assert not same(recorder.states[0], recorder.states[-1], "teacher_backbone")
    assert all(tensor.isfinite().all() for tensor in task.state_dict().values())
    assert math.isfinite(trainer.callback_metrics["val/loss"])


def test_head_and_loss_stay_in_float32_under_autocast() -> None:
    class Checked(DINOTask):
        def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
            assert torch.is_autocast_enabled("cpu")
            assert self.student_backbone.embed(batch["views"][0]).dtype == torch.bfloat16
            loss = super().training_step(batch, batch_idx)
            assert loss.dtype == torch.float32
            return loss

    fit(make_task(task=Checked), loader(2), precision="bf16-mixed", max_epochs=1)  # TinyHead asserts what it is given


def test_no_graph_is_built_for_the_teacher() -> None:
    class Checked(DINOTask):
        def _both_networks(self, batch: dict[str, Any]) -> Outputs:
            outputs = super()._both_networks(batch)
            assert not outputs.teacher_features.requires_grad
            assert not outputs.teacher_logits.requires_grad
            assert outputs.student_logits.requires_grad
            return outputs

    fit(make_task(task=Checked), loader(2), max_epochs=1)


# --- what is exported


def test_teacher_stays_in_evaluation_mode_and_its_statistics_are_the_average_alone() -> None:
    task = make_task()
    task.train()
    assert task.student_backbone.training
    assert task.student_head.training
    assert not any(module.training for module in [*task.teacher_backbone.modules(), *task.teacher_head.modules()])
    task.eval()
    assert not task.student_backbone.training


def mode_correlation(backbone: nn.Module, volumes: Tensor) -> tuple[float, float]:
    """Correlation between features in evaluation and in training mode: of all values, and the least over single features."""
    exported = copy.deepcopy(backbone)
    with torch.no_grad():
        evaluated, trained = exported.eval().embed(volumes).numpy(), exported.train().embed(volumes).numpy()
    per_feature = [np.corrcoef(evaluated[:, i], trained[:, i])[0, 1] for i in range(evaluated.shape[1])]
    return np.corrcoef(evaluated.ravel(), trained.ravel())[0, 1], min(per_feature)


@pytest.mark.parametrize(("momentum", "epochs"), [(0.996, 1), (0.996, 5), (0.9, 15)])
def test_features_of_the_exported_backbone_in_evaluation_and_in_training_mode_correlate(momentum: float, epochs: int) -> None:
    task = make_task(replace(RECIPE, learning_rate=0.003, momentum_start=momentum, momentum_end=1.0))
    fit(task, loader(32, 4), max_epochs=epochs)
    volumes = torch.cat([batch["views"][0] for batch in loader(32, 32)])
    assert min(mode_correlation(task.teacher_backbone, volumes)) > 0.95


def test_statistics_start_from_the_global_views_of_the_first_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    """At learning rate 0 the first layer's statistics are known: the mean over batches of those of its output for global views."""
    monkeypatch.setattr("fuse_examples.imaging.oai_example.tasks.first_batches.STATISTICS_VOLUMES", 5)
    started: dict[str, Tensor] = {}

    class Start(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            started.update(snapshot(pl_module))

    task = make_task(replace(RECIPE, learning_rate=0.0, learning_rate_end=0.0))
    fit(task, loader(8, poisoned=(3,)), max_epochs=1, callbacks=[Start()])
    first_layer = make_task().student_backbone.layers[0]
    with torch.no_grad():
        outputs = [first_layer(torch.cat(batch["views"][:2])).transpose(0, 1).flatten(1).double() for batch in loader(8, poisoned=(3,))]
    expected = {"mean": (outputs[0].mean(dim=1) + outputs[2].mean(dim=1)) / 2, "var": (outputs[0].var(dim=1) + outputs[2].var(dim=1)) / 2}
    for network, (name, values) in product(("student", "teacher"), expected.items()):
        torch.testing.assert_close(started[f"{network}_backbone.layers.1.running_{name}"].double(), values, rtol=1e-5, atol=1e-6)
    assert task.student_backbone.layers[1].momentum == 0.1, "the layers' own momentum is back"


def test_local_views_and_validation_leave_the_statistics_alone() -> None:
    task = make_task(replace(RECIPE, learning_rate=0.0, learning_rate_end=0.0))
    fit(task, loader(2), loader(4), max_epochs=1)
    views = next(iter(loader(2)))["views"]
    with torch.no_grad():
        values = make_task().student_backbone.layers[0](torch.cat(views[:2])).transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(task.student_backbone.layers[1].running_mean.double(), values.mean(dim=1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(task.student_backbone.layers[1].running_var.double(), values.var(dim=1), rtol=1e-5, atol=1e-6)


def test_networks_without_statistics_start_at_once() -> None:
    task = make_task()
    for backbone in (task.student_backbone, task.teacher_backbone):
        backbone.layers[1] = backbone.layers[4] = nn.Identity()
    fit(task, loader(8), max_epochs=1)
    assert len(task.student_backbone.batches) == 2 * (1 + 4), "one batch to see that there is nothing to start, then four to train"


def test_statistics_of_a_head_with_batch_norm_start_too() -> None:
    torch.manual_seed(0)
    head = nn.Sequential()
    head.add_module("norm", nn.BatchNorm1d(8))
    head.add_module("last_layer", nn.Linear(8, N_PROTOTYPES))
    task = DINOTask(TinyBackbone(), head, DINOLoss(N_PROTOTYPES), replace(RECIPE, learning_rate=0.0, learning_rate_end=0.0))
    _, recorder = fit(task, max_epochs=1)
    features = torch.cat([task(view) for batch in loader() for view in batch["views"]])
    for network in ("student", "teacher"):
        mean = recorder.states[0][f"{network}_head.norm.running_mean"]
        assert (mean - features.mean(dim=0)).abs().max() < 0.1 < features.mean(dim=0).abs().max()


def test_a_backbone_that_comes_in_evaluation_mode_is_trained() -> None:
    task = DINOTask(TinyBackbone().eval(), TinyHead().eval(), DINOLoss(N_PROTOTYPES))
    assert all(module.training for module in [*task.student_backbone.modules(), *task.student_head.modules()])


# --- what is watched


def test_logged_names_and_their_values() -> None:
    trainer, recorder = fit(make_task(), val=loader(4))
    assert set(trainer.callback_metrics) == {
        "train/loss",
        "val/loss",
        "dino/teacher_entropy",
        "dino/student_entropy",
        "dino/effective_rank",
        "dino/kl",
        "dino/momentum",
        "dino/teacher_temperature",
        "dino/learning_rate",
        "dino/weight_decay",
        "dino/center_norm",
        "dino/between_scans",
        "dino/prototypes_used",
        "dino/skipped_steps",
        "dino/alarms",
        "dino/gradient_norm/backbone",
        "dino/gradient_norm/head",
    }
    last = recorder.logged[-1]
    assert last["dino/kl"] + last["dino/teacher_entropy"] == pytest.approx(last["train/loss"], rel=1e-5)
    assert 0 <= last["dino/teacher_entropy"] <= math.log(N_PROTOTYPES)
    assert 0 < last["dino/student_entropy"] <= math.log(N_PROTOTYPES)
    assert 0 < last["dino/between_scans"] <= math.log(2), "batches hold two scans"
    assert 1 <= trainer.callback_metrics["dino/effective_rank"] <= 8
    assert 1 / N_PROTOTYPES <= trainer.callback_metrics["dino/prototypes_used"] <= 1


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradient_norms_are_those_of_the_parts_before_clipping(accumulate: int) -> None:
    class Norms(pl.Callback):
        def __init__(self) -> None:
            self.steps: list[dict[str, float]] = []

        def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
            squares = {"backbone": 0.0, "head": 0.0}
            for name, parameter in pl_module.named_parameters():
                is_frozen = trainer.current_epoch == 0 and "last_layer" in name
                if parameter.grad is not None and not is_frozen:
                    squares[name.split(".")[0].removeprefix("student_")] += float(parameter.grad.double().square().sum())
            self.steps.append({part: math.sqrt(total) for part, total in squares.items()})

    norms = Norms()
    _, recorder = fit(make_task(), callbacks=[norms], accumulate_grad_batches=accumulate, gradient_clip_val=1e-3)
    logged = recorder.logged[accumulate - 1 :: accumulate]
    assert len(norms.steps) == len(logged) == 8 // accumulate
    for expected, step in zip(norms.steps, logged, strict=True):
        assert min(expected.values()) > 1e-3, "clipping has something to do"
        assert {part: step[f"dino/gradient_norm/{part}"] for part in expected} == pytest.approx(expected, rel=1e-4)


def test_effective_rank_is_of_the_epochs_latest_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 2 with 2 global views are 4 rows: the last two batches hold the 7 rows asked for, however many epochs there were."""
    monkeypatch.setattr("fuse_examples.imaging.oai_example.tasks.dino_watch.FEATURE_ROWS", 7)
    seen: list[Tensor] = []
    monkeypatch.setattr(collapse, "effective_rank", lambda features: seen.append(features) or torch.tensor(0.0))
    task = make_task(replace(RECIPE, learning_rate=0.0, learning_rate_end=0.0))
    fit(task, max_epochs=2)
    last = torch.cat([task(torch.cat(batch["views"][:2])) for batch in list(loader())[-2:]])
    torch.testing.assert_close(seen[1], last, rtol=0.05, atol=0.01)
    monkeypatch.setattr("fuse_examples.imaging.oai_example.tasks.dino_watch.FEATURE_ROWS", 1000)
    fit(make_task(), max_epochs=2)
    assert [len(features) for features in seen[2:]] == [16, 16], "each epoch begins anew"


def test_prototypes_used_are_those_of_the_epoch() -> None:
    class Turn(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            with torch.no_grad():
                pl_module.teacher_head.last_layer.weight[trainer.current_epoch].fill_(1e6)
                pl_module.teacher_head.hidden.weight.fill_(1.0)
                pl_module.teacher_head.hidden.bias.fill_(1.0)

    trainer, _ = fit(make_task(replace(RECIPE, momentum_start=1.0, momentum_end=1.0)), callbacks=[Turn()])
    assert trainer.callback_metrics["dino/prototypes_used"] == 1 / N_PROTOTYPES


def test_a_collapsed_teacher_shows() -> None:
    task = make_task(replace(RECIPE, learning_rate=0.0, learning_rate_end=0.0))
    with torch.no_grad():
        for network in (task.student_backbone, task.teacher_backbone):
            network.layers[4].weight.zero_()
            network.layers[4].bias.fill_(1.0)
    trainer, _ = fit(task)
    assert trainer.callback_metrics["dino/effective_rank"] == pytest.approx(1, abs=1e-3)
    assert trainer.callback_metrics["dino/prototypes_used"] == 1 / N_PROTOTYPES


# --- resuming


def test_a_resumed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    class Save(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 0:
                trainer.save_checkpoint(tmp_path / "epoch.ckpt")

    whole = make_task()
    fit(whole, max_epochs=3, accumulate_grad_batches=3, callbacks=[Save()])
    resumed = make_task(seed=1)
    trainer, recorder = fit(resumed, max_epochs=3, accumulate_grad_batches=3, ckpt_path=tmp_path / "epoch.ckpt")
    assert trainer.global_step == 6
    assert recorder.steps == [2, 2, 3, 4, 4, 4, 5, 6][-len(recorder.steps) :]
    assert same(snapshot(whole), snapshot(resumed))
