"""ClearML: what leaves the machine, what does not, and what a user is told when it cannot be had."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fuse_examples.imaging.oai_example.errors import UserError
from fuse_examples.imaging.oai_example.training.clearml_tracker import ClearMLTracker, clearml_tracker

ROOT = Path(__file__).parents[3]


def home(folder: Path, **settings: str) -> dict[str, str]:
    """An environment without an account."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLEARML", "TRAINS")) and "proxy" not in name.lower()}
    return {**kept, "HOME": str(folder), "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}", **settings}


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "clearml", None)
    with pytest.raises(UserError, match=r"clearml=true needs the package clearml.*`pip install clearml`, or set clearml=false"):
        clearml_tracker(project="p", experiment="e", config_dump={}, environment={})


ASK = """
import os
from fuse_examples.imaging.oai_example.errors import UserError
from fuse_examples.imaging.oai_example.training.clearml_tracker import clearml_tracker
for settings in ({}, {"CLEARML_API_HOST": "http://127.0.0.1:9", "CLEARML_API_ACCESS_KEY": "a", "CLEARML_API_SECRET_KEY": "b"}):
    os.environ.update(settings)
    try:
        clearml_tracker(project="p", experiment="e", config_dump={}, environment={})
    except UserError as error:
        print(error)
"""


def test_without_an_account_or_a_server_it_says_so_at_once(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ASK], env=home(tmp_path), capture_output=True, text=True, timeout=60)
    no_account, no_server = done.stdout.splitlines()
    assert no_account.startswith("clearml=true: there is no ClearML account on this machine")
    assert "Run `clearml-init`, or set clearml=false" in no_account
    assert no_server.startswith("clearml=true: the server http://127.0.0.1:9 cannot be reached (")
    assert "refused" in no_server


def test_names_become_plots_and_series() -> None:
    class Reports:
        def __init__(self) -> None:
            self.sent: list[tuple[Any, ...]] = []

        def get_logger(self) -> "Reports":
            return self

        def report_scalar(self, title: str, series: str, value: float, iteration: int) -> None:
            self.sent.append((title, series, value, iteration))

    task = Reports()
    ClearMLTracker(task, upload_images=False).log_metrics({"val/dice/femur": 0.5, "train/loss": 1.0, "loss": 2.0, "epoch": 3}, step=7)
    assert task.sent == [("val/dice", "femur", 0.5, 7), ("train", "loss", 1.0, 7), ("loss", "loss", 2.0, 7)]


def test_a_table_is_sent_with_its_header_first() -> None:
    sent = []

    class Reports:
        def get_logger(self) -> "Reports":
            return self

        def report_table(self, title: str, series: str, iteration: int, table_plot: list[list[object]]) -> None:
            sent.append((title, table_plot))

    ClearMLTracker(Reports(), upload_images=False).log_table("runs", [("seed", "score"), [0, 0.5]])
    assert sent == [("runs", [["seed", "score"], [0, 0.5]])]


def session(folder: Path, *words: object) -> tuple[int, dict[str, Any], str]:
    """Run clearml_run.py offline and return its exit code, what it says of itself, and all that would have been sent."""
    environment = home(folder, CLEARML_OFFLINE_MODE="1")
    script = Path(__file__).with_name("clearml_run.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), *map(str, words)], env=environment, capture_output=True, text=True, timeout=110
    )
    own = json.loads((folder / "session.json").read_text())
    sent = folder / ".clearml" / "cache" / "offline" / own["id"]
    return done.returncode, own, "\n".join(path.read_text() for path in sorted(sent.glob("*.json*")))


def events(sent: str) -> list[dict[str, Any]]:
    return [event for line in sent.splitlines() if line.startswith("[") for event in json.loads(line) if "iter" in event]


@pytest.mark.slow
def test_offline_each_scalar_is_sent_once_and_a_resumed_run_continues_its_task(tmp_path: Path) -> None:
    code, first, sent = session(tmp_path, 1)
    assert code == 0
    assert first["untouched"], "random numbers, signals or the exception hook were taken over"
    assert [event["type"] for event in events(sent)] == ["training_stats_scalar"] * 5  # no picture
    assert "Jane Doe" not in sent
    task = json.loads(next(line for line in sent.splitlines() if line.startswith("{")))
    assert task["hyperparams"]["configuration"]["seed"]["value"] == "5"
    assert "script" not in task
    assert task["offline_output_models"] == task["execution"]["artifacts"] == []

    code, second, sent = session(tmp_path, 2, "UPLOAD")
    assert code == 0
    assert second["id"] == first["id"]
    scalars = Counter(
        (event["metric"], event["variant"], event["iter"]) for event in events(sent) if event["type"] == "training_stats_scalar"
    )
    steps = [("train", "loss", step) for step in range(6)] + [("val", name, step) for name in ("score", "other") for step in (2, 5)]
    assert scalars == Counter(steps)
    assert [event["type"] for event in events(sent)].count("training_debug_image") == 1


@pytest.mark.slow
def test_offline_an_error_leaves_in_words_without_a_patient(tmp_path: Path) -> None:
    code, _, sent = session(tmp_path, 1, "FAIL")
    assert code == 1
    assert "Jane Doe" not in sent
