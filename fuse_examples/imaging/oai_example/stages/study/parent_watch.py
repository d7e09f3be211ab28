"""A cell that a study has started ends with it: nobody would take the cell up beside a process that trains on unseen."""

import os
import signal
import threading
import time

PARENT = "LABEL_EFFICIENCY_PARENT"
"""Variable of the environment with the process that a cell is done for."""
_ASK_EVERY = 0.5  # seconds


def stop_with_parent() -> None:
    """Where a study has started this process, end as by SIGTERM when the study is gone: nobody would take the cell up beside it."""
    parent = os.environ.get(PARENT)
    if parent is not None:
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_ASK_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)
