"""`benchmarks/pretrained_features.py`: the teacher's AUC is that of the run's own test, rivals are fair, and who does not win is told."""

import csv
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
import small_stages
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from fuse_examples.imaging.oai_example.configuration.command_line import run_entry

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "pretrained_features.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pretrained_features", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 30 patients in each fold; in the column `answer` the size stands again, in `number` nothing does."""
    folder = tmp_path_factory.mktemp("scans")
    table = small_stages.write_cases(folder, 30)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    told = [row | {"answer": 10.0 if row["size"] == "large" else 1.0, "number": place % 7} for place, row in enumerate(rows)]
    results = tmp_path_factory.mktemp("results")
    return small_stages.run("dino", small_stages.write_table(table, told), results, "probe_targets=[size]")


def compared(script: ModuleType, *words: str) -> int:
    with mock.patch.object(sys, "argv", ["pretrained_features.py", *words]):
        try:
            return run_entry(script.main)
        except SystemExit as end:
            return int(end.code or 0)


def test_the_teachers_auc_is_that_of_the_runs_own_test(script: ModuleType, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(script, str(trained), "size", "--networks", "2", "--columns", "number", "answer") == 1
    out = capsys.readouterr().out
    table = trained.parent.parent / (trained.parent.name + "_dino.yaml")
    with mock.patch.object(
        sys, "argv", ["dino.py", "--config", str(table), "probe_targets=[size]", f"test_ckpt={trained / 'checkpoints/best.ckpt'}"]
    ):
        assert run_entry(small_stages.ENTRIES["dino"]) == 0
    probes = small_stages.read_json(trained / "test" / "metrics.json")["probes"]["size"]
    found = [float(value) for value in re.findall(r"^  teacher +AUC (\d\.\d+)", out, re.M)]
    assert found == pytest.approx([probes["knn_auc"]["value"], probes["linear_auc"]["value"]], abs=6e-4)
    assert "learnt from 30 cases, on 30 cases of 30 test patients" in out
    assert "FAILED: 30 test patients; at least 60" in out
    assert re.search(r"^FAILED the k-NN is better on the teacher's features than on number and answer", out, re.M)
    networks = re.findall(r"each ([\d.]+), ([\d.]+)$", out, re.M)
    assert len(networks) == 2
    assert any(one != other for one, other in networks)


def test_other_folds_can_be_asked_and_the_exit_code_says_who_won(
    script: ModuleType, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = compared(script, str(trained), "size", "val_folds=[9]", "test_folds=[1, 2]", "--networks", "1")
    out = capsys.readouterr().out
    assert "on 60 cases of 60 test patients" in out
    assert "at least 60" not in out
    (low,) = re.findall(r"^  1 random networks .*difference -?[\d.]+ \((-?[\d.]+) to", out.split("linear probe")[0], re.M)
    assert (code == 0) == ("FAILED" not in out) == (float(low) > 0)


def test_patients_that_the_network_has_learnt_from_are_refused(
    script: ModuleType, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compared(script, str(trained), "size", "train_folds=[1]", "val_folds=[9]", "test_folds=[0]") == 2
    assert "has learnt from images of 30 patient(s) of the test folds" in capsys.readouterr().err


def test_a_random_network_has_the_statistics_of_training_volumes(script: ModuleType) -> None:
    from fuse_examples.imaging.oai_example.models.backbone import build_backbone

    images = torch.rand(150, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    task = mock.Mock(teacher_backbone=build_backbone("unet3d", width=2, with_decoder=False))
    data = mock.Mock(evaluation_batch_size=32)
    data.predict_dataloader.return_value = [{"image": batch} for batch in images.split(32)]
    script.with_statistics(task, data)
    first = task.teacher_backbone.down_tr64.ops[0]
    seen = first.conv1(images[:128]).detach()
    norms = [module for module in task.teacher_backbone.modules() if isinstance(module, _BatchNorm)]
    assert norms[0] is first.bn1
    torch.testing.assert_close(first.bn1.running_mean, seen.mean((0, 2, 3, 4)))
    torch.testing.assert_close(first.bn1.running_var, torch.stack([part.var((0, 2, 3, 4)) for part in seen.split(32)]).mean(0))
    assert {norm.momentum for norm in norms} == {0.1}
    task.eval.assert_called_once()
