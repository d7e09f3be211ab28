"""Files that are whole or absent."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from fuse_examples.imaging.oai_example.errors import no_room

TEMPORARY = ".partial"


@contextmanager
def written_beside(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends well, and vanishes when it does not.

    Raises:
        NoRoomError: the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _replacing(path) as temporary, temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except Exception as error:
        if (full := no_room(error, path)) is not None:
            raise full from error
        raise


def copy_whole(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`: a second name where the file system has hard links, else a copy.

    Sharing is safe between files that are only ever replaced, never written into.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """Keep other processes that hold the same file off, and wait for one that does; the system lets go when a process ends."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with written_beside(path) as file:
        file.write(text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole; figures that are not finite become null, which every JSON reader takes."""
    write_text(path, json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not -float("inf") < value < float("inf") else value


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a power cut; some file systems cannot, and then nothing is lost but that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
