"""From a YAML file and key=value words to one frozen configuration, or to every mistake in them at once."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fuse_examples.imaging.oai_example.configuration.draft import Draft, KeyPath, broken_rules
from fuse_examples.imaging.oai_example.configuration.origin import DEFAULT, Origin, Problem, display_path, in_order
from fuse_examples.imaging.oai_example.configuration.overrides import lay_over, parse_words
from fuse_examples.imaging.oai_example.configuration.settings import blocks_of, keys_at, settings_of
from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.configuration.wording import did_you_mean, expected, shown
from fuse_examples.imaging.oai_example.configuration.yaml_source import Source, read_file
from fuse_examples.imaging.oai_example.errors import ConfigError

Config = TypeVar("Config", bound=StageConfig)

# Names of other programs for what has another name here; a close match would not find them.
OTHER_NAMES = {
    "lr": "learning_rate",
    "epochs": "n_epochs",
    "max_epochs": "n_epochs",
    "num_epochs": "n_epochs",
    "num_workers": "n_workers",
    "baseline_weights": "suprem_weights",
    "ckpt_path": "resume_training_from",
    "gradient_clip_val": "grad_clip",
    "n_classes": "num_classes",
    "dropout": "head.dropout",
    "out_dim": "head.n_prototypes",
}


def load_config(schema: type[Config], yaml_path: Path, words: Sequence[str] = ()) -> Config:
    """Read one stage's YAML file, lay `key=value` words over it, and check all of it.

    Args:
        schema: the stage's class.
        yaml_path: its YAML file.
        words: `key=value`; the value is YAML, dots reach into blocks; a word wins over the file.

    Raises:
        ConfigError: with every mistake of the file and the words, one a line, in file order.
    """
    overrides, problems = parse_words(words)
    try:
        source = read_file(yaml_path)
    except ConfigError as error:
        raise ConfigError((*error.problems, *in_order(problems))) from error
    draft, mistakes = _draft(schema, yaml_path, source)
    lay_over(draft, overrides)
    problems += mistakes
    config = None
    try:
        config = schema.model_validate(draft.values)
    except ValidationError as error:
        problems += _field_problems(error, draft)
    problems += broken_rules(draft, schema.RULES)
    if problems or config is None:
        raise ConfigError(in_order(problems))
    return config.with_origins(_origins(draft))


def _draft(schema: type[StageConfig], yaml_path: Path, source: Source) -> tuple[Draft, list[Problem]]:
    """The file's values with their places, and the mistakes of its YAML."""
    name = display_path(yaml_path)
    places = {line: Origin("file", f"{name}:{line}", line) for line in {*source.lines.values(), *(line for line, _ in source.problems)}}
    origins = {path: places[line] for path, line in source.lines.items() if path}
    draft = Draft(schema, Origin("file", name), source.value or {}, origins, source.unreadable)
    return draft, [Problem(places[line], text) for line, text in source.problems]


def _origins(draft: Draft) -> Mapping[str, Origin]:
    return {key: draft.source(key) for key in settings_of(draft.schema) if draft.source(key) is not DEFAULT}


def _field_problems(error: ValidationError, draft: Draft) -> Iterator[Problem]:
    """The mistakes of single keys, in words; each key is noted as misshapen in the draft."""
    for detail in error.errors(include_url=False):
        path = tuple(str(part) for part in detail["loc"])
        if detail["type"] == "extra_forbidden":
            yield Problem(draft.origin(path), _unknown_key(path, draft))
            continue
        if any(path[: len(unreadable)] == unreadable for unreadable in draft.unreadable):
            draft.misshapen.add(_setting_of(path, draft))
            continue
        key = _setting_of(path, draft)
        draft.misshapen.add(key)
        yield Problem(draft.origin(path), _misfit(key, detail, draft))


def _setting_of(path: KeyPath, draft: Draft) -> str:
    """The dotted key of the setting (or the name of the block) at or around a path."""
    return ".".join(path[:2]) if path[0] in blocks_of(draft.schema) else path[0]


def _misfit(key: str, detail: ErrorDetails, draft: Draft) -> str:
    if detail["type"] == "missing" and key not in _written_keys(draft.values):
        return f"the key '{key}' is missing: {settings_of(draft.schema)[key].meaning}"
    if detail["type"] == "value_error":
        return f"{key}: {detail['ctx']['error']}"
    block = blocks_of(draft.schema).get(key)
    if block is not None:
        return f"{key}: must be {expected(block)}, found {shown(detail['input'])}"
    setting = settings_of(draft.schema)[key]
    value = draft.values
    for part in key.split("."):
        value = value[part]
    return f"{key}: must be {setting.expected}, found {shown(value)}{_remedy(key, setting.expected, setting.choices, value)}"


def _remedy(key: str, expectation: str, choices: tuple[str, ...], value: Any) -> str:
    if isinstance(value, str) and choices:
        return did_you_mean(value, choices)
    if expectation.startswith("a list") and value is not None and not isinstance(value, (list, dict)):
        return f"; write {key}: [{shown(value)}]"
    if isinstance(value, (int, float)) and ("text" in expectation or "name" in expectation):
        return f"; put it in quotes: '{value}'"
    if isinstance(value, str) and "number" in expectation and value.replace(".", "", 1).isdigit():
        return "; write it without quotes"
    return ""


def _written_keys(values: Mapping[str, Any]) -> set[str]:
    inner = {f"{key}.{name}" for key, block in values.items() if isinstance(block, dict) for name in block}
    return {*values, *inner}


def _unknown_key(path: KeyPath, draft: Draft) -> str:
    name, around = path[-1], path[:-1]
    here = {".".join((*around, key)): key for key in keys_at(draft.schema, around)}
    near = did_you_mean(name, here.values())
    if near and around:
        near = near.replace("'", f"'{'.'.join(around)}.", 1)
    elsewhere = [key for key in settings_of(draft.schema) if key.split(".")[-1] == name]
    other = OTHER_NAMES.get(name)
    if elsewhere:
        near = f"; did you mean '{elsewhere[0]}'?"
    elif other in settings_of(draft.schema):
        near = f"; did you mean '{other}'?"
    return f"unknown key '{'.'.join(path)}'{near or '; --help lists all keys'}"
