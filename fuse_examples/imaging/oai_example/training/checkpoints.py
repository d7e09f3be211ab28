"""Reading and writing checkpoints: whole or absent, and nothing in them but tensors and plain Python values."""

import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from fuse_examples.imaging.oai_example.errors import WeightsError, unreadable
from fuse_examples.imaging.oai_example.training.safe_files import written_beside

FORMAT_VERSION = 1
PROJECT = "project"
"""The entry of a checkpoint that is this project's own: format_version, configuration, preprocessing, class names, patient hashes, ..."""

PLAIN = (bool, int, float, str, bytes, type(None))


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's plug-in for checkpoint files: written beside and renamed, plain content, safe loads."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`. Raises TypeError, naming the entry, for content that a safe load would refuse."""
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint safely, whatever `weights_only` says, onto the CPU."""
        return read_checkpoint(path, "resume_training_from")


def write_checkpoint(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint whole or not at all. Raises TypeError for content that is not plain, which is a mistake of ours."""
    check_plain(checkpoint)
    with written_beside(path) as file:
        torch.save(checkpoint, file)


def read_checkpoint(path: str | Path, key: str) -> dict[str, Any]:
    """Read a checkpoint or another file of weights without running any code it may hold; tensors arrive on the CPU.

    Args:
        path: the file. Addresses on the network are refused.
        key: the configuration key that named it, for messages.

    Raises:
        WeightsError: the file is absent, cut off, of another kind, or holds objects that only code could make.
    """
    if "://" in str(path):
        raise WeightsError(f"{key}: {path} is an address on the network. Download the file, check where it is from, and give its path.")
    file = Path(path)
    try:
        if not file.is_file():
            what = "is a folder, not a checkpoint file" if file.is_dir() else "does not exist"
            raise WeightsError(f"{key}: {path} {what}. Give the path of a checkpoint such as results/<experiment>/checkpoints/last.ckpt.")
        with file.open("rb") as opened:
            opened.read(1)
    except OSError as error:  # the file is not at fault: a new copy of it would be no more readable
        raise WeightsError(f"{key}: {path} {unreadable(error)}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on pickle protocols; a file that cannot be read is reported below
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises RuntimeError, EOFError, ValueError, KeyError and UnpicklingError for broken files; all mean the same to a reader.
        raise WeightsError(f"{key}: {path} cannot be loaded: {_reason(error)}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{key}: {path} holds a {type(content).__name__}, not a checkpoint. Give a file with named weights.")
    return content


def read_run_checkpoint(path: str | Path, key: str) -> dict[str, Any]:
    """Read a checkpoint that a run of this project wrote; its `PROJECT` entry is there and of a version that is understood.

    Raises:
        WeightsError: as `read_checkpoint`, and for checkpoints of other programs or of a later version of this one.
    """
    content = read_checkpoint(path, key)
    project = content.get(PROJECT)
    if not isinstance(project, dict) or "format_version" not in project:
        raise WeightsError(
            f"{key}: {path} was not written by a run of this project (it has no entry '{PROJECT}'). Give a checkpoint of an experiment's "
            "checkpoints folder; other weights go to dino_weights or suprem_weights."
        )
    version = project["format_version"]
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise WeightsError(
            f"{key}: {path} has checkpoint format {version}, and this version reads up to {FORMAT_VERSION}. Update the program."
        )
    return content


def check_plain(value: Any, place: str = "checkpoint") -> None:
    """Raise TypeError, naming the place, unless `value` is made of tensors, numbers, texts, None, lists, tuples and dictionaries."""
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():
            check_plain(key, f"a key of {place}")
            check_plain(item, f"{place}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            check_plain(item, f"{place}[{index}]")
    elif type(value) not in (*PLAIN, torch.Tensor, torch.nn.Parameter):
        # Exact types: NumPy's float64 is a float, and a safe load refuses it all the same.
        raise TypeError(
            f"{place} is a {type(value).__module__}.{type(value).__qualname__}; checkpoints hold tensors and plain Python values only"
        )


OBJECTS = re.compile(r"GLOBAL \S+|Can only (build|create new object)|unrecognized function")
"""What torch's safe unpickler says of objects that only code could make; its other complaints are about bytes that are no pickle at all."""
PROGRAMS = re.compile(r"weights_only=True\W+with")
"""What torch says of TorchScript archives and of its tar format from before 2018."""


def _reason(error: Exception) -> str:
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) and OBJECTS.search(text):
        return (
            "it holds Python objects besides tensors and plain values, which only running code from the file could make. "
            "Nothing in it was run. Use a file of tensors alone."
        )
    if PROGRAMS.search(text):
        return (
            "its format (TorchScript, or a tar file) holds a program besides tensors. Nothing in it was run. Use a file of tensors alone."
        )
    # Torch's own words may advise loading without the safety; they are left out.
    detail = type(error).__name__ if "weights_only" in text or not text else text.splitlines()[0]
    return f"it is cut off, damaged or not a torch file ({detail}); nothing in it was run. Copy or download it again."
