"""The text of `--help`: every key of a stage with its type, default and meaning."""

import textwrap

from fuse_examples.imaging.oai_example.configuration.script_config import ScriptConfig
from fuse_examples.imaging.oai_example.configuration.settings import REQUIRED, SECTIONS, Setting, settings_of
from fuse_examples.imaging.oai_example.configuration.wording import shown

WIDTH = 100


def help_text(schema: type[ScriptConfig]) -> str:
    """All that `--help` prints for one stage, in lines of at most 100 characters."""
    stage = schema.script.rsplit("/", 1)[-1].removesuffix(".py")
    summary = (schema.__doc__ or "").strip().splitlines()[0]
    flags = "".join(f" [{flag}]" for flag in schema.FLAGS)
    parts = [
        f"usage: python {schema.script}\n       [--config FILE] [--check]{flags} [key=value ...]",
        summary,
        _entry("--config FILE", f"The YAML file to read instead of configs/{stage}_config.yaml."),
        _entry("--check", "Do everything up to one batch forward and backward, say what the run would do, and stop."),
        *(_entry(flag, meaning) for flag, meaning in schema.FLAGS.items()),
        _entry("--help", "Print this text."),
        _entry("key=value", "Lay a value over the YAML file's. The value is YAML; dots reach into blocks: intensity.method=zscore."),
    ]
    head = "\n\n".join(parts[:2]) + "\n\n" + "\n".join(parts[2:])
    return "\n\n".join([head, *filter(None, (_section(name, schema) for name in SECTIONS))]) + "\n"


def _section(name: str, schema: type[ScriptConfig]) -> str:
    entries = [_setting(one) for one in settings_of(schema).values() if one.section == name]
    return "\n".join([f"{name}:", *entries]) if entries else ""


def _setting(one: Setting) -> str:
    default = "required" if one.default is REQUIRED else f"default {_default(one.default)}"
    return _entry(f"{one.key}: {one.expected}; {default}", one.meaning)


def _default(value: object) -> str:
    return "null" if value is None else str(value) if isinstance(value, str) else shown(value)


def _entry(head: str, meaning: str) -> str:
    first = textwrap.fill(head, WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return f"{first}\n{textwrap.fill(meaning, WIDTH, initial_indent='      ', subsequent_indent='      ', break_on_hyphens=False)}"
