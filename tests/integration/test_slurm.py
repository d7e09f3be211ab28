"""A run under SLURM: its signal writes last.ckpt and ends the run in order, and nothing queues the job again but who is asked to."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import small_stages

from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint

JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "pretrain",  # "bash" and "interactive" are no jobs to Lightning
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_JOB_NODELIST": "localhost",
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"), 4)


def in_a_job(folder: Path) -> Mapping[str, str]:
    """The environment of a job, with a `scontrol` first on the path that leaves a trace."""
    program = folder / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder / "scontrol_was_called"}\n')
    program.chmod(0o755)
    return {**os.environ, **JOB, "OMP_NUM_THREADS": "1", "PATH": f"{program.parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_a_signal_ends_a_job_in_order_and_queues_it_not_again(name: str, cases: Path, tmp_path: Path) -> None:
    config = small_stages.write_yaml("dino", cases, tmp_path, n_epochs=3)
    script = Path(__file__).with_name("interrupted_stage.py")
    command = [sys.executable, str(script), name, "2", "dino", "--config", str(config)]  # in the first of the second epoch's two batches
    done = subprocess.run(command, env=in_a_job(tmp_path), capture_output=True, text=True, timeout=300, check=False)
    assert not (tmp_path / "scontrol_was_called").exists(), (tmp_path / "scontrol_was_called").read_text()
    assert done.returncode == 128 + getattr(signal, name), done.stderr
    last = tmp_path / "dino" / "checkpoints" / "last.ckpt"
    assert (read_checkpoint(last, "")["epoch"], read_checkpoint(last, "")["global_step"]) == (1, 3)
    assert f"Stopped by {name}; go on with resume_training_from={last}" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.rglob("hpc_ckpt*")) == [], "Lightning has saved a state of its own, which it would go on from"
    small_stages.run("dino", cases, tmp_path, "resume_training_from=auto", n_epochs=3)
    assert read_checkpoint(last, "")["global_step"] == 6
