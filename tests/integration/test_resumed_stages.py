"""The real stages, killed in the middle of an epoch and resumed with other workers: the same weights, optimiser and counters."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from fuse_examples.imaging.oai_example.prepare import synthetic_knee

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fuse_examples" / "imaging" / "oai_example"
COMMON = ("train_folds=[0,1,2]", "val_folds=[3]", "test_folds=[4]", "width=4", "batch_size=2", "n_epochs=2", "warmup_epochs=1")
STAGES: dict[str, tuple[str, ...]] = {
    "self_supervised/dino.py": (
        "crops={global_size: [16, 32, 32], local_size: [16, 16, 16]}",
        "head={hidden_dim: 16, bottleneck_dim: 8, n_prototypes: 32}",
        "teacher_temperature_warmup_epochs=1",
    ),
    # A backbone that is frozen in the first of the two epochs, with other learning rates by layer, resumes like any other.
    "downstream/segmentation.py": ("num_classes=7", "resize_to=[16,32,32]", "structure_names=null", "freeze_backbone=1"),
    "downstream/classification.py": ("cls_targets=[V00COHORT]", "resize_to=[16,32,32]", "freeze_backbone=1", "layer_decay=0.75"),
}
TABLES = {"dino": "self_supervised.csv", "segmentation": "segmentation.csv", "classification": "classification.csv"}
COMPARED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "random_state", "global_step")


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("knees") / "data"
    assert synthetic_knee.main([str(folder), "--patients", "20", "--labelled", "20"]) == 0
    return folder


def differences(ours: Any, theirs: Any, place: str = "") -> list[str]:
    if isinstance(theirs, torch.Tensor):
        return [] if torch.equal(ours, theirs) else [place]
    if isinstance(theirs, dict):
        return (
            [place]
            if ours.keys() != theirs.keys()
            else [x for key in theirs for x in differences(ours[key], theirs[key], f"{place}.{key}")]
        )
    if isinstance(theirs, list | tuple):
        pairs = zip(ours, theirs, strict=True)
        return [x for index, (one, other) in enumerate(pairs) for x in differences(one, other, f"{place}.{index}")]
    return [] if ours == theirs else [place]


def start(script: str, knees: Path, results: Path, *words: str) -> subprocess.Popen[str]:
    table = f"csv_path={knees / TABLES[Path(script).stem]}"
    command = [sys.executable, str(PACKAGE / script), f"results_dir={results}", "experiment=a", table, *COMMON, *STAGES[script], *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # equal weights are promised for equal numbers of threads
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def last(results: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(results / "a" / "checkpoints" / "last.ckpt", weights_only=True)
    return content


@pytest.mark.slow
@pytest.mark.parametrize("script", STAGES)
def test_killed_and_resumed(script: str, knees: Path, tmp_path: Path) -> None:
    words = ("accumulate_grad_batches=3", "save_every_n_steps=1")
    whole = start(script, knees, tmp_path / "whole", *words, "n_workers=0")

    cut = start(script, knees, tmp_path / "cut", *words, "n_workers=2")
    file = tmp_path / "cut" / "a" / "checkpoints" / "last.ckpt"
    while not file.exists():
        assert cut.poll() is None, cut.communicate()[1]
        time.sleep(0.02)
    cut.send_signal(signal.SIGKILL)
    cut.wait()
    killed = last(tmp_path / "cut")
    n_steps = killed["global_step"]

    resumed = start(script, knees, tmp_path / "cut", *words, "n_workers=0", f"resume_training_from={file}")
    for process in (whole, resumed):
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
    theirs, ours = last(tmp_path / "whole"), last(tmp_path / "cut")
    assert n_steps < theirs["global_step"]
    assert [x for key in COMPARED for x in differences(ours[key], theirs[key], key)] == []
