"""Checkpoints: plain content only, safe loads, and messages for every file that is none."""

import os
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fuse_examples.imaging.oai_example.errors import WeightsError
from fuse_examples.imaging.oai_example.training.checkpoints import (
    FORMAT_VERSION,
    check_plain,
    read_checkpoint,
    read_run_checkpoint,
    write_checkpoint,
)


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    content = {"w": torch.arange(3.0), "project": {"format_version": FORMAT_VERSION, "classes": ["a", None, 1, 2.5, True, (1,)]}}
    write_checkpoint(content, tmp_path / "a.ckpt")
    back = read_run_checkpoint(tmp_path / "a.ckpt", "test_ckpt")
    assert torch.equal(back.pop("w"), content.pop("w"))
    assert back == content


@pytest.mark.parametrize(
    "value", [np.float64(1), np.zeros(2), Path("x"), {1, 2}, defaultdict(list), torch.float32, object(), np.random.get_state()]
)  # fmt: skip
def test_what_a_safe_load_may_refuse_is_not_written_and_named(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match=r"checkpoint\['callbacks'\]\[0\]\['best'\]"):
        write_checkpoint({"callbacks": [OrderedDict(best=value)]}, tmp_path / "a.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_keys_are_checked_too() -> None:
    with pytest.raises(TypeError, match="a key of checkpoint"):
        check_plain({np.int64(3): 1})


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    content = {"state_dict": Evil(tmp_path / "ran")}
    torch.save(content, tmp_path / "zip.ckpt")
    torch.save(content, tmp_path / "legacy.ckpt", _use_new_zipfile_serialization=False)
    for protocol in range(6):
        (tmp_path / f"pickle{protocol}.ckpt").write_bytes(pickle.dumps(content, protocol))
    for file in sorted(tmp_path.glob("*.ckpt")):
        with pytest.raises(WeightsError, match=rf"test_ckpt: .*{file.name} cannot be loaded: .*othing in it was run\.") as error:
            read_checkpoint(file, "test_ckpt")
        assert "weights_only" not in str(error.value)  # torch's own words advise to switch the safety off
        if file.stem in ("zip", "legacy"):
            assert "holds Python objects" in str(error.value)
    assert len(list(tmp_path.iterdir())) == 8  # and no "ran" among them


def torchscript(path: Path) -> None:
    torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1)).save(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the format itself
def test_a_file_that_holds_a_program_is_named_without_advice_to_run_it(tmp_path: Path) -> None:
    torchscript(tmp_path / "script.pt")
    with pytest.raises(
        WeightsError, match=r"test_ckpt: .*script\.pt cannot be loaded: its format \(TorchScript.*othing in it was run\."
    ) as error:
        read_checkpoint(tmp_path / "script.pt", "test_ckpt")
    assert "weights_only" not in str(error.value)


def test_a_file_cut_off_anywhere_is_named(tmp_path: Path) -> None:
    write_checkpoint({"w": torch.arange(5000.0)}, tmp_path / "a.ckpt")
    whole = (tmp_path / "a.ckpt").read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.ckpt").write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=r"dino_weights: .*cut.ckpt cannot be loaded: it is cut off, damaged or not a torch file"):
            read_checkpoint(tmp_path / "cut.ckpt", "dino_weights")


def test_other_files_folders_addresses_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("hello, this is no checkpoint\n" * 20)
    torch.save(torch.zeros(2), tmp_path / "tensor.ckpt")
    for path, text in (
        (tmp_path / "text.ckpt", "cannot be loaded"),
        (tmp_path / "tensor.ckpt", "holds a Tensor, not a checkpoint"),
        (tmp_path, "is a folder, not a checkpoint file"),
        (tmp_path / "missing.ckpt", "missing.ckpt does not exist"),
        ("https://example.org/a.ckpt", "is an address on the network. Download the file"),
    ):
        with pytest.raises(WeightsError, match=f"suprem_weights: .*{text}"):
            read_checkpoint(path, "suprem_weights")


@pytest.mark.parametrize("name", ["file", "closed/file"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(name: str, locked: Path) -> None:
    with pytest.raises(WeightsError) as error:
        read_checkpoint(locked / name, "test_ckpt")
    told = "Give this account the right to read it and to enter every folder above it, or name a file that it may read."
    assert str(error.value) == f"test_ckpt: {locked / name} cannot be read: Permission denied. {told}"


def test_a_disk_that_fails_is_not_called_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> Any:
        raise OSError(5, "Input/output error")

    (tmp_path / "a.ckpt").touch()
    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(WeightsError, match=r"a\.ckpt cannot be read: Input/output error\. Try again, or copy it to another disk\."):
        read_checkpoint(tmp_path / "a.ckpt", "test_ckpt")


def test_checkpoints_of_other_programs_and_of_later_versions_cannot_be_resumed(tmp_path: Path) -> None:
    write_checkpoint({"state_dict": {}}, tmp_path / "theirs.ckpt")
    with pytest.raises(WeightsError, match=r"test_ckpt: .*theirs.ckpt was not written by a run of this project"):
        read_run_checkpoint(tmp_path / "theirs.ckpt", "test_ckpt")
    write_checkpoint({"project": {"format_version": FORMAT_VERSION + 1}}, tmp_path / "later.ckpt")
    with pytest.raises(WeightsError, match=rf"has checkpoint format {FORMAT_VERSION + 1}, and this version reads up to {FORMAT_VERSION}"):
        read_run_checkpoint(tmp_path / "later.ckpt", "test_ckpt")
    write_checkpoint({"project": {"format_version": "one"}}, tmp_path / "damaged.ckpt")
    with pytest.raises(WeightsError, match=r"test_ckpt: .*damaged.ckpt has checkpoint format one"):
        read_run_checkpoint(tmp_path / "damaged.ckpt", "test_ckpt")
