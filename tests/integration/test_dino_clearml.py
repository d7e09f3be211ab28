"""A pre-training run that reports to ClearML, offline: what would leave the machine, and that a resumed run continues its task."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import small_stages

from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint

SCRIPT = Path(__file__).parents[2] / "fuse_examples" / "imaging" / "oai_example" / "self_supervised" / "dino.py"


def run_offline(folder: Path, cases: Path, *words: str, **changes: Any) -> tuple[str, str]:
    """Run the script with ClearML offline; the task's id and the text of all that would have been sent."""
    settings = {"clearml": True, "clearml_project_name": "knees", "log_images_every_n_epochs": 1, "n_epochs": 3, "batch_size": 1}
    config = small_stages.write_yaml("dino", cases, folder / "results", **{**settings, **changes})
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLEARML", "TRAINS")) and "proxy" not in name.lower()}
    environment = {**kept, "HOME": str(folder), "CLEARML_OFFLINE_MODE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--config", str(config), *words], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    task = read_checkpoint(folder / "results" / "dino" / "checkpoints" / "last.ckpt", "")["project"]["clearml_task"]
    session = folder / ".clearml" / "cache" / "offline" / task
    files = [path for path in sorted(session.rglob("*")) if path.is_file()]
    for path in files:
        assert b"subject0" not in path.read_bytes(), f"a patient's identifier in {path}"
    return task, "\n".join(path.read_text() for path in files if ".json" in path.name)


def events(sent: str) -> list[dict[str, Any]]:
    return [event for line in sent.splitlines() if line.startswith("[") for event in json.loads(line) if "iter" in event]


def scalars(sent: str) -> Counter[tuple[str, int]]:
    chosen = [event for event in events(sent) if event["type"] == "training_stats_scalar"]
    return Counter((f"{event['metric']}/{event['variant']}", event["iter"]) for event in chosen)


@pytest.mark.slow
def test_scalars_arrive_once_no_image_does_and_a_resumed_run_continues(tmp_path: Path) -> None:
    cases = small_stages.write_cases(tmp_path / "scans", 4)
    first, sent = run_offline(tmp_path, cases)
    found = scalars(sent)
    assert set(found.values()) == {1}
    assert {name for name, _ in found} >= {"train/loss", "val/loss", "dino/effective_rank", "dino/teacher_entropy"}
    assert [step for name, step in sorted(found) if name == "val/loss"] == [3, 7, 11]
    assert not [event for event in events(sent) if event["type"] == "training_debug_image"]
    assert not list((tmp_path / ".clearml").rglob("*.png")) + list((tmp_path / ".clearml").rglob("*.jpg"))

    last = tmp_path / "results" / "dino" / "checkpoints" / "last.ckpt"
    again, sent = run_offline(tmp_path, cases, f"resume_training_from={last}", n_epochs=4)
    assert again == first
    found = scalars(sent)
    assert set(found.values()) == {1}
    assert [step for name, step in sorted(found) if name == "val/loss"] == [3, 7, 11, 15]


@pytest.mark.slow
def test_images_are_sent_when_that_is_allowed(tmp_path: Path) -> None:
    cases = small_stages.write_cases(tmp_path / "scans", 2)
    _, sent = run_offline(tmp_path, cases, "clearml_upload_images=true", n_epochs=1)
    images = {f"{event['metric']}/{event['variant']}" for event in events(sent) if event["type"] == "training_debug_image"}
    assert images == {"views/global", "views/local", "features/principal_components"}
