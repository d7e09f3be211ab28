"""The trainer: precision by device, and nothing of Lightning's in folders, on the screen or in signals."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from lightning_fabric.plugins.environments import SLURMEnvironment

sys.path.insert(0, str(Path(__file__).parent))
from tiny import TinyTask, tiny_run

from fuse_examples.imaging.oai_example.training import trainer as module
from fuse_examples.imaging.oai_example.training.run import Run
from fuse_examples.imaging.oai_example.training.trainer import cpu_has, has_fast_bf16, resolve_precision


def test_precision_by_name() -> None:
    assert resolve_precision("fp32", "cpu") == "32-true"
    assert resolve_precision("bf16", "cpu") == "bf16-mixed"


@pytest.mark.parametrize("fast", [True, False])
def test_auto_is_bf16_where_the_device_is_good_at_it(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cpu_has", lambda flag: fast and flag == "avx512_bf16")
    assert resolve_precision("auto", "cpu") == ("bf16-mixed" if fast else "32-true")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: fast and not including_emulation)
    assert resolve_precision("auto", "auto") == ("bf16-mixed" if fast else "32-true")
    assert not has_fast_bf16("mps")


def test_instruction_sets_are_whole_words_of_the_processors_list(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: sse avx512_bf16 amx_bf16x\nbugs\t: x\n")
    assert cpu_has("avx512_bf16", tmp_path / "cpuinfo")
    assert not cpu_has("amx_bf16", tmp_path / "cpuinfo")
    assert not cpu_has("avx512_bf16", tmp_path / "missing")


def test_in_a_slurm_job_signals_are_left_alone_and_the_job_is_not_queued_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's own handlers would call `scontrol requeue` for every job, asked or not."""
    for name, value in {"NTASKS": "1", "JOB_NAME": "pretrain", "JOB_ID": "7", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    seen = []

    class Look(TinyTask):
        def on_train_start(self) -> None:
            environment = self.trainer._accelerator_connector.cluster_environment
            assert isinstance(environment, SLURMEnvironment), "Lightning has not seen the job"
            seen.extend(signal.getsignal(signum) for signum in (signal.SIGUSR1, signal.SIGTERM))

    tiny_run(tmp_path, Look([1]), n_epochs=1)
    assert seen == [signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGTERM)] == [signal.SIG_DFL, signal.SIG_DFL]


def test_a_run_is_quiet_and_leaves_signals_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    class Look(TinyTask):
        def on_train_start(self) -> None:
            seen.append(signal.getsignal(signal.SIGTERM))

    run = Run.for_training(tmp_path, "tiny")
    with run.opened({}):
        tiny_run(run.folder, Look([1]), n_epochs=1)
    assert seen == [signal.getsignal(signal.SIGTERM)]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert [line for line in shown.err.splitlines() if "tiny: " not in line] == []
    assert {path.name for path in run.folder.iterdir()} == {"config.yaml", "environment.json", "log.txt", "val_metrics.json", "checkpoints"}
    assert os.listdir(tmp_path) == ["tiny"]
