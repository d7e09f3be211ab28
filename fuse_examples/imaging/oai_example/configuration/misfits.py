"""The mistakes of single keys in words: what the key must be, what was found, and the nearest thing that would be right."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fuse_examples.imaging.oai_example.configuration.draft import Draft, KeyPath
from fuse_examples.imaging.oai_example.configuration.origin import Problem
from fuse_examples.imaging.oai_example.configuration.settings import Setting, blocks_of, keys_at, settings_of
from fuse_examples.imaging.oai_example.configuration.wording import did_you_mean, expected, shown

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


def misfits(error: ValidationError, draft: Draft) -> Iterator[Problem]:
    """What pydantic found, as problems at their places; each key is noted in the draft, so that rules leave it alone."""
    for detail in error.errors(include_url=False):
        path = tuple(str(part) for part in detail["loc"])
        if detail["type"] == "extra_forbidden":
            yield Problem(draft.origin(path), _unknown_key(path, draft))
        elif not draft.is_unreadable(path):
            key = ".".join(path[:2]) if path[0] in blocks_of(draft.schema) else path[0]
            draft.misshapen.add(key)
            yield Problem(draft.origin(path), _misfit(key, detail, draft))


def _misfit(key: str, detail: ErrorDetails, draft: Draft) -> str:
    block = blocks_of(draft.schema).get(key)
    if block is not None:
        return f"{key}: must be {expected(block)}, found {shown(detail['input'])}"
    setting = settings_of(draft.schema)[key]
    if tuple(key.split(".")) not in draft.origins:
        return f"the key '{key}' is missing: {setting.meaning}"
    if detail["type"] == "value_error":
        return f"{key}: {detail['ctx']['error']}"
    value = _at(draft.values, key)
    return f"{key}: must be {setting.expected}, found {shown(value)}{_remedy(setting, value)}"


def _at(values: Mapping[str, Any], key: str) -> Any:
    found: Any = values
    for part in key.split("."):
        found = found[part]
    return found


def _remedy(setting: Setting, value: Any) -> str:
    """What to write instead, where that can be guessed."""
    is_text = setting.expected.startswith(("text", "a folder name"))
    if isinstance(value, str) and setting.choices:
        return did_you_mean(value, setting.choices)
    if setting.expected.startswith("a list") and isinstance(value, (str, int, float)):
        return f"; write {setting.key}: [{shown(value)}]"
    if isinstance(value, dict) and (is_text or any(isinstance(item, dict) for item in value.values())):
        return "; put a text that holds a colon in quotes"
    if isinstance(value, (int, float)) and is_text:
        return f"; put it in quotes: '{shown(value)}'"
    if isinstance(value, str) and setting.expected.startswith(("a number", "a whole number")) and value.replace(".", "", 1).isdigit():
        return "; write it without quotes"
    if isinstance(value, float) and setting.expected.startswith("a whole number") and value.is_integer():
        return f"; write {int(value)}"
    return ""


def _unknown_key(path: KeyPath, draft: Draft) -> str:
    """Names the key and the likeliest of those that exist: the same name elsewhere, another program's name, or a near spelling."""
    name, around = path[-1], path[:-1]
    known = settings_of(draft.schema)
    elsewhere = [key for key in known if key.split(".")[-1] == name]
    other = OTHER_NAMES.get(name)
    if elsewhere or other in known:
        near = f"; did you mean '{(*elsewhere, other)[0]}'?"
    else:
        near = did_you_mean(name, keys_at(draft.schema, around), prefix="".join(f"{part}." for part in around))
    return f"unknown key '{'.'.join(path)}'{near or '; --help lists all keys'}"
