"""A configuration on its way in: plain values from YAML and words, each with its place, before and while it is judged."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from fuse_examples.imaging.oai_example.configuration.origin import DEFAULT, Origin, Problem
from fuse_examples.imaging.oai_example.configuration.settings import settings_of

KeyPath = tuple[str, ...]


class MisshapenError(LookupError):
    """A rule asked for a value that is a mistake by itself; the rule has nothing to add."""


@dataclass
class Draft:
    """Plain values of one stage as they were written.

    Attributes:
        schema: the stage's class.
        file: the file as a whole, for mistakes that stand on no line.
        values: nested plain values.
        origins: where each key, block and list item stands.
        unreadable: paths whose YAML is a mistake already reported; their values are None.
        misshapen: dotted keys whose values are mistakes by themselves.
    """

    schema: type[BaseModel]
    file: Origin
    values: dict[str, Any]
    origins: dict[KeyPath, Origin]
    unreadable: set[KeyPath] = field(default_factory=set)
    misshapen: set[str] = field(default_factory=set)

    def __getitem__(self, key: str) -> Any:
        """The plain value of a dotted key as written, else its default.

        Raises:
            MisshapenError: where the value does not fit its own type.
        """
        if not self.is_usable(key):
            raise MisshapenError(key)
        found: Any = self.values
        for part in key.split("."):
            if not isinstance(found, Mapping) or part not in found:
                return settings_of(self.schema)[key].default
            found = found[part]
        return found

    def origin(self, path: KeyPath) -> Origin:
        """Place of a key or list item, or of the nearest thing around it that has one."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return self.file

    def is_usable(self, key: str) -> bool:
        """Whether the value of a dotted key fits its type; what stands in place of its block is another key's mistake."""
        return key not in self.misshapen and not self.is_unreadable(tuple(key.split(".")))

    def is_unreadable(self, path: KeyPath) -> bool:
        """Whether the YAML at, in or around a path is a mistake already reported."""
        return any(path[: len(other)] == other[: len(path)] for other in self.unreadable)

    def source(self, key: str) -> Origin:
        """Who set a dotted key: the file, a word, or nobody."""
        return self.origins.get(tuple(key.split(".")), DEFAULT)

    def problem(self, text: str, *keys: str) -> Problem:
        """A mistake that stands at the last of `keys` that was written, or at the file as a whole."""
        places = [self.source(key) for key in keys if self.source(key) is not DEFAULT]
        return Problem(max(places, key=lambda place: place.order, default=self.file), text)


def broken_rules(draft: Draft, rules: tuple[Any, ...]) -> Iterator[Problem]:
    """What the rules over several keys find; a rule whose values are mistakes by themselves is left out."""
    for rule in rules:
        try:
            yield from rule(draft)
        except MisshapenError:
            continue
