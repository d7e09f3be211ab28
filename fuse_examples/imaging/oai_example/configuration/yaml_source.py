"""YAML text to plain values, each with the line it stands on.

The reading follows YAML 1.2's core schema, not PyYAML's 1.1: `1e-4` is a number, `no`, `on` and `2024-05-01` are text, `010` is ten.
A repeated key is a mistake here, where PyYAML lets the last one win.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fuse_examples.imaging.oai_example.configuration.origin import display_path
from fuse_examples.imaging.oai_example.configuration.wording import did_you_mean, shown
from fuse_examples.imaging.oai_example.errors import ConfigError

KeyPath = tuple[str, ...]
_TAG = "tag:yaml.org,2002:"
_PLAIN_SCALARS = {
    "null": re.compile(r"(?:~|null|Null|NULL|)$"),
    "bool": re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"),
    "int": re.compile(r"[-+]?[0-9]+$|0x[0-9a-fA-F]+$|0o[0-7]+$"),
    "float": re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"),
}


class _CoreLoader(yaml.SafeLoader):
    """The scanner, parser and composer of PyYAML with the core schema's resolvers."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012  # its base class declares it so


for _name, _pattern in _PLAIN_SCALARS.items():
    _CoreLoader.add_implicit_resolver(_TAG + _name, _pattern, None)


def _integer(text: str) -> int:
    return int(text, 0) if text[:2].lower() in {"0x", "0o"} else int(text)


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _float(text: str) -> float:
    return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))


_CONSTRUCT: dict[str, Callable[[str], object]] = {
    "null": lambda text: None,
    "bool": _boolean,
    "int": _integer,
    "float": _float,
    "str": str,
}


@dataclass
class Source:
    """What a YAML text says.

    Attributes:
        value: plain Python values.
        lines: line of each key and list item, by its path from the top ("crops", "global_size", "0").
        problems: mistakes found so far, as (line, text); reading goes on after each.
        unreadable: paths whose value is such a mistake; they hold None.
    """

    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)
    unreadable: set[KeyPath] = field(default_factory=set)


class _CoreDumper(yaml.SafeDumper):
    """PyYAML's writer, which also quotes text that the core schema would read as a number."""


for _name, _pattern in _PLAIN_SCALARS.items():
    _CoreDumper.add_implicit_resolver(_TAG + _name, _pattern, None)


def write_text(values: dict[str, Any]) -> str:
    """Plain values as YAML text that `read_text` reads back as the same values."""
    text: str = yaml.dump(values, Dumper=_CoreDumper, sort_keys=False, allow_unicode=True)
    return text


def read_text(text: str) -> Source:
    """Read YAML text.

    Raises:
        yaml.YAMLError: where the text is not YAML; `syntax_problem` puts it in words.
    """
    loader = _CoreLoader(text)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    source = Source()
    if node is not None:
        source.value = _value(node, (), source, ())
    return source


def read_file(path: Path) -> Source:
    """Read a YAML file whose top level is a block of keys.

    Raises:
        ConfigError: where the file cannot be read at all: missing, not text, not YAML, not a block of keys.
    """
    name = display_path(path)
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        source = read_text(text)
    except OSError as error:
        near = did_you_mean(path.name, _yaml_files_beside(path))
        raise ConfigError(f"{name}: cannot read the configuration file: {error.strerror}{near}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not a text file in UTF-8 (byte {error.start})") from error
    except yaml.YAMLError as error:
        line, what = syntax_problem(error, text)
        raise ConfigError(f"{name}:{line}: {what}") from error
    if not isinstance(source.value, (dict, type(None))):
        raise ConfigError(f"{name}:{source.lines[()]}: the file must hold 'key: value' lines, found {shown(source.value)}")
    return source


def syntax_problem(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    """Line and description of what PyYAML could not read in `text`."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        return (mark.line + 1 if mark else 1), f"not valid YAML: {what}"
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1, f"not valid YAML: the character {text[error.position]!r} is not allowed"
    return 1, f"not valid YAML: {error}"


def _yaml_files_beside(path: Path) -> list[str]:
    try:
        return [other.name for other in path.parent.iterdir() if other.suffix in {".yaml", ".yml"}]
    except OSError:
        return []


def _value(node: yaml.Node, path: KeyPath, source: Source, above: tuple[yaml.Node, ...]) -> Any:
    line = node.start_mark.line + 1
    source.lines.setdefault(path, line)
    if any(node is other for other in above):
        return _unreadable(source, path, line, f"'{'.'.join(path)}' contains itself through an alias")
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        return _mapping(node, path, source, (*above, node))
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [_value(item, (*path, str(index)), source, (*above, node)) for index, item in enumerate(node.value)]
    construct = _CONSTRUCT.get(node.tag.removeprefix(_TAG)) if isinstance(node, yaml.ScalarNode) else None
    if construct is None:
        return _unreadable(source, path, line, f"the tag {node.tag.replace(_TAG, '!!')} is not allowed; write a plain value")
    try:
        return construct(node.value)
    except (ValueError, KeyError):
        return _unreadable(source, path, line, f"{node.value!r} does not fit its tag {node.tag.replace(_TAG, '!!')}")


def _unreadable(source: Source, path: KeyPath, line: int, text: str) -> None:
    source.problems.append((line, text))
    source.unreadable.add(path)


def _mapping(node: yaml.MappingNode, path: KeyPath, source: Source, above: tuple[yaml.Node, ...]) -> dict[str, Any]:
    block: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            source.problems.append((line, "a key must be plain text, found a list or a block"))
            continue
        key = key_node.value  # as written: the keys `on` and `1` stay text
        inner = (*path, key)
        if key == "<<" and key_node.style is None:
            source.problems.append((line, "merge keys (<<) are not read; write the keys out"))
        elif key in block:
            source.problems.append((line, f"the key '{'.'.join(inner)}' is repeated; it was set on line {source.lines[inner]} already"))
        else:
            source.lines[inner] = line
            block[key] = _value(value_node, inner, source, above)
    return block
