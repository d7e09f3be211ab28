"""Cells as processes of their own, several at a time: one that breaks takes neither the others nor the study with it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuse_examples.imaging.oai_example.stages.study.grid import LOGS, Cell
from fuse_examples.imaging.oai_example.stages.study.parent_watch import PARENT
from fuse_examples.imaging.oai_example.training.interruption import Interrupted, Interruption

STOPPED = (130, 143, 138)
"""Exit codes of a run that a signal ended after its checkpoint."""
_ASK_EVERY = 0.2  # seconds
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Broken:
    """A cell whose process ended with an error.

    Attributes:
        cell: which one.
        code: the exit code; negative for a signal that killed it.
        log: what it printed.
    """

    cell: Cell
    code: int
    log: Path

    def __str__(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        how = f"was killed by signal {-self.code}" if self.code < 0 else f"ended with exit code {self.code}"
        return f"{self.cell.name} {how}: {lines[-1] if lines else 'it printed nothing'} (all of it in {self.log})"


def do_cells(
    folder: Path,
    cells: Sequence[tuple[Cell, Sequence[str]]],
    jobs: int,
    interruption: Interruption,
    told: Callable[[Cell, float], None],
) -> list[Broken]:
    """Do cells, `jobs` at a time, and return those that broke.

    Args:
        folder: of the study; what cells print goes to its `logs/`.
        cells: each with the command line that does it.
        jobs: how many at a time.
        interruption: a signal that it notes is handed on to all cells, which write a checkpoint and stop.
        told: called with each cell that ended well and the seconds it took.

    Raises:
        Interrupted: after a signal, when all cells have stopped.
    """
    waiting, running, broken = list(cells), dict[subprocess.Popen[bytes], tuple[Cell, Path, float]](), list[Broken]()
    environment = cell_environment(jobs)
    (folder / LOGS).mkdir(parents=True, exist_ok=True)
    try:
        while waiting or running:
            while waiting and len(running) < jobs and interruption.requested is None:
                cell, command = waiting.pop(0)
                log = folder / LOGS / f"{cell.name}.log"
                with log.open("ab") as output:
                    # A group of its own: Ctrl-C reaches the study alone, which hands it on.
                    process = subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, process_group=0
                    )
                running[process] = cell, log, time.perf_counter()
            for process in [one for one in running if one.poll() is not None]:
                cell, log, began = running.pop(process)
                if process.returncode == 0:
                    told(cell, time.perf_counter() - began)
                elif interruption.requested is None or process.returncode not in STOPPED:
                    broken.append(Broken(cell, process.returncode, log))
                    print(f"broken: {broken[-1]}", file=sys.stderr, flush=True)
            if interruption.requested is not None:
                raise Interrupted(interruption.requested)
            time.sleep(_ASK_EVERY)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    return broken


def cell_environment(jobs: int) -> dict[str, str]:
    """The environment of a cell's process: it stops with this one, and has its share of the cores unless the user has said how many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = str(max(1, cores // jobs))
    threads: Mapping[str, str] = {} if jobs == 1 else {name: os.environ.get(name, share) for name in THREADS}
    return {**os.environ, **threads, PARENT: str(os.getpid())}
