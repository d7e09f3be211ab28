"""Mistakes a user can mend. Entry scripts print them without a traceback and exit with code 2."""

import errno
from collections.abc import Iterable
from pathlib import Path

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


class UserError(Exception):
    """One or more mistakes of one kind, shown together.

    Each problem is a full sentence or two: which file, line, row, key or case; what was found; what to do.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class ConfigError(UserError):
    """A YAML file or a key=value word that cannot be used."""


class DataError(UserError):
    """A CSV file, a scan or a mask that cannot be used."""


class WeightsError(UserError):
    """A checkpoint or weight file that cannot be used."""


class NoRoomError(UserError):
    """A disk that is full, or a quota that is used up: whatever is written next fails too."""


def unreadable(error: OSError) -> str:
    """Return what was found and what to do, to follow a file's name, where the system refuses to read it."""
    if isinstance(error, PermissionError):
        remedy = "Give this account the right to read it and to enter every folder above it, or name a file that it may read."
    else:
        remedy = "Try again, or copy it to another disk."
    return f"cannot be read: {error.strerror or error}. {remedy}"


def no_room(error: BaseException, path: Path | None = None) -> NoRoomError | None:
    """Return what to tell the user if a full disk is behind `error`, else None.

    torch.save and the logging module raise errors of their own while they handle the system's, so that the whole chain is looked through.

    Args:
        error: what was raised.
        path: what was being written, where it is known.
    """
    if isinstance(error, NoRoomError):
        return error
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        what = path or error.filename
        return NoRoomError(
            f"{f'{what}: ' if what else ''}cannot be written: {error.strerror}. Make room there, or choose a folder on another disk. "
            "Files that are there already are whole."
        )
    before = error.__cause__ or error.__context__
    return None if before is None else no_room(before, path)
