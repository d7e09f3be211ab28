import json
import os
from pathlib import Path

import pytest

from fuse_examples.imaging.oai_example.evaluation.whole_files import write_json, write_table, write_whole


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "a.txt"
    write_whole(path, "größer")
    assert path.read_text(encoding="utf-8") == "größer"

    def full(source: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"other")
    assert path.read_text(encoding="utf-8") == "größer"
    assert list(path.parent.iterdir()) == [path]


def test_json_is_standard_and_keeps_every_digit(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ü": [1 / 3, None, 2]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ü": [1 / 3, None, 2]}
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON compliant"):
            write_json(tmp_path / "b.json", {"a": wrong})
    assert not (tmp_path / "b.json").exists()


def test_tables_quote_and_leave_undefined_cells_empty(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", ["a", "b,c"], [['x"y', None], [float("nan"), 0.1 + 0.2]])
    assert (tmp_path / "a.csv").read_bytes() == b'a,"b,c"\n"x""y",\n,0.30000000000000004\n'
