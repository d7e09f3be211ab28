"""Cells as processes: several at a time, broken ones named, all of them stopped with the study."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fuse_examples.imaging.oai_example.stages.study.grid import Cell
from fuse_examples.imaging.oai_example.stages.study.parent_watch import PARENT
from fuse_examples.imaging.oai_example.stages.study.scheduling import Broken, cell_environment, do_cells
from fuse_examples.imaging.oai_example.training.interruption import Interrupted, Interruption

ROOT = Path(__file__).parents[3]


def cell(number: int) -> Cell:
    return Cell("scratch", number, 0, 1e-3, tested=True)


def shell(text: str) -> list[str]:
    return ["sh", "-c", text]


def do(folder: Path, commands: list[str], jobs: int = 1, interruption: Interruption | None = None) -> tuple[list[Broken], list[str]]:
    told: list[str] = []
    cells = [(cell(number), shell(text)) for number, text in enumerate(commands, start=1)]
    broken = do_cells(folder, cells, jobs, interruption or Interruption(), lambda one, seconds: told.append(one.name))
    return broken, told


def test_a_broken_cell_is_named_and_the_others_are_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, told = do(tmp_path, ["echo fine", "echo first; echo the cause >&2; exit 2", "kill -9 $$", "true"])
    assert told == ["scratch_n1_seed0_lr0.001", "scratch_n4_seed0_lr0.001"]
    assert [str(one) for one in broken] == [
        f"scratch_n2_seed0_lr0.001 ended with exit code 2: the cause (all of it in {tmp_path}/logs/scratch_n2_seed0_lr0.001.log)",
        f"scratch_n3_seed0_lr0.001 was killed by signal 9: it printed nothing (all of it in {tmp_path}/logs/scratch_n3_seed0_lr0.001.log)",
    ]
    assert "broken: scratch_n2_seed0_lr0.001 ended with exit code 2: the cause" in capsys.readouterr().err


def test_as_many_at_a_time_as_jobs_and_no_more(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    text = f"echo + >> {trace}; sleep 0.5; echo - >> {trace}"
    _, told = do(tmp_path, [text] * 4, jobs=2)
    assert len(told) == 4
    running, most = 0, 0
    for sign in trace.read_text().split():
        running += 1 if sign == "+" else -1
        most = max(most, running)
    assert most == 2


def test_a_signal_is_handed_on_and_all_cells_have_stopped_after_it(tmp_path: Path) -> None:
    interruption = Interruption()

    class SoonAsked(Interruption):
        """A signal that comes when both cells are at work."""

        @property
        def requested(self) -> int | None:  # type: ignore[override]
            return signal.SIGINT if (tmp_path / "2").exists() and (tmp_path / "1").exists() else None

        @requested.setter
        def requested(self, value: int | None) -> None:
            """It is not set."""

    slow = "trap 'echo stopped > {0}.end; exit 143' TERM; touch {0}; while true; do sleep 0.1; done"
    commands = [slow.format(tmp_path / str(number)) for number in (1, 2)] + [f"touch {tmp_path / '3'}"]
    with pytest.raises(Interrupted):
        do(tmp_path, commands, jobs=2, interruption=SoonAsked())
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["1", "1.end", "2", "2.end"]
    assert interruption.requested is None


def test_cells_share_the_cores_unless_the_user_has_said_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert "OMP_NUM_THREADS" not in cell_environment(1)
    assert cell_environment(3)["OMP_NUM_THREADS"] == "2"
    assert cell_environment(20)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert cell_environment(3)["OMP_NUM_THREADS"] == "5"
    assert cell_environment(1)[PARENT] == str(os.getpid())


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.1)
    return condition()


def test_a_cell_stops_when_its_study_was_killed(tmp_path: Path) -> None:
    child = (
        "import pathlib, signal, sys, time\n"
        "from fuse_examples.imaging.oai_example.stages.study.parent_watch import stop_with_parent\n"
        "def end(*_):\n    pathlib.Path('stopped').touch()\n    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, end)\nstop_with_parent()\npathlib.Path('began').touch()\n"
        "while True:\n    time.sleep(0.05)\n"
    )
    parent = (
        f"import os, subprocess, sys, time\nos.environ[{PARENT!r}] = str(os.getpid())\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(600)\n"
    )
    study = subprocess.Popen([sys.executable, "-c", parent], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert wait_for((tmp_path / "began").exists)
    study.kill()
    study.wait()
    assert wait_for((tmp_path / "stopped").exists)
