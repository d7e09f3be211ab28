"""Many scans read side by side, and what their readers have to say."""

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

READERS = "fuse_examples.imaging.oai_example.data"
Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item], workers: int, what: str, unit: str) -> list[Result]:
    """Map in threads, with a progress bar: reading waits for disks, and unzipping and hashing let other threads run."""
    items = list(items)
    pool = ThreadPoolExecutor(max(workers, 1))
    try:
        return list(tqdm(pool.map(function, items), total=len(items), desc=what, unit=unit, disable=None, leave=False))
    finally:
        pool.shutdown(cancel_futures=True)  # an error or Ctrl-C does not wait for what has not begun


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect what the readers would log as warnings (slices dropped, files passed over) in place of showing it."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, collector = logging.getLogger(READERS), Collector(logging.WARNING)
    logger.addHandler(collector)
    before, logger.propagate = logger.propagate, False
    try:
        yield messages
    finally:
        logger.removeHandler(collector)
        logger.propagate = before
