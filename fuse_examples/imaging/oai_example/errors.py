"""Mistakes a user can mend. Entry scripts print them without a traceback and exit with code 2."""

from collections.abc import Iterable


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
