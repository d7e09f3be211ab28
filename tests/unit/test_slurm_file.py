"""The shipped SLURM job: a shell reads it, its words are keys, and it queues itself again only after SIGUSR1."""

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.configuration.loading import load_config

ROOT = Path(__file__).parents[2]
JOB = ROOT / "configs/slurm/dino.sbatch"


def run(tmp_path: Path, exit_code: int) -> tuple[int, list[str]]:
    """Run the job with a stand-in for `srun` that notes its words and ends with a code, and one for `scontrol`."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    log = tmp_path / "calls"
    for name, code in (("srun", exit_code), ("scontrol", 0)):
        program = tmp_path / name
        program.write_text(f'#!/bin/bash\nprintf "%s\\n" "{name} $*" >> {log}\nexit {code}\n')
        program.chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": "8"}
    done = subprocess.run(["bash", JOB], cwd=tmp_path, env={**os.environ, **job, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=False)
    return done.returncode, log.read_text().splitlines()


@pytest.mark.parametrize(("exit_code", "requeues"), [(0, False), (1, False), (2, False), (143, False), (128 + signal.SIGUSR1, True)])
def test_it_queues_itself_again_after_sigusr1_alone(tmp_path: Path, exit_code: int, requeues: bool) -> None:
    code, calls = run(tmp_path, exit_code)
    assert code == exit_code
    assert ("scontrol requeue 7" in calls) == requeues


def test_its_command_is_one_that_the_script_takes(tmp_path: Path) -> None:
    _, calls = run(tmp_path, 0)
    _, python, script, *words = shlex.split(calls[0])
    assert (python, (ROOT / script).is_file()) == ("python", True)
    config = load_config(DINOConfig, ROOT / "configs/dino_config.yaml", words)
    assert (config.devices, config.num_nodes, config.n_workers, config.resume_training_from) == (4, 2, 8, "auto")
