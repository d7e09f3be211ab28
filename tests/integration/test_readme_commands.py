"""The three commands, verbatim, from a bare checkout, while another package called fuse_examples comes first on the path.

A step at the shipped sizes takes a CPU minutes and many gigabytes. So the verbatim commands are followed until the run folder is open and
the network stands (parsing, tables, headers, backbone, folder, log), and are then stopped with Ctrl-C; the same commands, with smaller
sizes as `key=value` words behind them, are followed to their ends.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import small_stages

from fuse_examples.imaging.oai_example.configuration.command_line import run_entry
from fuse_examples.imaging.oai_example.downstream import predict

ROOT = Path(__file__).parents[2]
PACKAGE = "fuse_examples/imaging/oai_example"
# script, experiment of the shipped YAML, words that make it small, what it leaves
SMALL = ("width=2", "n_epochs=1", "n_workers=0", "precision=fp32", "warmup_epochs=0")
STAGES = {
    "dino": (
        f"{PACKAGE}/self_supervised/dino.py",
        "knee_dino",
        ("crops.global_size=[16,16,16]", "crops.local_size=[16,16,16]", "head.hidden_dim=16", "head.n_prototypes=12"),
        ("backbone.safetensors", "checkpoints/best.ckpt"),
    ),
    "classification": (
        f"{PACKAGE}/downstream/classification.py",
        "knee_classification",
        ("resize_to=[16,16,16]",),
        ("checkpoints/best.ckpt", "val_metrics.json"),
    ),
    "segmentation": (
        f"{PACKAGE}/downstream/segmentation.py",
        "knee_segmentation",
        ("resize_to=[16,16,16]",),
        ("checkpoints/best.ckpt", "val_metrics.json"),
    ),
}

stages = pytest.mark.parametrize("stage", STAGES)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone has, with the CSV files where the shipped YAMLs expect them."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("fuse_examples", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    table = small_stages.write_cases(folder / "data", 2, folds=(0, 1, 2, 3, 4))
    text = table.read_text().replace(",size,", ",V00COHORT,")
    for stage in ("self_supervised", "classification", "segmentation"):
        (folder / "data" / f"{stage}.csv").write_text(text)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    other = tmp_path_factory.mktemp("elsewhere")
    (other / "fuse_examples" / "imaging").mkdir(parents=True)
    for package in ("fuse_examples", "fuse_examples/imaging"):
        (other / package / "__init__.py").write_text("raise SystemExit('the wrong package')")
    return {**os.environ, "PYTHONPATH": str(other), "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def test_the_other_package_does_come_first(environment: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", "import fuse_examples"], env=environment, capture_output=True, text=True, cwd="/")
    assert done.stderr.strip() == "the wrong package"


@stages
def test_the_command_stands_where_a_user_looks(stage: str) -> None:
    command = f"python {STAGES[stage][0]}"
    assert f"#   {command}\n" in (ROOT / "configs" / f"{stage}_config.yaml").read_text()
    readme = ROOT / "README.md"
    assert not readme.exists() or command in readme.read_text()


def follow(command: Sequence[str], log: Path, until: str, *, cwd: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Start a command, stop it with Ctrl-C (twice, if the first waits for a step) once `log` says `until`; exit code and stderr."""
    process = subprocess.Popen(command, cwd=cwd, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 240
    while process.poll() is None and not (log.exists() and until in log.read_text()):
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(0.1)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.slow
@stages
def test_verbatim_it_opens_the_run_and_begins(stage: str, checkout: Path, environment: dict[str, str]) -> None:
    script, experiment, _, _ = STAGES[stage]
    folder = checkout / "results" / experiment
    code, errors = follow(["python", script], folder / "log.txt", "weights: none", cwd=checkout, environment=environment)
    assert code in (130, -signal.SIGINT), errors
    assert "Traceback" not in errors
    config = (folder / "config.yaml").read_text()
    assert "width: 32" in config
    assert "orientation: RAS" in config
    assert (folder / "environment.json").exists()
    shutil.rmtree(checkout / "results")


@pytest.mark.slow
@stages
def test_the_same_command_with_smaller_sizes_ends_well(stage: str, checkout: Path, environment: dict[str, str]) -> None:
    script, experiment, words, files = STAGES[stage]
    done = subprocess.run(["python", script, *SMALL, *words], cwd=checkout, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert [name for name in files if not (checkout / "results" / experiment / name).exists()] == []
    assert len(list((checkout / "results" / experiment).glob("events.out.tfevents.*"))) == 1


Runner = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Run a document's command in this process, in a folder that has the tables and a scan to predict."""
    table = small_stages.write_cases(tmp_path / "data", 2, folds=(0, 1, 2, 3, 4))
    for name in ("self_supervised", "classification", "segmentation"):
        table.with_name(f"{name}.csv").write_text(table.read_text().replace(",size,", ",V00COHORT,"))
    (tmp_path / "scans").mkdir()
    shutil.copy(tmp_path / "data" / "scan00.nii.gz", tmp_path / "scans")
    monkeypatch.chdir(tmp_path)

    def run_small(command: str) -> None:
        script = Path(shlex.split(command)[1]).stem
        small = [*(SMALL[1:] if "dino_weights" in command else SMALL), *STAGES.get(script, STAGES["dino"])[2]]  # weights have their width
        tells = "test_ckpt" in command or script == "predict"  # the checkpoint tells the sizes
        monkeypatch.setattr(sys, "argv", [*shlex.split(command)[1:], *([] if tells else small)])
        assert run_entry(predict.main if script == "predict" else small_stages.ENTRIES[script]) == 0, command

    return run_small


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["classification", "segmentation"])
def test_the_commands_of_a_stages_page_run_in_their_order(stage: str, run: Runner) -> None:
    run(f"python {STAGES['dino'][0]}")
    commands = re.findall(r"^python .*$", (ROOT / "docs" / f"{stage}.md").read_text(), re.M)
    assert len(commands) == 5
    for command in commands:
        run(command)
    assert Path("results", f"knee_{stage}", "test", "report.html").exists()
    assert Path(shlex.split(commands[-1])[-1], "predictions.csv").exists()


@pytest.mark.slow
def test_the_commands_of_the_page_on_pretraining_run_in_their_order(run: Runner) -> None:
    """From the table to a result: what the page says is written is there, and reaches both other stages."""
    commands = re.findall(r"^python .*$", (ROOT / "docs" / "pretraining.md").read_text(), re.M)
    assert len(commands) == 6
    for command in commands:
        run(command)
    results = Path("results")
    told = ("backbone.safetensors", "checkpoints/last.ckpt", "test/report.html", "test/embeddings.csv", "log.txt")
    assert [name for name in told if not (results / "knee_dino" / name).exists()] == []
    for name in ("classes_from_dino", "masks_from_dino"):
        assert small_stages.read_json(results / name / "load_report.json")["encoder"]["share"] == 1
        assert "encoder    56 of 56 tensors (100%)" in (results / name / "log.txt").read_text()
    assert (results / "masked" / "backbone.safetensors").exists()
