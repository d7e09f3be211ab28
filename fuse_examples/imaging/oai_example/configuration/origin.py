"""Where a value came from, so that a message can point there."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["default", "file", "command line", "checkpoint"]
_ORDER: dict[Kind, int] = {"file": 0, "command line": 1, "checkpoint": 2, "default": 3}


@dataclass(frozen=True)
class Origin:
    """The place a value was read from.

    Attributes:
        kind: who set the value.
        text: the place as messages show it: "cfg.yaml:12", "command line: seed=3", "default".
        position: the line in the file, or the number of the word; messages are listed in this order.
    """

    kind: Kind
    text: str
    position: int = 0

    @property
    def order(self) -> tuple[int, int]:
        """Sort key: the file from top to bottom, then the words from left to right."""
        return _ORDER[self.kind], self.position


DEFAULT = Origin("default", "default")


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is and what it is, in a sentence."""

    origin: Origin
    text: str

    def __str__(self) -> str:
        return f"{self.origin.text}: {self.text}"


def in_order(problems: list[Problem]) -> list[str]:
    """The problems as lines, in file order, without repetitions."""
    return list(dict.fromkeys(str(problem) for problem in sorted(problems, key=lambda problem: problem.origin.order)))


def display_path(path: Path) -> str:
    """A path as messages show it: relative where it lies under the working directory."""
    absolute = Path(os.path.abspath(path))
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(path)
