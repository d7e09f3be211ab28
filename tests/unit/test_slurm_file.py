"""The shipped SLURM jobs: a shell reads them, their words are keys, and they queue themselves again only after SIGUSR1."""

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from fuse_examples.imaging.oai_example.configuration.command_line import take_flags
from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.configuration.label_efficiency_config import LabelEfficiencyConfig
from fuse_examples.imaging.oai_example.configuration.loading import load_config

ROOT = Path(__file__).parents[2]
JOB = ROOT / "configs/slurm/dino.sbatch"
ARRAY = ROOT / "configs/slurm/label_efficiency.sbatch"


def run(tmp_path: Path, exit_code: int, script: Path = JOB, *words: str) -> tuple[int, list[str]]:
    """Run the job with a stand-in for `srun` that notes its words and ends with a code, and one for `scontrol`."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    log = tmp_path / "calls"
    for name, code in (("srun", exit_code), ("scontrol", 0)):
        program = tmp_path / name
        program.write_text(f'#!/bin/bash\nprintf "%s\\n" "{name} $*" >> {log}\nexit {code}\n')
        program.chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": "8"}
    job |= {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "12"}
    environment = {**os.environ, **job, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", script, *words], cwd=tmp_path, env=environment, check=False)
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


@pytest.mark.parametrize(("exit_code", "requeues"), [(0, False), (2, False), (128 + signal.SIGUSR1, True)])
def test_a_job_of_an_array_does_the_run_of_its_number(tmp_path: Path, exit_code: int, requeues: bool) -> None:
    code, calls = run(tmp_path, exit_code, ARRAY, "experiment=frozen", "steps=120")
    assert code == exit_code
    assert ("scontrol requeue 70_12" in calls) == requeues
    _, python, script, *words = shlex.split(calls[0])
    assert (python, (ROOT / script).is_file()) == ("python", True)
    assert take_flags(words) == (False, 12, ["experiment=frozen", "steps=120"])
    assert load_config(LabelEfficiencyConfig, ROOT / "configs/label_efficiency_config.yaml", take_flags(words)[2]).steps == 120
