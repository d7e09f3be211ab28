"""Reading weight files of any container without running anything that a file may carry.

Content decides, not the name: safetensors, PyTorch's zip format and its older pickle format, the latter two through PyTorch's
restricted unpickler only.
"""

import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from fuse_examples.imaging.oai_example.errors import WeightsError, unreadable

# The entry of our own checkpoints that holds plain metadata, and the metadata field of our safetensors files (as JSON).
PROJECT_ENTRY = "project"
FORMAT_VERSION = 1
# Entries under which published checkpoints keep their tensors, in the order they are looked for.
TENSOR_ENTRIES = ("net", "state_dict", "model", "network_weights", "teacher")

_ZIP = b"PK\x03\x04"
_WEB_ADDRESS = re.compile(r"^[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
# Torch's words for the two formats that it never reads safely, and ours.
_NEVER_SAFE = {"TorchScript archive": "a TorchScript archive", "legacy .tar format": "in torch's tar format from before 2018"}
_PYTHON_PICKLE = re.compile(rb"\x80[\x03-\x05]")  # torch.save writes protocol 2
_FORBIDDEN_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


@dataclass(frozen=True)
class WeightFile:
    """What a weight file holds, on the CPU.

    Attributes:
        path, key: the file and the configuration key that named it, for messages.
        entry: the entry of the container that held the tensors, "" for tensors without a container.
        tensors: by the file's own names.
        metadata: plain values that this project wrote; empty in other files.
    """

    path: Path
    key: str
    entry: str
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


def read_weight_file(path: Path, key: str) -> WeightFile:
    """Read a weight file safely.

    Raises:
        WeightsError: naming `key` and `path`, for an address, a missing, truncated or foreign file, one that would run code, or one of
            a format version that this code does not know.
    """
    path = Path(path)
    file = _read(path, key)
    version = file.metadata.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise WeightsError(f"{key}: {path} has format version {version}; this code reads {FORMAT_VERSION}. Use the version that wrote it.")
    return file


def _read(path: Path, key: str) -> WeightFile:
    beginning = _beginning(path, key)
    if beginning[8:9] == b"{":
        return _read_safetensors(path, key)
    content = _load(path, key, beginning)
    if not isinstance(content, Mapping):
        raise WeightsError(f"{key}: {path} holds a {type(content).__name__}, not a checkpoint. Give a file with named tensors.")
    entry = next((name for name in TENSOR_ENTRIES if isinstance(content.get(name), Mapping)), "")
    named = content[entry] if entry else content
    tensors = {str(name): value for name, value in named.items() if isinstance(value, Tensor)}  # names that are numbers occur
    metadata = content.get(PROJECT_ENTRY, {})
    if not tensors or not isinstance(metadata, dict):
        listed = f"{', '.join(TENSOR_ENTRIES[:-1])} or {TENSOR_ENTRIES[-1]}"
        entries = ", ".join(str(name) for name in list(content)[:8]) or "none"
        raise WeightsError(
            f"{key}: {path} holds no named tensors, neither at its top nor under {listed}; its entries: {entries}. "
            "Give a checkpoint of a network."
        )
    bare = [name for name, value in tensors.items() if not has_plain_values(value)]
    if bare:
        raise WeightsError(
            f"{key}: {path} holds tensors that are sparse, quantised or without values ({len(bare)}, first {bare[0]}). "
            "Save the network's state dict with dense floating-point tensors."
        )
    return WeightFile(path, key, entry, tensors, metadata)


def has_plain_values(value: Tensor) -> bool:
    """Whether a tensor is dense and its numbers are there and are what they say; torch's safe loading gives others too."""
    return value.layout == torch.strided and not (value.is_meta or value.is_quantized or value.is_nested)


def _beginning(path: Path, key: str) -> bytes:
    if _WEB_ADDRESS.match(str(path)):
        raise WeightsError(f"{key}: {path} is an address. Weights are read from files only: download it and give the file's path.")
    try:
        if not path.is_file():
            found = "a folder" if path.is_dir() else "not there"
            raise WeightsError(f"{key}: {path} is {found}. Give the path of a weight file.")
        with path.open("rb") as file:
            beginning = file.read(64)
    except OSError as error:
        raise WeightsError(f"{key}: {path} {unreadable(error)}") from error
    if not beginning:
        raise WeightsError(f"{key}: {path} is empty. Copy or download it again.")
    if beginning.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise WeightsError(f"{key}: {path} is a web page, not a weight file. Download the file itself.")
    if beginning.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{key}: {path} is a Git LFS pointer, not the weights. Fetch the file itself, for example with git lfs pull.")
    return beginning


def _read_safetensors(path: Path, key: str) -> WeightFile:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            texts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping: it has no __iter__
        metadata = json.loads(texts.get(PROJECT_ENTRY, "{}"))
    except Exception as error:
        raise _unreadable(path, key, error) from error
    if not tensors or not isinstance(metadata, dict):
        raise WeightsError(f"{key}: {path} holds no named tensors. Give a checkpoint of a network.")
    return WeightFile(path, key, "", tensors, metadata)


def _load(path: Path, key: str, beginning: bytes) -> object:
    try:
        with torch.serialization.safe_globals(_numpy_scalars()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's protocol; what cannot be read is an error below
            # Mapped, the two thirds of a training checkpoint that are optimiser state are never read.
            content: object = torch.load(path, map_location="cpu", weights_only=True, mmap=beginning.startswith(_ZIP))
            return content
    except Exception as error:
        # The restricted unpickler raises many kinds of exception on bytes that are not a checkpoint.
        forbidden = _FORBIDDEN_GLOBAL.search(str(error))
        kind = next((kind for words, kind in _NEVER_SAFE.items() if words in str(error)), None)
        if kind is not None:
            raise WeightsError(
                f"{key}: {path} is {kind}, which cannot be read without running what it holds. Nothing was run. "
                "Where you trust it, load it in a program of yours and save its state dict."
            ) from error
        if forbidden:
            raise WeightsError(
                f"{key}: {path} is not only tensors: reading it would run {forbidden[1]}. Nothing was run. "
                "Use a file from a source you trust, saved as a state dict or as safetensors."
            ) from error
        if _PYTHON_PICKLE.match(beginning):
            raise WeightsError(
                f"{key}: {path} is a pickle of Python's own, of protocol {beginning[1]}, which cannot be read without running what it "
                "holds. Nothing was run. Where you trust it, load it in a program of yours and save the tensors with torch.save."
            ) from error
        raise _unreadable(path, key, error) from error


def _unreadable(path: Path, key: str, error: Exception) -> WeightsError:
    text = str(error).strip()
    # Torch's own words may advise loading without the safety; they are left out.
    reason = type(error).__name__ if "weights_only" in text or not text else text.splitlines()[0][:160]
    return WeightsError(
        f"{key}: {path} is truncated or is no checkpoint ({reason}). Nothing in it was run. "
        "Copy or download it again, and compare its size with the original's."
    )


def _numpy_scalars() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    # Published training checkpoints sometimes keep an epoch or a learning rate as a NumPy number, which is as plain as a float. The
    # second name is the one that NumPy 1 wrote.
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    assert callable(scalar)
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]
