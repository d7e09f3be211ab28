"""Which paths a caller may name: those inside a root, in name and in fact."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fuse_examples.imaging.oai_example.errors import UserError

MOST_SHOWN = 200  # characters of a path in a message


@dataclass(frozen=True)
class AllowedFolder:
    """A folder that callers may name paths in.

    Attributes:
        root: the folder, resolved.
        what: what it is for, in messages: "--root" or "--models".
    """

    root: Path
    what: str

    @classmethod
    def of(cls, folder: Path, what: str) -> "AllowedFolder":
        """Resolve `folder` once. Raises UserError where it is no folder."""
        if not folder.is_dir():
            raise UserError(f"{what}: {folder} is not a folder.")
        return cls(folder.resolve(), what)

    def place(self, text: str) -> Path:
        """Return the path that `text` names, resolved; a relative one lies in the root. It need not exist.

        Raises:
            UserError: it lies elsewhere, a link on the way leads out or in a circle, or no file system can hold such a name.
        """
        if not text or "\0" in text:
            raise UserError(f"{text!r} is no path.")
        path = _resolved(self.root / text, shortened(text))
        if not path.is_relative_to(self.root):
            raise UserError(f"{shortened(text)}: lies outside {self.what}, or a link on the way leads out. Name a path inside it.")
        return path

    def existing(self, text: str) -> Path:
        """Return the file or folder that `text` names, with everything in it known to lie inside the root too.

        Raises:
            UserError: as `place`; it does not exist; it holds a link that leads out, or a thing that is neither file nor folder.
        """
        path = self.place(text)
        if not path.exists():
            raise UserError(f"{shortened(text)}: does not exist in {self.what}.")
        for entry in _everything(path):
            shown = Path(text, entry.relative_to(path)) if entry != path else Path(text)
            if not _resolved(entry, str(shown)).is_relative_to(self.root):
                raise UserError(f"{shown}: is a link that leads out of {self.what}. Take it away, or copy what it leads to.")
            if entry.exists() and not (stat.S_ISREG(entry.stat().st_mode) or stat.S_ISDIR(entry.stat().st_mode)):
                raise UserError(f"{shown}: is neither a file nor a folder. Take it away.")
        return path


def shortened(text: str) -> str:
    """What a caller named, as far as a message repeats it; in letters that every output takes."""
    plain = text.encode(errors="backslashreplace").decode()
    return plain if len(plain) <= MOST_SHOWN else f"{plain[:MOST_SHOWN]}..."


def _resolved(path: Path, shown: str) -> Path:
    """Where a path leads, links followed. Raises UserError where that cannot be said."""
    try:
        there = path.resolve()
        there.exists()  # a name that is too long is found out here
    except (
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # links in a circle are a RuntimeError before Python 3.13; odd letters a ValueError
        why = getattr(error, "strerror", None) or "links in a circle, or letters that no name can have"
        raise UserError(f"{shown}: cannot be followed ({why}). Name another path, or take away what is there.") from error
    return there


def _everything(path: Path) -> Iterator[Path]:
    yield path
    for folder, below, files in os.walk(path):
        yield from (Path(folder, name) for name in (*below, *files))
