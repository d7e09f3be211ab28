"""Alarms of a DINO run: each threshold, what a person reads, and runs that are sabotaged in six ways."""

import math
from dataclasses import asdict, replace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from test_dino import SILENT, TinyBackbone, collate
from torch.utils.data import DataLoader, Dataset

from fuse_examples.imaging.oai_example.errors import UserError
from fuse_examples.imaging.oai_example.models.heads import DINOProjectionHead
from fuse_examples.imaging.oai_example.objectives.dino_loss import DINOLoss
from fuse_examples.imaging.oai_example.tasks.dino import ALARMS, MOST_SKIPPED_STEPS, DINOTask
from fuse_examples.imaging.oai_example.tasks.dino_alarms import Alarm, EpochFigures, PatchFigures, alarms_of
from fuse_examples.imaging.oai_example.tasks.dino_recipe import DINORecipe, StepValues

LN_K = math.log(64)
HEALTHY = EpochFigures(
    loss=0.8 * LN_K,
    teacher_entropy=0.5 * LN_K,
    largest_share=0.1,
    prototypes_used=0.8,
    effective_rank=9.0,
    n_features=128,
    n_prototypes=64,
    n_steps=100,
    n_skipped=0,
    weight_growth=1.2,
    between_scans=0.5,
    teacher_moved=True,
)


PATCHES = PatchFigures(loss=0.8 * LN_K, teacher_entropy=0.5 * LN_K, largest_share=0.1, n_prototypes=64)


def names(**changes: Any) -> list[str]:
    return [alarm.name for alarm in alarms_of(replace(HEALTHY, **changes), warmed_up=True)]


def test_a_healthy_epoch_raises_none() -> None:
    assert names() == []


@pytest.mark.parametrize(
    ("name", "just_not", "just"),
    [
        ("uniform collapse", {"loss": LN_K, "teacher_entropy": 0.989 * LN_K}, {"loss": 0.991 * LN_K, "teacher_entropy": LN_K}),
        ("one-prototype collapse", {"largest_share": 0.89}, {"largest_share": 0.91}),
        ("dimensional collapse", {"effective_rank": 1.51}, {"effective_rank": 1.49}),
        ("dimensional collapse", {"effective_rank": 1.0, "n_features": 3}, {"effective_rank": 1.0, "n_features": 4}),
        ("diverging", {"loss": LN_K + 0.99}, {"loss": LN_K + 1.01}),
        ("diverging", {"weight_growth": 4.9}, {"weight_growth": 5.1}),
        ("diverging", {"weight_growth": 1.21, "n_steps": 10}, {"weight_growth": 1.23, "n_steps": 10}),
        ("constant output", {"between_scans": 0.051}, {"between_scans": 0.049}),
        ("constant output", {"between_scans": math.nan}, {"between_scans": 0.0}),
        ("not finite", {"n_skipped": 0}, {"n_skipped": 1}),
        ("still teacher", {"teacher_moved": True}, {"teacher_moved": False}),
    ],
)
def test_each_alarm_begins_at_its_threshold(name: str, just_not: dict[str, Any], just: dict[str, Any]) -> None:
    assert names(**just_not) == []
    assert names(**just) == [name]


@pytest.mark.parametrize(
    ("name", "just_not", "just"),
    [
        ("uniform patch collapse", {"loss": LN_K, "teacher_entropy": 0.989 * LN_K}, {"loss": 0.991 * LN_K, "teacher_entropy": LN_K}),
        ("one-prototype patch collapse", {"largest_share": 0.89}, {"largest_share": 0.91}),
    ],
)
def test_the_head_on_patches_has_alarms_of_its_own(name: str, just_not: dict[str, Any], just: dict[str, Any]) -> None:
    assert names(patch=PATCHES) == []
    assert names(patch=replace(PATCHES, **just_not)) == []
    assert names(patch=replace(PATCHES, **just)) == [name]
    assert name.replace(" patch", "") in names(patch=PATCHES, **just), "the one on images has its own figures"
    assert [alarm.name for alarm in alarms_of(replace(HEALTHY, patch=replace(PATCHES, **just)), warmed_up=False)] == []


def test_an_alarm_of_patches_says_that_it_is_of_cells() -> None:
    at_one = replace(HEALTHY, patch=replace(PATCHES, loss=LN_K, teacher_entropy=LN_K, largest_share=0.95))
    assert [str(alarm) for alarm in alarms_of(at_one, warmed_up=True)] == [
        "uniform patch collapse: on masked cells the loss (4.159) and the teacher's entropy (4.159) lie at ln K = 4.159: every cell gets "
        "the same uniform output. Lower teacher_temperature, learning_rate or masking.patch_weight.",
        "one-prototype patch collapse: on masked cells one prototype of 64 takes 95% of the teacher's output: every cell gets the same. "
        "Set masking.patch_centering: sinkhorn, raise teacher_temperature, or lower masking.patch_weight.",
    ]


@pytest.mark.parametrize(
    ("name", "changes"), [("uniform collapse", {"loss": LN_K, "teacher_entropy": LN_K}), ("one-prototype collapse", {"largest_share": 1.0})]
)
def test_a_constant_output_that_has_a_name_of_its_own_is_told_by_that(name: str, changes: dict[str, float]) -> None:
    assert names(between_scans=0.0, **changes) == [name]


def test_during_the_warm_up_only_what_no_warm_up_explains_counts() -> None:
    broken = replace(HEALTHY, loss=3 * LN_K, largest_share=0.8, between_scans=0.0, effective_rank=1.0, n_skipped=2, teacher_moved=False)
    assert [alarm.name for alarm in alarms_of(broken, warmed_up=False)] == ["not finite", "still teacher"]


def test_an_alarm_says_what_was_seen_and_what_helps() -> None:
    (alarm,) = alarms_of(replace(HEALTHY, loss=LN_K, teacher_entropy=LN_K), warmed_up=True)
    assert str(alarm) == (
        "uniform collapse: the loss (4.159) and the teacher's entropy (4.159) lie at ln K = 4.159: every scan gets the same uniform "
        "output. Lower teacher_temperature or learning_rate, raise momentum_start, or set head.use_batch_norm: true."
    )


# --- whole runs


class Blobs(Dataset[dict[str, Any]]):
    """Views of volumes that differ in where they are bright; `spoilt` rows hold a NaN, `constant` views show nothing."""

    def __init__(self, spoilt: tuple[int, ...] = (), constant: bool = False) -> None:
        self.spoilt, self.constant = spoilt, constant

    def __len__(self) -> int:
        return 32

    def __getitem__(self, row: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(row)
        pattern = torch.rand(1, 3, 3, 3, generator=generator)
        views = []
        for size in [(6, 8, 8)] * 2 + [(4, 6, 6)] * 2:
            view = torch.nn.functional.interpolate(pattern[None], size=size, mode="trilinear")[0]
            views.append(torch.ones_like(view) if self.constant else view + 0.05 * torch.randn(view.shape, generator=generator))
        if row in self.spoilt:
            views[0][0, 0, 0, 0] = math.nan
        return {"views": views, "n_global": 2}


RECIPE = DINORecipe(
    learning_rate=2e-3,
    learning_rate_end=1e-4,
    warmup_epochs=1,
    momentum_start=0.9,
    teacher_temperature_warmup_epochs=1,
    freeze_last_layer_epochs=0,
)


def run(
    data: Dataset[dict[str, Any]],
    recipe: DINORecipe = RECIPE,
    n_epochs: int = 6,
    *,
    stop: bool = False,
    use_batch_norm: bool = True,
    **loss: Any,
) -> tuple[pl.Trainer, DINOTask]:
    torch.manual_seed(0)
    head = DINOProjectionHead(8, 16, 8, 64, use_batch_norm=use_batch_norm)
    task = DINOTask(TinyBackbone(), head, DINOLoss(64, **loss), recipe, stop_on_alarm=stop)  # type: ignore[arg-type]  # all it needs
    trainer = pl.Trainer(accelerator="cpu", logger=False, max_epochs=n_epochs, gradient_clip_val=3.0, **SILENT)
    trainer.fit(task, DataLoader(data, batch_size=8, collate_fn=collate))
    return trainer, task


def found(task: DINOTask) -> list[str]:
    return [alarm.name for alarm in task.alarms]


def test_a_sound_run_ends_without_an_alarm() -> None:
    trainer, task = run(Blobs())
    assert task.alarms == ()
    assert trainer.callback_metrics[ALARMS] == 0


def test_without_centring_one_prototype_takes_all() -> None:
    # Batch normalisation in the head would hold scans apart for long, at the mercy of rounding.
    recipe = replace(RECIPE, teacher_temperature=0.02, teacher_temperature_start=0.02)
    _, task = run(Blobs(), recipe, use_batch_norm=False, center_momentum=1.0)
    assert "one-prototype collapse" in found(task)


def test_a_teacher_with_momentum_1_stands_still() -> None:
    _, task = run(Blobs(), replace(RECIPE, momentum_start=1.0, momentum_end=1.0))
    assert found(task) == ["still teacher"]


def test_a_teacher_that_rests_at_the_end_of_a_long_run_is_sound() -> None:
    """A cosine to momentum 1 moves the teacher by less than float32 holds in the last of some hundred epochs."""

    class Long(DINORecipe):
        def at(self, step: int, n_steps: int, steps_per_epoch: int) -> StepValues:
            values = super().at(step, n_steps, steps_per_epoch)
            return replace(values, momentum=1 - 1e-12) if step >= n_steps - 2 * steps_per_epoch else values

    _, task = run(Blobs(), Long(**asdict(RECIPE)))
    assert found(task) == []


def test_a_teacher_at_temperature_1_is_uniform() -> None:
    _, task = run(Blobs(), replace(RECIPE, teacher_temperature=1.0, teacher_temperature_start=1.0), n_epochs=30)
    assert "uniform collapse" in found(task)


def test_a_learning_rate_a_thousand_times_too_high_diverges(caplog: pytest.LogCaptureFixture) -> None:
    recipe = replace(RECIPE, learning_rate=RECIPE.learning_rate * 1000, learning_rate_end=RECIPE.learning_rate * 1000)
    run(Blobs(), recipe)
    assert "epoch 1: diverging: the norm of the student's weights has grown " in caplog.text


def test_constant_views_leave_one_direction() -> None:
    _, task = run(Blobs(constant=True))
    assert "dimensional collapse" in found(task)


def test_a_damaged_volume_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    trainer, task = run(Blobs(spoilt=(3,)), n_epochs=2)
    assert found(task) == ["not finite"]
    assert trainer.callback_metrics["dino/skipped_steps"] == 1
    assert "epoch 2: not finite: 1 of 4 steps were skipped, because their gradients were not finite. Look for damaged" in caplog.text


def test_gradients_that_stay_infinite_end_the_run() -> None:
    with pytest.raises(UserError, match=f"the gradients of {MOST_SKIPPED_STEPS} steps in a row, up to step {MOST_SKIPPED_STEPS - 1}, were"):
        run(Blobs(spoilt=tuple(range(32))), n_epochs=20)


def test_stop_ends_the_run_after_its_epoch() -> None:
    trainer, task = run(Blobs(constant=True), stop=True)
    assert trainer.current_epoch == 2  # one epoch of warm-up, and the first after it
    assert isinstance(task.alarms[0], Alarm)


def test_warn_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    trainer, _ = run(Blobs(constant=True))
    assert trainer.current_epoch == 6
    assert "epoch 6: dimensional collapse" in caplog.text
