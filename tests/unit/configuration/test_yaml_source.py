"""YAML 1.2's core schema, with lines."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.configuration.yaml_source import read_file, read_text, write_text
from fuse_examples.imaging.oai_example.errors import ConfigError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=["Cs", "Cc"]))
TEXTS_THAT_LOOK_LIKE_SOMETHING_ELSE = st.sampled_from(
    ["1e-4", "0o7", "010", "null", "~", "no", "on", "1_000", "12:30", "2024-05-01", ".inf", "<<", "=", "", " a", "a: b", "# c", "0x1F"]
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E5", 1e5), ("-.5", -0.5), ("3.", 3.0), (".inf", float("inf")), ("-.INF", float("-inf")),
        ("010", 10), ("0x1f", 31), ("0o17", 15), ("-7", -7),
        ("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None),
        ("yes", "yes"), ("no", "no"), ("off", "off"), ("1_000", "1_000"), ("12:30", "12:30"), ("2024-05-01", "2024-05-01"),
        ("'1e-4'", "1e-4"), ('"null"', "null"), ("!!str 5", "5"), ("!!float 3", 3.0), ("e5", "e5"), ("1e", "1e"), ("none", "none"),
    ],
)  # fmt: skip
def test_a_scalar_is_what_the_core_schema_says(text: str, value: object) -> None:
    found = read_text(text)
    assert (found.value, type(found.value), found.problems) == (value, type(value), [])


def test_every_key_and_item_has_its_line() -> None:
    source = read_text("# comment\na: 1\nb:\n  c: [1,\n    2]\n  d:\n  - x\n  - {e: 5}\n")
    assert source.value == {"a": 1, "b": {"c": [1, 2], "d": ["x", {"e": 5}]}}
    assert {".".join(path): line for path, line in source.lines.items() if path} == {
        "a": 2, "b": 3, "b.c": 4, "b.c.0": 4, "b.c.1": 5, "b.d": 6, "b.d.0": 7, "b.d.1": 8, "b.d.1.e": 8,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", (3, "the key 'a' is repeated; it was set on line 1 already")),
        ("a:\n  b: 1\n  b: 2\n", (3, "the key 'a.b' is repeated; it was set on line 2 already")),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", (3, "merge keys (<<) are not read; write the keys out")),
        ("a: &x [1, *x]\n", (1, "'a.1' contains itself through an alias")),
        ("? [1, 2]\n: 3\n", (1, "a key must be plain text, found a list or a block")),
        ("a: !!python/name:os.system\n", (1, "the tag !!python/name:os.system is not allowed; write a plain value")),
        ("a: !!set {b, c}\n", (1, "the tag !!set is not allowed; write a plain value")),
        ("a: 1\nb: !!int x\n", (2, "'x' does not fit its tag !!int")),
        ("a: !mine {b: 1}\n", (1, "the tag !mine is not allowed; write a plain value")),
    ],
)
def test_what_is_not_read_is_told(text: str, problem: tuple[int, str]) -> None:
    assert read_text(text).problems == [problem]


def test_an_alias_repeats_its_value() -> None:
    assert read_text("a: &x [1, 2]\nb: *x\n").value == {"a": [1, 2], "b": [1, 2]}


def test_keys_stay_text() -> None:
    assert read_text("on: 1\n1: 2\nnull: 3\n'<<': 4\n").value == {"on": 1, "1": 2, "null": 3, "<<": 4}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: [1\nb: 2\n", r"cfg.yaml:2: not valid YAML: while parsing a flow sequence expected ',' or ']', but got ':'"),
        (
            b"a: 1\n\tb: 2\n",
            r"cfg.yaml:2: not valid YAML: while scanning for the next token found character '\t' that cannot start any token",
        ),
        (b"a: 1\n---\nb: 2\n", r"cfg.yaml:2: not valid YAML: expected a single document in the stream but found another document"),
        (b"a: *x\n", r"cfg.yaml:1: not valid YAML: found undefined alias 'x'"),
        (b"a: 1\nb: \x07\n", r"cfg.yaml:2: not valid YAML: the character '\x07' is not allowed"),
        (b"a: \xff\n", r"cfg.yaml: not a text file in UTF-8 (byte 3)"),
        (b"\n- a\n- b\n", r"cfg.yaml:2: the file must hold 'key: value' lines, found ['a', 'b']"),
        (b"hello\n", r"cfg.yaml:1: the file must hold 'key: value' lines, found 'hello'"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_at_its_line(data: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cfg.yaml").write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_file(Path("cfg.yaml"))
    assert str(caught.value) == message


def test_a_byte_order_mark_and_an_empty_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_file(tmp_path / "bom.yaml").value == {"a": 1}
    assert read_file(tmp_path / "empty.yaml").value is None


@given(st.dictionaries(st.text("abc", min_size=1), SCALARS | TEXTS_THAT_LOOK_LIKE_SOMETHING_ELSE | st.lists(SCALARS), max_size=4))
def test_what_is_written_is_read_back_and_other_readers_agree(values: dict[str, Any]) -> None:
    text = write_text(values)
    source = read_text(text)
    assert source.problems == []
    assert repr(source.value) == repr(values)
    assert yaml.safe_load(text) == values
