"""How a setting is declared, and the list of all settings of a stage.

A setting is declared once, as a field with its type, default and meaning; `--help`, messages and the check of the shipped YAML files
read the declaration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fuse_examples.imaging.oai_example.configuration.wording import choices_of, expected, plain

SECTIONS = ("Run", "Study", "Data", "Backbone and weights", "Volumes", "Augmentation", "Task", "Training", "Machine and watching")


class Settings(BaseModel):
    """A block of settings: frozen, and without room for a key it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()


def setting(section: str, default: Any, meaning: str, *, null_means: Any = None) -> Any:
    """Declare a field: its section in `--help`, its default (or REQUIRED), what it is for, and what null stands for in the end."""
    extra = {"section": section, "null_means": null_means}
    if isinstance(default, type):
        return Field(default_factory=default, description=meaning, json_schema_extra=extra)
    return Field(... if default is REQUIRED else default, description=meaning, json_schema_extra=extra)


run, study, data, weights, volumes, augmentation, task, training, machine = (partial(setting, section) for section in SECTIONS)
inner = partial(setting, "")  # of a block: it stands in the block's section


@dataclass(frozen=True)
class Setting:
    """One key of a stage as users see it.

    Attributes:
        key: dotted name, "crops.n_local".
        expected: what a value must be, in words.
        choices: the names of an enumeration, else empty.
        default: plain value, or REQUIRED.
        meaning: one or two sentences.
        section: heading in `--help`.
        null_means: the value a null becomes when nothing else (a weight file, a checkpoint) gives one; None if null stays.
        annotation: the type as declared.
    """

    key: str
    expected: str
    choices: tuple[str, ...]
    default: Any
    meaning: str
    section: str
    null_means: Any
    annotation: Any

    @property
    def is_input_file(self) -> bool:
        """Whether the value names a file that is read."""
        return self.expected.startswith("a file")


@cache
def settings_of(schema: type[BaseModel]) -> Mapping[str, Setting]:
    """Every setting of a stage by its dotted key, in the order of `--help`; blocks are represented by their keys."""
    return {one.key: one for one in sorted(_settings(schema, "", ""), key=lambda one: SECTIONS.index(one.section))}


def blocks_of(schema: type[BaseModel]) -> Mapping[str, type[BaseModel]]:
    """The nested blocks of a stage by their key."""
    blocks = {}
    for name, info in schema.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            blocks[name] = info.annotation
    return blocks


def keys_at(schema: type[BaseModel], path: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the keys inside the block at `path`; () is the top level; empty where no block is."""
    block = blocks_of(schema).get(path[0]) if path else schema
    return tuple(block.model_fields) if block else ()


def _settings(schema: type[BaseModel], prefix: str, section: str) -> list[Setting]:
    found = []
    blocks = blocks_of(schema)
    for name, info in schema.model_fields.items():
        extra: Any = info.json_schema_extra
        here = extra["section"] or section
        if name in blocks:
            found += _settings(blocks[name], f"{name}.", here)
        else:
            found.append(_setting(f"{prefix}{name}", info, here, extra["null_means"]))
    return found


def _setting(key: str, info: FieldInfo, section: str, null_means: Any) -> Setting:
    annotation = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    default = REQUIRED if info.default is PydanticUndefined else plain(info.default)
    return Setting(
        key, expected(annotation), choices_of(annotation), default, info.description or "", section, plain(null_means), annotation
    )
