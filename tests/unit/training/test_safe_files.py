"""Files are whole or absent, whatever happens while they are written."""

import errno
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from fuse_examples.imaging.oai_example.errors import NoRoomError
from fuse_examples.imaging.oai_example.training import safe_files
from fuse_examples.imaging.oai_example.training.checkpoints import write_checkpoint
from fuse_examples.imaging.oai_example.training.safe_files import copy_whole, write_json, write_text, written_beside


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    target = tmp_path / "last.ckpt"
    target.write_text("old")

    def fail_half_way() -> None:
        with written_beside(target) as file:
            file.write(b"half")
            assert target.read_text() == "old"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"last.ckpt": "old"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_and_leaves_the_old_file(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "table.csv").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoRoomError) as caught:
        write_text(tmp_path / "table.csv", "new")
    assert str(caught.value) == (
        f"{tmp_path / 'table.csv'}: cannot be written: {os.strerror(number)}. Make room there, or choose a folder on another disk. "
        "Files that are there already are whole."
    )
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"table.csv": "old"}


def test_a_full_disk_is_told_of_a_checkpoint_though_torch_raises_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        room = 1000

        def write(self, content: Any) -> int:
            self.room -= len(content)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return len(content)

    class Temporary:
        def open(self, mode: str) -> Full:
            return Full()

    @contextmanager
    def replacing(path: Path) -> Iterator[Temporary]:
        yield Temporary()

    monkeypatch.setattr(safe_files, "_replacing", replacing)
    with pytest.raises(NoRoomError, match=r"last\.ckpt: cannot be written: No space left on device") as caught:
        write_checkpoint({"state_dict": {"weight": torch.zeros(100)}}, tmp_path / "last.ckpt")
    assert not isinstance(caught.value.__cause__, OSError)  # torch's


def test_a_write_replaces_the_file_and_the_rest_of_a_killed_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "x", "old")
    (tmp_path / "a" / ".x.partial").write_text("left by a killed run")
    write_text(tmp_path / "a" / "x", "é new")
    assert {path.name: path.read_text() for path in (tmp_path / "a").iterdir()} == {"x": "é new"}


@pytest.mark.parametrize("links", [True, False])
def test_a_copy_stays_when_its_source_is_replaced(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise OSError("no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    write_text(tmp_path / "best", "epoch 1")
    copy_whole(tmp_path / "best", tmp_path / "last")
    assert (tmp_path / "best").samefile(tmp_path / "last") == links
    write_text(tmp_path / "last", "epoch 2")
    assert (tmp_path / "best").read_text() == "epoch 1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "last"]


def test_json_has_null_where_a_figure_is_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1.5, float("nan"), (float("inf"),)], "b": None, "c": "NaN"})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [1.5, None, [None]], "b": None, "c": "NaN"}
