"""From a YAML file and key=value words to one frozen configuration, or to every mistake in them at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from fuse_examples.imaging.oai_example.configuration.draft import Draft, broken_rules
from fuse_examples.imaging.oai_example.configuration.misfits import misfits
from fuse_examples.imaging.oai_example.configuration.origin import DEFAULT, Origin, Problem, display_path, in_order
from fuse_examples.imaging.oai_example.configuration.overrides import Override, lay_over, parse_words
from fuse_examples.imaging.oai_example.configuration.rules import files_exist
from fuse_examples.imaging.oai_example.configuration.script_config import ScriptConfig
from fuse_examples.imaging.oai_example.configuration.settings import settings_of
from fuse_examples.imaging.oai_example.configuration.yaml_source import Source, read_file
from fuse_examples.imaging.oai_example.errors import ConfigError

Config = TypeVar("Config", bound=ScriptConfig)


def load_config(
    schema: type[Config],
    yaml_path: Path,
    words: Sequence[str] = (),
    *,
    files_must_exist: bool = False,
    further: Sequence[Override] = (),
) -> Config:
    """Read one stage's YAML file, lay `key=value` words over it, and check all of it.

    Args:
        schema: the stage's class.
        yaml_path: its YAML file.
        words: `key=value`; the value is YAML, dots reach into blocks; a word wins over the file.
        further: values that are laid over the file before the words, from another place.
        files_must_exist: whether a CSV file, weight file or checkpoint that is not there counts as a mistake.

    Raises:
        ConfigError: with every mistake of the file and the words, one a line, in file order.
    """
    overrides, problems = parse_words(words)
    try:
        source = read_file(yaml_path)
    except ConfigError as error:
        raise ConfigError((*error.problems, *in_order(problems))) from error
    draft, mistakes = _draft(schema, yaml_path, source)
    lay_over(draft, [*further, *overrides])
    problems += mistakes
    config = None
    try:
        config = schema.model_validate(draft.values)
    except ValidationError as error:
        problems += misfits(error, draft)
    problems += broken_rules(draft, (files_exist, *schema.RULES) if files_must_exist else schema.RULES)
    if problems or config is None:
        raise ConfigError(in_order(problems))
    return config.with_origins(_origins(draft))


def _draft(schema: type[ScriptConfig], yaml_path: Path, source: Source) -> tuple[Draft, list[Problem]]:
    """The file's values with their places, and the mistakes of its YAML."""
    name = display_path(yaml_path)
    places = {line: Origin("file", f"{name}:{line}", line) for line in {*source.lines.values(), *(line for line, _ in source.problems)}}
    origins = {path: places[line] for path, line in source.lines.items() if path}
    draft = Draft(schema, Origin("file", name), source.value or {}, origins, source.unreadable)
    return draft, [Problem(places[line], text) for line, text in source.problems]


def _origins(draft: Draft) -> Mapping[str, Origin]:
    return {key: draft.source(key) for key in settings_of(draft.schema) if draft.source(key) is not DEFAULT}
