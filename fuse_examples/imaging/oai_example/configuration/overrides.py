"""Words of the command line that lay a value over the YAML: `batch_size=4`, `crops.n_local=6`, `train_folds=[0, 1]`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from fuse_examples.imaging.oai_example.configuration.draft import Draft, KeyPath
from fuse_examples.imaging.oai_example.configuration.origin import Origin, Problem
from fuse_examples.imaging.oai_example.configuration.yaml_source import read_text, syntax_problem


@dataclass(frozen=True)
class Override:
    """One word: the key it reaches, the plain value it lays there, and the word itself as the place of messages."""

    path: KeyPath
    value: Any
    origin: Origin


def parse_words(words: Sequence[str]) -> tuple[list[Override], list[Problem]]:
    """Read `key=value` words; the value is YAML. A word that cannot be read is a problem, and reading goes on."""
    overrides: list[Override] = []
    problems: list[Problem] = []
    for number, word in enumerate(words):
        origin = Origin("command line", f"command line: {word}", number)
        found = _parse(word, origin)
        again = isinstance(found, Override) and next((other for other in overrides if _collide(other.path, found.path)), None)
        if isinstance(found, Problem):
            problems.append(found)
        elif again:
            problems.append(Problem(origin, f"'{'.'.join(found.path)}' was set by {again.origin.text} already"))
        else:
            overrides.append(found)
    return overrides, problems


def lay_over(draft: Draft, overrides: Sequence[Override]) -> None:
    """Put each word's value in the place of the YAML's."""
    for override in overrides:
        block = draft.values
        for part in override.path[:-1]:
            inside = block.get(part)
            if not isinstance(inside, dict):
                inside = block[part] = {}
            block = inside
        block[override.path[-1]] = override.value
        draft.unreadable = {path for path in draft.unreadable if path[: len(override.path)] != override.path}
        for path in [path for path in draft.origins if path[: len(override.path)] == override.path]:
            del draft.origins[path]
        draft.origins[override.path] = override.origin
        _place_inner_keys(draft, override.path, override.value, override.origin)


def _place_inner_keys(draft: Draft, path: KeyPath, value: Any, origin: Origin) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            draft.origins[(*path, key)] = origin
            _place_inner_keys(draft, (*path, key), item, origin)


def _parse(word: str, origin: Origin) -> Override | Problem:
    key, equals, text = word.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if word.startswith("-"):
        name = key.lstrip("-").replace("-", "_")
        return Problem(origin, f"not a flag of this program (--config, --check, --help); settings are words: {name}={text or 'VALUE'}")
    if not equals or not all(path):
        return Problem(origin, "not of the form key=value")
    try:
        source = read_text(text)
    except yaml.YAMLError as error:
        return Problem(origin, f"the value is {syntax_problem(error, text)[1]}")
    if source.problems:
        return Problem(origin, source.problems[0][1])
    return Override(path, source.value, origin)


def _collide(one: KeyPath, other: KeyPath) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
