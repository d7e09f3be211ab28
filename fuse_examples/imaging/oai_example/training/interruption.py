"""Signals that end a run: it stops at the next optimiser step, after its checkpoint, with the exit code a shell expects.

They are Ctrl-C, SIGTERM, and SIGUSR1, which SLURM can be asked to send some time before a job's limit (`sbatch --signal`).
Outside training (reading scans, testing) there is nothing to save, and a signal ends the run at once.
"""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGUSR1: "SIGUSR1"}


class Interrupted(BaseException):
    """A signal ended the run. Not an `Exception`: nothing between the signal and the entry script should take it for an error."""

    def __init__(self, signum: int, message: str = "") -> None:
        self.signum = signal.Signals(signum)
        super().__init__(message or f"Stopped by {NAMES.get(self.signum, self.signum.name)}.")

    @property
    def exit_code(self) -> int:
        """130 for SIGINT, 143 for SIGTERM, 138 for SIGUSR1 (on Linux)."""
        return 128 + self.signum


class Interruption:
    """Context manager that owns SIGINT, SIGTERM and SIGUSR1 while a run lasts, and restores their handlers after it.

    In a thread other than the main one, where Python allows no handlers, it does nothing.

    Attributes:
        requested: the signal that asked the run to stop, or None.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._deferred = False
        self._owner = os.getpid()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._previous = {signum: signal.signal(signum, self._handle) for signum in NAMES}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for signum, handler in self._previous.items():
            # None: the handler was not installed from Python and cannot be put back; the default is the nearest.
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        self._previous = {}

    def defer(self) -> None:
        """From now on a signal only sets `requested`; training reads it between optimiser steps."""
        self._deferred = True

    def end_deferral(self) -> None:
        """From now on a signal ends the run at once."""
        self._deferred = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a forked process has inherited this handler
            return self._handle_in_child(signum)
        first = self.requested is None
        if first:
            self.requested = signum
        if not self._deferred:
            raise Interrupted(signum)
        if first:
            # The next Ctrl-C is the kernel's: it ends the process even in the middle of a long backward pass. A file being written is
            # beside its place and does no harm.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            # Not logging: its streams may be in use at this very moment.
            name = NAMES[signal.Signals(signum)]
            os.write(2, f"\n{name}: stopping after this optimiser step and its checkpoint; Ctrl-C now ends at once.\n".encode())

    def _handle_in_child(self, signum: int) -> None:
        """Ctrl-C is for the run's own process to answer; SIGTERM ends a child at once, as it would have without us."""
        if signum == signal.SIGTERM:
            os._exit(128 + signum)
