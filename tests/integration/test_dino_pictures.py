"""A pre-training run leaves its features in TensorBoard: the projector and maps of principal components, read back from the files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_stages
import torch
from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector import ProjectorConfig

from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint

TAG = "features/principal_components"


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"), 5)


def steps(folder: Path) -> list[int]:
    """Of the pictures in the event files; all are sheets of four cases."""
    events = EventAccumulator(str(folder)).Reload()
    if TAG not in events.Tags()["images"]:
        return []
    # Four rows of 16 voxels and a gap, each with its colours below; three slices side by side.
    assert {(one.width, one.height) for one in events.Images(TAG)} == {(3 * 18, 4 * 2 * 18)}
    return [one.step for one in events.Images(TAG)]


def projected(folder: Path) -> list[Any]:
    return list(text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig()).embeddings)


@pytest.fixture(scope="module")
def trained(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    results, targets = tmp_path_factory.mktemp("results"), 'probe_targets=["size"]'
    return small_stages.run("dino", cases, results, targets, "log_images_every_n_epochs=2", n_epochs=4)


def test_pictures_come_every_second_epoch_and_after_the_last(trained: Path) -> None:
    # Five cases in batches of two: two steps an epoch without the rest, three with it.
    per_epoch = read_checkpoint(trained / "checkpoints" / "last.ckpt", "")["global_step"] // 4
    assert steps(trained) == [per_epoch * epoch for epoch in (1, 3, 4)]
    assert [one.tensor_name for one in projected(trained)] == [
        f"features of step {per_epoch:06d}", f"features of step {3 * per_epoch:06d}", f"features (latest, step {4 * per_epoch})",
    ]  # fmt: skip


def test_the_projector_has_the_teachers_features_of_the_validation_cases(trained: Path, cases: Path) -> None:
    latest = projected(trained)[-1]
    lines = [line.split("\t") for line in (trained / latest.metadata_path).read_text().splitlines()]
    assert lines[0] == ["case", "PatientID", "fold", "size"]
    assert [line[1:] for line in lines[1:]] == [[f"subject{n:02d}", "1", "large" if n % 2 == 0 else "small"] for n in range(5, 10)]
    words = [f"test_ckpt={trained / 'checkpoints' / 'last.ckpt'}", "test_folds=[1]", "val_folds=[]", "allow_pretraining_overlap=true"]
    assert small_stages.start("dino", cases, trained.parent, *words) == 0
    table = np.genfromtxt(trained / "test" / "embeddings.csv", delimiter=",", skip_header=1)[:, 4:]
    np.testing.assert_allclose(np.loadtxt(trained / latest.tensor_path, delimiter="\t"), table, rtol=1e-4, atol=1e-5)


def test_they_change_nothing_in_what_is_learnt_and_0_means_none(trained: Path, cases: Path, tmp_path: Path) -> None:
    plain = small_stages.run("dino", cases, tmp_path, n_epochs=4)
    assert not (plain / "projector").exists()
    assert steps(plain) == []
    with_pictures, without = (read_checkpoint(folder / "checkpoints" / "last.ckpt", "")["state_dict"] for folder in (trained, plain))
    assert all(torch.equal(tensor, without[name]) for name, tensor in with_pictures.items())


def test_without_validation_cases_training_cases_are_shown_and_overwriting_removes_what_was(cases: Path, tmp_path: Path) -> None:
    folder = small_stages.run("dino", cases, tmp_path, "log_images_every_n_epochs=1", val_folds=[], n_epochs=2)
    rows = (folder / "projector" / "cases.tsv").read_text().splitlines()
    assert [row.split("\t")[2] for row in rows] == ["fold", *["0"] * 5]
    assert len(projected(folder)) == 2
    small_stages.run("dino", cases, tmp_path, overwrite=True)
    assert not (folder / "projector").exists()
    assert not (folder / "projector_config.pbtxt").exists()
