"""What travels in a checkpoint: plain, enough to repeat the preprocessing and rebuild the network, and no patient's name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.errors import WeightsError
from fuse_examples.imaging.oai_example.models.backbone import build_backbone
from fuse_examples.imaging.oai_example.stages.checkpoint_entry import (
    check_fits,
    project_entry,
    read_stage_checkpoint,
    saved_backbone,
    saved_config,
)
from fuse_examples.imaging.oai_example.stages.opening import OpenedCases
from fuse_examples.imaging.oai_example.training.checkpoints import FORMAT_VERSION, PROJECT, check_plain
from fuse_examples.imaging.oai_example.training.patient_hashes import overlap

PREPROCESSING = Preprocessing("RAS", "percentile", (0.5, 99.5), None, (16, 16, 16))


def entry(patients: tuple[str, ...] = ("9000099", "9000100"), inherited: tuple[str, ...] = (), **facts: Any) -> dict[str, Any]:
    train = tuple(Case(row, f"c{row}", patient, Path("i"), None, "0", {}) for row, patient in enumerate(patients, start=2))
    cases = OpenedCases(train, (replace(train[0], patient="V", fold="1"),), (), {})
    config = SimpleNamespace(dump=lambda: {"width": 4, "csv_path": "cases.csv"})
    backbone = build_backbone("unet3d", width=4, norm_statistics="instance")
    return project_entry("segmentation", config, backbone, PREPROCESSING, cases, inherited, **facts)  # type: ignore[arg-type]


def test_the_entry_is_plain_and_holds_no_name_of_a_patient() -> None:
    made = entry(structures=["ball"])
    check_plain(made)
    assert "9000099" not in str(made)
    assert overlap(["9000099", "9000100", "9000101"], made["patients"]) == ["9000099", "9000100"]
    assert made["structures"] == ["ball"]
    assert made["fold_counts"] == {"training": {"0": [2, 2]}, "validation": {"1": [1, 1]}}


def test_patients_of_the_weights_it_started_from_are_kept() -> None:
    first = entry(("A", "B"))
    second = entry(("C",), tuple(first["patients"]))
    assert overlap("ABCD", second["patients"]) == ["A", "B", "C"]


def test_preprocessing_and_network_come_back(tmp_path: Path) -> None:
    path = tmp_path / "some.ckpt"
    torch.save({PROJECT: entry() | {"format_version": FORMAT_VERSION}, "state_dict": {}}, path)
    project = read_stage_checkpoint(path, "test_ckpt", "segmentation")[PROJECT]
    assert Preprocessing.from_dict(project["preprocessing"]) == PREPROCESSING
    assert saved_config({PROJECT: project}) == {"width": 4, "csv_path": "cases.csv"}
    rebuilt, original = saved_backbone(project, with_decoder=True), build_backbone("unet3d", width=4, norm_statistics="instance")
    assert rebuilt.options == original.options
    assert {name: tensor.shape for name, tensor in rebuilt.state_dict().items()} == {n: t.shape for n, t in original.state_dict().items()}


def test_a_checkpoint_of_another_stage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.ckpt"
    torch.save({PROJECT: entry() | {"format_version": FORMAT_VERSION}, "state_dict": {}}, path)
    with pytest.raises(WeightsError) as error:
        read_stage_checkpoint(path, "test_ckpt", "classification")
    assert str(error.value) == (
        f"test_ckpt: {path} is a checkpoint of segmentation, not of classification. Give a checkpoint that classification.py wrote."
    )


@pytest.mark.parametrize("changes", [{"config": ["width"]}, {"backbone": 3}, {"patients": "abc"}, {"preprocessing": None, "config": 1}])
def test_an_entry_of_another_kind_counts_as_lost(changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "some.ckpt"
    torch.save({PROJECT: entry() | {"format_version": FORMAT_VERSION} | changes, "state_dict": {}}, path)
    with pytest.raises(WeightsError, match=rf"test_ckpt: .*some\.ckpt has lost {', '.join(sorted(changes))} since a run wrote it\. Give"):
        read_stage_checkpoint(path, "test_ckpt", "segmentation")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_a_training_that_diverged_are_refused(value: float) -> None:
    network = torch.nn.Linear(2, 2)
    state = network.state_dict()
    check_fits(network, state, "run.ckpt", "test_ckpt")
    state["bias"] = torch.tensor([0.0, value])
    with pytest.raises(WeightsError) as error:
        check_fits(network, state, "run.ckpt", "test_ckpt")
    assert str(error.value) == (
        "test_ckpt: run.ckpt holds numbers that are not finite, first in bias: the training diverged before it was written. "
        "Give an earlier checkpoint, such as best.ckpt, or train anew with a lower learning_rate."
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.to_sparse(),
        lambda value: value.to("meta"),
        lambda value: value.to(torch.int8),
        lambda value: value.to(torch.complex64),
    ],
)
def test_numbers_that_a_run_does_not_write_are_refused(change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    network = torch.nn.Linear(2, 2)
    state = {name: value.half() for name, value in network.state_dict().items()}
    check_fits(network, state, "run.ckpt", "test_ckpt")
    state["bias"] = change(state["bias"])
    with pytest.raises(WeightsError, match=r"network that it describes: 1 hold no such numbers, first bias\."):
        check_fits(network, state, "run.ckpt", "test_ckpt")


def test_weights_alone_can_be_tested_and_not_resumed(tmp_path: Path) -> None:
    path = tmp_path / "some.ckpt"
    torch.save({PROJECT: entry() | {"format_version": FORMAT_VERSION}, "state_dict": {}, "loops": {}, "epoch": 1}, path)
    assert read_stage_checkpoint(path, "test_ckpt", "segmentation")["state_dict"] == {}
    with pytest.raises(WeightsError, match=r"some\.ckpt has lost callbacks, global_step, lr_schedulers, optimizer_states, pytorch-"):
        read_stage_checkpoint(path, "resume_training_from", "segmentation")
