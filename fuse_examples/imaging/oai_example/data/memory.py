"""How much memory there is for a scan, asked before its voxels are."""

import os
import re
from pathlib import Path

from fuse_examples.imaging.oai_example.errors import DataError

_MEMINFO = Path("/proc/meminfo")


def available_memory() -> int:
    """Bytes that a process can take without swapping; all of the machine's where the system does not tell."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)
    except OSError:  # not Linux
        found = None
    return int(found[1]) * 1024 if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_room(path: Path, shape: tuple[int, ...], needed: int) -> None:
    """Refuse a scan that reading would fill the memory with.

    A system may hand out more memory than it has and end the process once it is used, so that waiting for a MemoryError is no check.

    Args:
        path: for the message.
        shape: what the header says of the scan.
        needed: bytes that reading takes at its peak.

    Raises:
        DataError: there is less.
    """
    there = available_memory()
    if needed > there:
        size = " x ".join(map(str, shape))
        raise DataError(
            f"{path}: takes more memory than there is: by its header it has {size} voxels, whose reading takes {needed / 2**30:.1f} GiB, "
            f"and {there / 2**30:.1f} GiB are free. Look whether that is its size; if so, crop it or use a machine with more."
        )
