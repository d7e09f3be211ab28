"""Pre-training from the configuration to the run folder: what is exported, what is written, what a test leaves behind."""

import csv
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import small_stages
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.configuration.loading import load_config
from fuse_examples.imaging.oai_example.data.multi_crop import MultiCrop
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.sampler import SampleKey
from fuse_examples.imaging.oai_example.data.scans import read_header, read_volume
from fuse_examples.imaging.oai_example.data.store import VolumeStore
from fuse_examples.imaging.oai_example.models.backbone import Backbone, build_backbone
from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint
from fuse_examples.imaging.oai_example.training.patient_hashes import overlap

N_CASES = 7  # in batches of 2: the last batch has one volume
TAGS = {
    "train/loss",
    "val/loss",
    "dino/teacher_entropy",
    "dino/student_entropy",
    "dino/alarms",
    "dino/kl",
    "dino/skipped_steps",
    "dino/center_norm",
    "dino/between_scans",
    "dino/momentum",
    "dino/teacher_temperature",
    "dino/learning_rate",
    "dino/weight_decay",
    "dino/effective_rank",
    "dino/prototypes_used",
    "dino/gradient_norm/backbone",
    "dino/gradient_norm/head",
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"), N_CASES)


@pytest.fixture(scope="module")
def trained(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 40 optimiser steps."""
    return small_stages.run(
        "dino",
        cases,
        tmp_path_factory.mktemp("results"),
        n_epochs=10,
        width=4,
        log_images_every_n_epochs=5,
        intensity={"method": "zscore"},
    )


@pytest.fixture(scope="module")
def tested(trained: Path, cases: Path) -> Path:
    """The same experiment's folder after a test of its last checkpoint; the folds of training are named wrongly and not looked at."""
    code = small_stages.start(
        "dino", cases, trained.parent, f"test_ckpt={trained / 'checkpoints' / 'best.ckpt'}", "train_folds=[no]", "val_folds=[no]"
    )
    assert code == 0
    return trained


def teacher_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    state = read_checkpoint(checkpoint, "test_ckpt")["state_dict"]
    prefix = "teacher_backbone."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def metadata_of(exported: Path) -> dict[str, object]:
    with safe_open(exported, framework="pt") as file:
        found: dict[str, object] = json.loads(file.metadata()["project"])
        return found


def exported_backbone(folder: Path) -> Backbone:
    metadata = metadata_of(folder / "backbone.safetensors")
    options = metadata["backbone_options"]
    assert isinstance(options, dict)
    backbone = build_backbone(str(metadata["backbone"]), with_decoder=False, **options)
    backbone.load_state_dict(load_file(folder / "backbone.safetensors"))
    return backbone


def whole_volumes(folder: Path, cases: Path, fold: str) -> torch.Tensor:
    """The volumes of a fold (n, 1, 16, 16, 16) as the checkpoint's preprocessing says, read and resized anew."""
    preprocessing = Preprocessing.from_dict(metadata_of(folder / "backbone.safetensors")["preprocessing"])  # type: ignore[arg-type]
    volumes = []
    for row in csv.DictReader(cases.open()):
        if row["fold"] == fold:
            array = torch.from_numpy(read_volume(cases.parent / row["path"]).array.astype(np.float32))
            array = (array - array.mean()) / array.std()
            # Averaged over two voxels of which the first axis has 16 and the others 24: linear, edges aligned.
            volumes.append(torch.nn.functional.interpolate(array[None, None], preprocessing.resize_to, mode="trilinear")[0])
    return torch.stack(volumes)


def global_views(folder: Path, cases: Path) -> torch.Tensor:
    """Global views of all training cases in several epochs (n, 1, 16, 16, 16)."""
    config = load_config(DINOConfig, folder / "config.yaml")
    multi_crop = MultiCrop(
        config.crops, config.augmentation, Preprocessing.from_dict(metadata_of(folder / "backbone.safetensors")["preprocessing"])
    )  # type: ignore[arg-type]
    store = VolumeStore(folder.parent / ".store", "RAS", (0.0, 100.0))
    paths = [cases.parent / row["path"] for row in csv.DictReader(cases.open()) if row["fold"] == "0"]
    images = [store.image(path, read_header(path).fingerprint) for path in paths]
    return torch.stack(
        [multi_crop((image,), 0, SampleKey(epoch, row))[0].made() for row, image in enumerate(images) for epoch in range(10)]
    )


def correlation_of_modes(backbone: Backbone, volumes: torch.Tensor) -> float:
    """Correlation of the features in evaluation mode with those in training mode; the statistics stay as they are."""
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with torch.no_grad():
        modes = [backbone.train(mode).embed(volumes).flatten().numpy() for mode in (False, True)]
    backbone.load_state_dict(before)
    return float(np.corrcoef(modes)[0, 1])


class TestExport:
    def test_it_holds_the_teacher_of_the_last_checkpoint_and_nothing_else(self, trained: Path) -> None:
        exported, teacher = load_file(trained / "backbone.safetensors"), teacher_of(trained / "checkpoints" / "last.ckpt")
        assert set(exported) == set(teacher)
        assert [name for name in teacher if not torch.equal(exported[name], teacher[name])] == []
        state = read_checkpoint(trained / "checkpoints" / "last.ckpt", "")["state_dict"]
        moved = [name for name in teacher if not torch.equal(teacher[name], state[f"student_backbone.{name}"])]
        assert len(moved) > len(teacher) / 2, "student and teacher are one, so this shows nothing"

    def test_its_metadata_says_how_to_use_it(self, trained: Path, cases: Path) -> None:
        metadata = metadata_of(trained / "backbone.safetensors")
        project = read_checkpoint(trained / "checkpoints" / "last.ckpt", "")["project"]
        assert {key: metadata[key] for key in ("stage", "backbone", "format_version")} == {
            "stage": "dino",
            "backbone": "unet3d",
            "format_version": 1,
        }
        assert metadata["backbone_options"] == {"in_channels": 1, "width": 4, "norm_statistics": "running", "pooling": "average"}
        for key in ("config", "preprocessing", "patients", "backbone_options"):
            assert metadata[key] == project[key]
        config = metadata["config"]
        assert isinstance(config, dict)
        assert (config["orientation"], config["intensity"]["method"], config["width"], config["backbone"]) == ("RAS", "zscore", 4, "unet3d")

    def test_it_remembers_the_training_patients_as_hashes_and_no_others(self, trained: Path, cases: Path) -> None:
        patients = metadata_of(trained / "backbone.safetensors")["patients"]
        assert isinstance(patients, list)
        rows = list(csv.DictReader(cases.open()))
        assert overlap([row["PatientID"] for row in rows], patients) == [row["PatientID"] for row in rows if row["fold"] == "0"]
        assert len(patients) == N_CASES
        for file in (trained / "backbone.safetensors", trained / "checkpoints" / "last.ckpt"):
            assert b"subject" not in file.read_bytes()

    def test_features_in_evaluation_and_in_training_mode_correlate(self, trained: Path, cases: Path) -> None:
        """On views as the run saw them: the exported statistics are those of the data, and not mean 0 and variance 1."""
        backbone, views = exported_backbone(trained), global_views(trained, cases)
        assert correlation_of_modes(backbone, views) > 0.95
        for module in backbone.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.reset_running_stats()
        assert correlation_of_modes(backbone, views) < 0.95


class TestRunFolder:
    def test_best_is_the_last_epoch(self, trained: Path) -> None:
        last, best = (read_checkpoint(trained / "checkpoints" / name, "") for name in ("last.ckpt", "best.ckpt"))
        assert (last["epoch"], last["global_step"]) == (best["epoch"], best["global_step"]) == (9, 40)
        assert [name for name in last["state_dict"] if not torch.equal(last["state_dict"][name], best["state_dict"][name])] == []
        metrics = small_stages.read_json(trained / "val_metrics.json")
        assert (metrics["monitor"], metrics["epoch"]) == (None, 10)
        assert {"val/loss", "dino/effective_rank", "dino/teacher_entropy"} <= set(metrics["metrics"])

    def test_curves_and_pictures(self, trained: Path) -> None:
        events = EventAccumulator(str(trained), size_guidance={"images": 0, "scalars": 0})
        events.Reload()
        tags = events.Tags()
        own = {tag for tag in tags["scalars"] if tag.startswith(("dino/", "val/")) or tag == "train/loss"}
        assert own == TAGS
        assert [event.step for event in events.Scalars("val/loss")] == [4 * epoch - 1 for epoch in range(1, 11)]
        assert len(events.Scalars("dino/effective_rank")) == 10
        assert [event.value for event in events.Scalars("dino/momentum")] == sorted(
            event.value for event in events.Scalars("dino/momentum")
        )
        assert sorted(tags["images"]) == ["features/principal_components", "views/global", "views/local"]
        assert [event.step for event in events.Images("views/global")] == [0, 20]  # epochs 1 and 6
        sheet = events.Images("views/global")[0]
        assert (sheet.width, sheet.height) == (3 * (16 + 2), 2 * (16 + 2))
        assert events.Images("views/local")[0].height == 16 + 2

    def test_the_resolved_configuration_reads_back(self, trained: Path) -> None:
        text = (trained / "config.yaml").read_text()
        assert "orientation: RAS" in text
        assert "backbone: unet3d" in text
        assert f"dino_weights={trained / 'backbone.safetensors'}" in (trained / "log.txt").read_text()


class TestEmbeddings:
    def test_a_row_per_test_case_with_the_teachers_features(self, tested: Path, cases: Path) -> None:
        rows = list(csv.DictReader((tested / "test" / "embeddings.csv").open()))
        wanted = [(f"subject{number:02d}", "2", str(number + 2)) for number in range(2 * N_CASES, 3 * N_CASES)]
        assert [(row["PatientID"], row["fold"], row["row"]) for row in rows] == wanted
        assert [row["case"] for row in rows] == [patient for patient, _, _ in wanted]
        features = np.array([[float(row[f"feature_{index}"]) for index in range(64)] for row in rows])
        assert list(rows[0]) == ["case", "PatientID", "fold", "row", *(f"feature_{index}" for index in range(64))]
        with torch.no_grad():
            expected = exported_backbone(tested).eval().embed(whole_volumes(tested, cases, "2"))
        np.testing.assert_allclose(features, expected.numpy(), rtol=0.02, atol=0.02)

    def test_collapse_statistics_are_those_of_the_table(self, tested: Path) -> None:
        metrics = small_stages.read_json(tested / "test" / "metrics.json")
        rows = list(csv.reader((tested / "test" / "embeddings.csv").open()))[1:]
        features = np.array([[float(value) for value in row[4:]] for row in rows])
        singular = np.linalg.svd(features, compute_uv=False)
        share = singular / singular.sum()
        assert metrics["effective_rank"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-3)
        directions = features / np.linalg.norm(features, axis=1, keepdims=True)
        assert metrics["mean_std"] == pytest.approx(directions.std(axis=0).mean(), rel=1e-3)
        assert "length 1" in metrics["rules"]["mean_std"]
        assert (metrics["n_cases"], metrics["n_patients"], metrics["n_features"]) == (7, 7, 64)
        assert set(metrics["rules"]) == {"effective_rank", "mean_std"}

    def test_only_test_is_written(self, tested: Path) -> None:
        assert sorted(path.name for path in (tested / "test").iterdir()) == [
            "config.yaml",
            "embedding.png",
            "embeddings.csv",
            "environment.json",
            "log.txt",
            "metrics.json",
            "report.html",
            "views.png",
        ]
        assert "n_epochs: 10" in (tested / "config.yaml").read_text()


@pytest.mark.parametrize(
    "changes", [{"batch_size": 1}, {"batch_size": 2}, {"batch_size": 20}, {"batch_size": 2, "accumulate_grad_batches": 3}]
)
def test_batches_of_one_a_last_partial_batch_and_a_batch_larger_than_the_data(cases: Path, tmp_path: Path, changes: dict[str, int]) -> None:
    folder = small_stages.run("dino", cases, tmp_path, **changes)
    batches = -(-N_CASES // changes["batch_size"])
    checkpoint = read_checkpoint(folder / "checkpoints" / "last.ckpt", "")
    assert checkpoint["global_step"] == -(-batches // changes.get("accumulate_grad_batches", 1))
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


def test_an_alarm_ends_the_run_where_it_is_told_to(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["momentum_start=1", "momentum_end=1", "n_epochs=3", "on_collapse=stop"]
    assert small_stages.start("dino", cases, tmp_path, *words) == 2
    assert "epoch 1: still teacher: the teacher has not changed since the run began" in capsys.readouterr().err
    assert not list(tmp_path.rglob("backbone.safetensors"))
    assert list(tmp_path.rglob("last.ckpt"))
    # Started again, as a job that a cluster queues anew is, it is not taken for a run that is done.
    assert small_stages.start("dino", cases, tmp_path, *words, "resume_training_from=auto") == 2
    assert "\nepoch 1: still teacher: the teacher has not changed since the run began" in capsys.readouterr().err
    assert not list(tmp_path.rglob("backbone.safetensors"))


def test_without_validation_folds(cases: Path, tmp_path: Path) -> None:
    folder = small_stages.run("dino", cases, tmp_path, val_folds=[], n_epochs=2)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert read_checkpoint(folder / "checkpoints" / "best.ckpt", "")["epoch"] == 1
    assert "val/loss" not in small_stages.read_json(folder / "val_metrics.json")["metrics"]
    assert (folder / "backbone.safetensors").exists()


def test_fold_lists_that_a_test_does_not_use_are_not_checked_and_the_one_it_uses_is(
    trained: Path, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = trained / "checkpoints" / "best.ckpt"
    assert small_stages.start("dino", cases, tmp_path, f"test_ckpt={checkpoint}", "test_folds=[7]") == 2
    assert "test_folds" in capsys.readouterr().err


def test_a_test_takes_the_checkpoints_preprocessing_over_the_files(
    trained: Path, cases: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    word = f"test_ckpt={trained / 'checkpoints' / 'best.ckpt'}"
    with caplog.at_level(logging.INFO):
        folder = small_stages.run("dino", cases, tmp_path, word, width=8)
    notes = (folder / "test" / "log.txt").read_text()
    assert "width: 8 is passed over; the checkpoint was made with 4" in notes
    assert small_stages.start("dino", cases, tmp_path / "other", word, "width=8", width=None) == 2
    assert "width: the checkpoint was made with 4, which a test cannot change; leave the word out" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_backbone_and_another_seed_another(cases: Path, tmp_path: Path) -> None:
    folders = [small_stages.run("dino", cases, tmp_path, experiment=f"seed{n}", seed=seed) for n, seed in enumerate((3, 3, 4))]
    one, again, other = (load_file(folder / "backbone.safetensors") for folder in folders)
    assert [name for name in one if not torch.equal(one[name], again[name])] == []
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_teacher_that_cannot_teach_is_told_before_training_and_in_the_log(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["momentum_start=0.9999", "teacher_temperature=0.1"]
    slow = "warning: with momentum_start 0.9999 the teacher is still 100% of what it starts from after all "
    blunt = "warning: teacher_temperature 0.1 is not below student_temperature 0.1; "
    assert small_stages.start("dino", cases, tmp_path, "--check", *words) == 0
    printed = capsys.readouterr().out
    folder = small_stages.run("dino", cases, tmp_path, *words)
    for told in (slow, blunt):
        assert told in printed
        assert told in (folder / "log.txt").read_text()
