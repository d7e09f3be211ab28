"""Tables, JSON and pages that are whole or absent."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.training.safe_files import written_beside


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader sees all of it or none; makes the folder. Text is written as UTF-8."""
    with written_beside(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON that every parser reads: a NaN or an infinity is a ValueError, not a word outside the standard."""
    write_whole(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file; None and NaN become empty cells, other numbers keep every digit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(["" if cell is None or cell != cell else cell for cell in row])
    write_whole(path, text.getvalue())
