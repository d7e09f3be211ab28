"""A frozen backbone, in training: when it learns, what of it moves, and whose normalisation statistics it has."""

import logging
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fuse_examples.imaging.oai_example.models.attention_pooling import AttentionPooling
from fuse_examples.imaging.oai_example.models.heads import ClassificationHeads, SegmentationHead
from fuse_examples.imaging.oai_example.models.unet3d import UNet3D
from fuse_examples.imaging.oai_example.objectives.segmentation_loss import DiceCELoss
from fuse_examples.imaging.oai_example.objectives.target_objectives import ClassObjective
from fuse_examples.imaging.oai_example.tasks.classification import ClassificationRecipe, ClassificationTask
from fuse_examples.imaging.oai_example.tasks.fine_tuning import FineTuningTask
from fuse_examples.imaging.oai_example.tasks.segmentation import SegmentationRecipe, SegmentationTask

TASKS = pytest.mark.parametrize("kind", ["classification", "segmentation"])


def task_of(kind: str, *, new_decoder: bool = False, **gentle: Any) -> FineTuningTask:
    torch.manual_seed(0)
    if kind == "classification":
        backbone = UNet3D(width=2, with_decoder=False)
        heads = ClassificationHeads(backbone.feature_dim, {"size": 2})
        return ClassificationTask(backbone, heads, {"size": ClassObjective([1.0, 1.0])}, ClassificationRecipe(1e-2, 2e-2, 0.1, 0, **gentle))
    backbone = UNet3D(width=2)
    recipe = SegmentationRecipe(1e-2, 0.1, 0, None, 0.5, **gentle)
    return SegmentationTask(backbone, SegmentationHead(backbone.decoder_dim, 2), DiceCELoss(2), ["ball"], recipe, new_decoder=new_decoder)


def states_after_each_epoch(task: FineTuningTask, n_epochs: int, brightness: float = 0.5) -> list[dict[str, Tensor]]:
    """The state before training and after each epoch of two batches."""
    draw = torch.Generator().manual_seed(1)
    items = []
    for row in range(4):
        image = torch.rand(1, 8, 16, 16, generator=draw) + brightness
        items.append({"image": image, "mask": (image[0] > brightness + 0.5).long(), "labels": {"size": torch.tensor(row % 2)}})
    states = []

    class Keep(pl.Callback):
        def on_fit_start(self, *_: Any) -> None:
            states.append({name: value.clone() for name, value in task.state_dict().items()})

        def on_train_epoch_end(self, *_: Any) -> None:
            states.append({name: value.clone() for name, value in task.state_dict().items()})

    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=n_epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Keep()],
    )  # fmt: skip
    trainer.fit(task, DataLoader(items, batch_size=2))  # type: ignore[arg-type]
    return states


def moved(before: dict[str, Tensor], after: dict[str, Tensor], part: str) -> set[str]:
    return {name for name, value in before.items() if name.startswith(part) and not torch.equal(value, after[name])}


@TASKS
def test_a_backbone_frozen_for_an_epoch_learns_in_the_next(kind: str) -> None:
    task = task_of(kind, freeze_backbone=1, reestimate_norm_statistics="never")
    before, first, second = states_after_each_epoch(task, 2)
    assert moved(before, first, "backbone.") == set()
    assert moved(before, first, "head") != set()
    names = {name for name in before if name.startswith("backbone.")}
    assert moved(first, second, "backbone.") == names  # parameters, statistics and their counters
    assert task.backbone.training


@TASKS
def test_one_that_is_frozen_for_good_never_learns(kind: str) -> None:
    task = task_of(kind, freeze_backbone=True, reestimate_norm_statistics="never")
    before, *_, last = states_after_each_epoch(task, 2)
    assert moved(before, last, "backbone.") == set()
    assert not any(parameter.requires_grad for parameter in task.backbone.parameters())


@pytest.mark.parametrize("freeze", [True, 1])
def test_a_new_decoder_learns_beside_a_frozen_encoder(freeze: bool | int) -> None:
    task = task_of("segmentation", freeze_backbone=freeze, reestimate_norm_statistics="never", new_decoder=True)
    before, first, second = states_after_each_epoch(task, 2)
    encoder = {f"backbone.{name}" for name in task.backbone.encoder_parameter_names()}
    decoder = {f"backbone.{name}" for name in task.backbone.decoder_parameter_names()}
    assert moved(before, first, "backbone.") == decoder  # parameters, statistics and their counters
    assert moved(first, second, "backbone.") == (decoder if freeze is True else encoder | decoder)


def test_a_new_decoder_is_known_to_a_run_that_is_gone_on_with() -> None:
    begun = task_of("segmentation", freeze_backbone=True, new_decoder=True)
    checkpoint: dict[str, Any] = {}
    begun.on_save_checkpoint(checkpoint)
    resumed = task_of("segmentation", freeze_backbone=True)
    assert resumed.decoder_is_frozen
    resumed.on_load_checkpoint(checkpoint)
    assert not resumed.decoder_is_frozen
    learn = {name for name, parameter in resumed.backbone.named_parameters() if parameter.requires_grad}
    assert learn == {name for name, _ in resumed.backbone.named_parameters() if resumed.backbone.is_decoder_key(name)}
    resumed.on_load_checkpoint({})  # of a version that froze the decoder
    assert not any(parameter.requires_grad for parameter in resumed.backbone.parameters())


def test_statistics_of_a_frozen_encoder_are_taken_anew_without_the_decoder() -> None:
    task = task_of("segmentation", freeze_backbone=True, reestimate_norm_statistics="always", new_decoder=True)
    decoder = {name: value.clone() for name, value in task.backbone.state_dict().items() if task.backbone.is_decoder_key(name)}
    before, first = states_after_each_epoch(task, 1)
    statistics = {f"backbone.{name}" for name in task.backbone.encoder_parameter_names() if name.endswith(("running_mean", "running_var"))}
    assert {name for name in moved(before, first, "backbone.") if not task.backbone.is_decoder_key(name[9:])} == statistics
    assert all(torch.equal(value, before[f"backbone.{name}"]) for name, value in decoder.items())


@TASKS
def test_training_mode_leaves_a_frozen_backbone_in_evaluation(kind: str) -> None:
    frozen = task_of(kind, freeze_backbone=True, reestimate_norm_statistics="never").train()
    assert frozen.training
    assert not any(module.training for module in frozen.backbone.modules())
    assert task_of(kind, freeze_backbone=False, reestimate_norm_statistics="never").train().backbone.training


@TASKS
def test_each_layers_learning_rate(kind: str) -> None:
    task = task_of(kind, layer_decay=0.5)
    states_after_each_epoch(task, 1)
    (optimiser,) = task.trainer.optimizers
    rates = {id(parameter): group["initial_lr"] for group in optimiser.param_groups for parameter in group["params"]}
    found = {name.split(".")[1]: rates[id(parameter)] for name, parameter in task.named_parameters() if name.startswith("backbone.")}
    order = ["down_tr512", "down_tr256", "down_tr128", "down_tr64"]
    if kind == "segmentation":
        order = ["up_tr64", "up_tr128", "up_tr256", *order]
    assert found == {name: pytest.approx(1e-2 * 0.5**distance) for distance, name in enumerate(order, start=1)}
    heads = {rates[id(parameter)] for name, parameter in task.named_parameters() if name.startswith("head")}
    assert heads == {2e-2 if kind == "classification" else 1e-2}


@TASKS
@pytest.mark.parametrize(
    ("when", "brightness", "renewed", "text"),
    [
        ("auto", 50.0, True, "re-estimated on the training cases"),
        ("always", 0.5, True, "re-estimated on the training cases"),
        ("never", 50.0, False, ""),
        ("auto", None, False, "up to 0 % of a layer's channels do not fit the training cases; kept as the weights have them"),
    ],
)
def test_a_frozen_backbones_statistics(
    kind: str, when: Any, brightness: float | None, renewed: bool, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    task = task_of(kind, freeze_backbone=True, reestimate_norm_statistics=when)
    if brightness is None:  # weights that were trained on such images
        fitted = task_of(kind, freeze_backbone=True, reestimate_norm_statistics="always")
        states_after_each_epoch(fitted, 1)
        task.backbone.load_state_dict(fitted.backbone.state_dict())
        caplog.clear()
    before, first, second = states_after_each_epoch(task, 2, 0.5 if brightness is None else brightness)
    statistics = {name for name in before if name.startswith("backbone.") and name.endswith(("running_mean", "running_var"))}
    assert moved(before, first, "backbone.") == (statistics if renewed else set())
    assert moved(first, second, "backbone.") == set()
    assert text in caplog.text


@TASKS
def test_a_backbone_that_learns_moves_its_own(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    states_after_each_epoch(task_of(kind), 1, 50.0)
    assert "norm statistics" not in caplog.text


def attention_task(**gentle: Any) -> ClassificationTask:
    torch.manual_seed(0)
    backbone = UNet3D(width=2, with_decoder=False)
    heads, pooling = ClassificationHeads(backbone.feature_dim, {"size": 2}), AttentionPooling(backbone.feature_dim, 4)
    recipe = ClassificationRecipe(1e-2, 2e-2, 0.1, 0, **gentle)
    return ClassificationTask(backbone, heads, {"size": ClassObjective([1.0, 1.0])}, recipe, pooling)


def test_over_a_frozen_backbone_pooling_and_heads_alone_have_gradients() -> None:
    task = attention_task(freeze_backbone=True, reestimate_norm_statistics="never")
    image, labels = torch.rand(2, 1, 8, 16, 16), {"size": torch.tensor([0, 1])}
    task.loss(task(image), labels).backward()
    with_gradients = {name for name, parameter in task.named_parameters() if parameter.grad is not None and parameter.grad.any()}
    # A score's own bias moves all cells alike, which a softmax does not see.
    learning = {name for name, _ in task.named_parameters() if name.startswith(("pooling.", "heads.")) and name != "pooling.score.bias"}
    assert with_gradients - {"pooling.score.bias"} == learning
    assert not any(module.training for module in task.backbone.modules())


@pytest.mark.parametrize("brightness", [50.0, 0.5])
def test_attention_pooling_learns_over_statistics_that_were_taken_anew(brightness: float) -> None:
    """They are those of the backbone's own layers, to the bit what they are below an average: what pools the map has no say in them."""
    kept: dict[str, dict[str, Tensor]] = {}
    for pooling, task in (
        ("attention", attention_task(freeze_backbone=True, reestimate_norm_statistics="always")),
        ("average", task_of("classification", freeze_backbone=True, reestimate_norm_statistics="always")),
    ):
        before, first, second = states_after_each_epoch(task, 2, brightness)
        statistics = {name for name in before if name.startswith("backbone.") and name.endswith(("running_mean", "running_var"))}
        assert moved(before, first, "backbone.") == statistics
        assert moved(first, second, "backbone.") == set()
        kept[pooling] = {name: value for name, value in second.items() if name in statistics}
        if pooling == "attention":
            assert {name for name in before if name.startswith("pooling.")} - moved(before, second, "pooling.") <= {"pooling.score.bias"}
            assert moved(before, second, "heads.") != set()
    assert kept["attention"].keys() == kept["average"].keys()
    assert all(torch.equal(value, kept["average"][name]) for name, value in kept["attention"].items())
