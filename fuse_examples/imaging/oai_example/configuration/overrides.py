"""Words of the command line that lay a value over the YAML: `batch_size=4`, `crops.n_local=6`, `train_folds=[0, 1]`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from fuse_examples.imaging.oai_example.configuration.draft import Draft, KeyPath
from fuse_examples.imaging.oai_example.configuration.origin import Origin, Problem
from fuse_examples.imaging.oai_example.configuration.settings import blocks_of
from fuse_examples.imaging.oai_example.configuration.yaml_source import read_text, syntax_problem


@dataclass(frozen=True)
class Override:
    """One word: the key it reaches, the plain value it lays there, the word as typed, and its place for messages."""

    path: KeyPath
    value: Any
    word: str
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
            problems.append(Problem(origin, f"'{'.'.join(found.path)}' was set by '{again.word}' already"))
        else:
            overrides.append(found)
    return overrides, problems


def lay_over(draft: Draft, overrides: Sequence[Override]) -> None:
    """Put each word's value in the place of the YAML's."""
    for override in overrides:
        block = _block_around(draft, override)
        if block is not None:
            block[override.path[-1]] = override.value
            _forget(draft, override.path)
            draft.origins[override.path] = override.origin
            _place_inner_keys(draft, override.path, override.value, override.origin)


def _block_around(draft: Draft, override: Override) -> dict[str, Any] | None:
    """The block that a word reaches into, made where it is missing; None where the YAML has something else there, which is a mistake."""
    block = draft.values
    for depth, part in enumerate(override.path[:-1], start=1):
        inside = block.get(part)
        if isinstance(inside, dict):
            block = inside
        elif inside is not None and part in blocks_of(draft.schema):
            return None
        else:
            block[part] = block = {}
            _forget(draft, override.path[:depth])
            draft.origins[override.path[:depth]] = override.origin
    return block


def _forget(draft: Draft, path: KeyPath) -> None:
    draft.unreadable = {other for other in draft.unreadable if other[: len(path)] != path}
    draft.origins = {other: origin for other, origin in draft.origins.items() if other[: len(path)] != path}


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
        return Problem(origin, "not of the form key=value" + ("; a YAML file follows --config" if key.endswith((".yaml", ".yml")) else ""))
    try:
        source = read_text(text)
    except yaml.YAMLError as error:
        return Problem(origin, f"the value is {syntax_problem(error, text)[1]}")
    if source.problems:
        return Problem(origin, source.problems[0][1])
    return Override(path, source.value, word, origin)


def _collide(one: KeyPath, other: KeyPath) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
