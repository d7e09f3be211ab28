"""A stage as a process of its own that is sent a signal in its N-th training batch: `interrupted_stage.py SIGNAL N ENTRY WORDS...`."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from small_stages import ENTRIES

from fuse_examples.imaging.oai_example.configuration.command_line import run_entry
from fuse_examples.imaging.oai_example.tasks.dino import DINOTask


def send_in_batch(name: str, number: int) -> None:
    """Count the batches of this process, and send it the signal when `number` (from 0) begins."""
    step, seen = DINOTask.training_step, iter(range(10**6))

    def training_step(self: DINOTask, batch: Any, batch_idx: int) -> Any:
        if next(seen) == number:
            os.kill(os.getpid(), getattr(signal, name))
        return step(self, batch, batch_idx)

    DINOTask.training_step = training_step  # type: ignore[method-assign]


if __name__ == "__main__":
    name, number, stage, *words = sys.argv[1:]
    send_in_batch(name, int(number))
    sys.argv = [stage, *words]
    sys.exit(run_entry(ENTRIES[stage]))
