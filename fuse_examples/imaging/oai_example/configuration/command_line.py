"""The command line of the entry scripts: what they are told, and how they end."""

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from fuse_examples.imaging.oai_example.configuration.help_text import help_text
from fuse_examples.imaging.oai_example.configuration.loading import load_config
from fuse_examples.imaging.oai_example.configuration.script_config import ScriptConfig
from fuse_examples.imaging.oai_example.errors import ConfigError, UserError, no_room

Config = TypeVar("Config", bound=ScriptConfig)


def parse_command_line(schema: type[Config], default_yaml: Path, argv: Sequence[str] | None = None) -> tuple[Config, bool]:
    """Read `[--config FILE] [--check] [key=value ...]`; `--help` prints every key and ends the program with code 0.

    Args:
        schema: the stage's class.
        default_yaml: the file to read without `--config`.
        argv: the words after the program's name; by default those of this process.

    Returns:
        The configuration, and whether `--check` was given.

    Raises:
        ConfigError: with every mistake of the words and the file; a CSV file or weight file that is not there is one.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(words):
        print(help_text(schema), end="")
        raise SystemExit(0)
    yaml_path, words = _take_config(words, default_yaml)
    check = "--check" in words
    return load_config(schema, yaml_path, [word for word in words if word != "--check"], files_must_exist=True), check


def take_flags(argv: Sequence[str]) -> tuple[bool, int | None, list[str]]:
    """Take `--list` and `--cell NUMBER` out of the words of a study.

    Returns:
        Whether `--list` was given, the number of the run to do alone, and the other words.

    Raises:
        ConfigError: `--cell` without a number, or both.
    """
    words, number = list(argv), None
    for place, word in enumerate(words):
        if word == "--cell" or word.startswith("--cell="):
            text = word.partition("=")[2] or "".join(words[place + 1 : place + 2])
            if not text.isdecimal():
                raise ConfigError(f"command line: --cell takes the number of a run, found {text or 'nothing'}; --list shows them")
            del words[place : place + (2 if word == "--cell" else 1)]
            number = int(text)
            break
    listed = "--list" in words
    if listed and number is not None:
        raise ConfigError("command line: --list and --cell are both given; give one of them")
    return listed, number, [word for word in words if word != "--list"]


def run_entry(main: Callable[[], None]) -> int:
    """Run an entry script's `main` and return its exit code.

    0: done. 2: a mistake the user can mend, a full disk among them; the message goes to standard error, without a traceback. An
    exception with an `exit_code` (a run that was interrupted) ends with that code and its message. 130: Ctrl-C before the run handles
    signals itself.
    1: our own mistake, with the traceback.
    """
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except SystemExit:
        raise
    except BaseException as error:
        if (full := no_room(error)) is not None:
            print(full, file=sys.stderr)
            return 2
        code = getattr(error, "exit_code", None)
        if not isinstance(code, int):
            traceback.print_exc()
            return 1
        print(error, file=sys.stderr)
        return code
    return 0


def _take_config(words: list[str], default_yaml: Path) -> tuple[Path, list[str]]:
    """Take `--config FILE` or `--config=FILE` out of the words."""
    given: list[str] = []
    rest: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--config":
            given.append(next(left, ""))
        elif word.startswith("--config="):
            given.append(word.removeprefix("--config="))
        else:
            rest.append(word)
    if len(given) > 1 or "" in given:
        raise ConfigError(f"command line: --config: takes one YAML file, found {len([name for name in given if name])}")
    return (Path(given[0]) if given else default_yaml), rest
