"""A run's log: the same lines in a file and on standard error, without the chatter of libraries."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

OURS = "fuse_examples"
LIGHTNING = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric")
"""Loggers that print to standard error by themselves; their information lines (tips, "GPU available") say nothing a run's log needs."""


class StandardError(logging.Handler):
    """Writes lines to standard error above a progress bar, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        tqdm.write(self.format(record), file=sys.stderr)


class Plain(logging.Formatter):
    """The message, with the level's name before it from warnings on."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text for a reader at the screen."""
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


@contextmanager
def logged_to(file: Path) -> Iterator[None]:
    """Send this package's log (from INFO) and everybody's warnings to `file`, appended, and to standard error; undo it at the end."""
    to_file = logging.FileHandler(file, encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    to_screen = StandardError()
    to_screen.setFormatter(Plain())
    root, ours = logging.getLogger(), logging.getLogger(OURS)
    level = ours.level
    ours.setLevel(logging.DEBUG)
    to_file.setLevel(logging.DEBUG)
    to_screen.setLevel(logging.INFO)
    show_warning, warnings.showwarning = warnings.showwarning, _log_warning
    with _quiet_lightning():
        for handler in (to_file, to_screen):
            root.addHandler(handler)
        try:
            yield
        finally:
            warnings.showwarning = show_warning
            ours.setLevel(level)
            for handler in (to_file, to_screen):
                root.removeHandler(handler)
                handler.close()


@contextmanager
def not_logged() -> Iterator[None]:
    """Where another process of the run logs: keep Python from printing this package's warnings once more."""
    ours, handler = logging.getLogger(OURS), logging.NullHandler()
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: object = None, line: object = None
) -> None:
    """What `warnings` calls: one line instead of two, and into the log."""
    logging.getLogger("py.warnings").warning("%s (%s, %s:%d)", message, category.__name__, filename, lineno)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in LIGHTNING]
    before = [(logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
        logger.handlers, logger.propagate = [], True
    try:
        yield
    finally:
        for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.handlers, logger.propagate = handlers, propagate
