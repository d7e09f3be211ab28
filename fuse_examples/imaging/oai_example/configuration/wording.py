"""Values and types put in words: the same words stand in `--help` and in messages."""

import types
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as at
from pydantic import BaseModel

LONGEST_SHOWN = 80


@dataclass(frozen=True)
class Meaning:
    """What a value must be, in words, where its Python type does not say enough; stands in `Annotated[...]`."""

    one: str
    many: str


@dataclass(frozen=True, eq=False)
class OneOf:
    """The names a value is chosen from; stands in `Annotated[...]`. Read anew at each use, so that a new name counts at once."""

    names: Collection[str]

    def check(self, value: str) -> str:
        """Return `value`, or raise ValueError with the names and the nearest of them."""
        if value not in self.names:
            raise ValueError(f"must be {choice(self.names)}, found {shown(value)}{did_you_mean(value, self.names)}")
        return value


def shown(value: object) -> str:
    """A value as a person would write it in YAML, cut where it is long."""
    if value is None:
        return "nothing (null)"
    text = _flow(value)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 4] + " ..."


def plain(value: object) -> Any:
    """Lists for tuples and text for paths, all the way down: what YAML and a safe checkpoint can hold."""
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _flow(value: object) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    return repr(value) if isinstance(value, str) else str(value)


def did_you_mean(name: object, names: Iterable[str], prefix: str = "") -> str:
    """A closing remark naming the nearest of `names`, with `prefix` before it, or nothing where none is near."""
    by_lower = {known.lower(): known for known in names}
    near = get_close_matches(str(name).lower(), list(by_lower), n=1, cutoff=0.6)
    return f"; did you mean '{prefix}{by_lower[near[0]]}'?" if near else ""


def choice(names: Iterable[str], *more: str) -> str:
    """The names of an enumeration as text: "'a', 'b' or 'c'"; `more` without quotes."""
    return listed([*(f"'{name}'" for name in names), *more], "or")


def listed(words: Iterable[str], joint: str = "and") -> str:
    """Words as an enumeration in prose: "a, b and c"."""
    *front, last = words
    return f"{', '.join(front)} {joint} {last}" if front else last


def expected(annotation: Any, many: bool = False) -> str:
    """What a value of this type must be: "a whole number of at least 1 or null", "3 numbers above 0"."""
    base, metadata = (get_args(annotation)[0], get_args(annotation)[1:]) if get_origin(annotation) is Annotated else (annotation, ())
    for remark in metadata:
        if isinstance(remark, Meaning):
            return remark.many if many else remark.one
        if isinstance(remark, OneOf):
            return choice(remark.names)
    if get_origin(base) in (Union, types.UnionType):
        return _one_of_several(get_args(base), many)
    return _noun(base, many) + _bounds(metadata)


def _one_of_several(arms: Iterable[Any], many: bool) -> str:
    """The arms of a union in words: enumerations as one, after whatever else is allowed, and null last."""
    arms = list(arms)
    others = [expected(arm, many) for arm in arms if arm is not type(None) and not choices_of(arm)]
    names = [f"'{name}'" for arm in arms for name in choices_of(arm)]
    return listed([*others, *names, *(["null"] if type(None) in arms else [])], "or")


def choices_of(annotation: Any) -> tuple[str, ...]:
    """The names a value of this type is chosen from; empty where it is not an enumeration."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    found: list[str] = []
    for part in get_args(annotation):
        found += part.names if isinstance(part, OneOf) else choices_of(part)
    return tuple(found)


def _noun(base: Any, many: bool) -> str:
    names = {int: "whole number", float: "number", str: "text", Path: "path"}
    if get_origin(base) is Literal:
        return choice(get_args(base))
    if get_origin(base) is tuple:
        items = get_args(base)
        if items[-1] is Ellipsis:
            return f"{'lists' if many else 'a list'} of {expected(items[0], many=True)}"
        return f"{'lists' if many else 'a list'} of {len(items)} {expected(items[0], many=True)}"
    if base is bool:
        return "true or false"
    if isinstance(base, type) and issubclass(base, BaseModel):
        return f"a block of keys ({', '.join(base.model_fields)})"
    if base is str:
        return "texts" if many else "text"
    return f"{names[base]}s" if many else f"a {names[base]}"


def _bounds(metadata: Iterable[Any]) -> str:
    low = next((remark for remark in metadata if isinstance(remark, (at.Ge, at.Gt))), None)
    high = next((remark for remark in metadata if isinstance(remark, (at.Le, at.Lt))), None)
    if isinstance(low, at.Ge) and isinstance(high, at.Le):
        return f" from {low.ge} to {high.le}"
    words = []
    if low:
        words.append(f"of at least {low.ge}" if isinstance(low, at.Ge) else f"above {low.gt}")
    if high:
        words.append(f"of at most {high.le}" if isinstance(high, at.Le) else f"below {high.lt}")
    return " " + " and ".join(words) if words else ""
