"""What a run ran on and with: the contents of `environment.json`."""

import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fuse_examples.imaging.oai_example.training.seeding import determinism_status
from fuse_examples.imaging.oai_example.training.trainer import device_kind

PACKAGES = (
    "torch", "pytorch-lightning", "monai", "numpy", "scipy", "pandas", "pydicom", "nibabel", "pylibjpeg-openjpeg", "torchmetrics",
    "safetensors", "tensorboard", "clearml",
)  # fmt: skip
ROOT = Path(__file__).parents[4]
"""The checkout, when the package is used from one."""


def describe_environment(seed: int | None, root: Path = ROOT) -> dict[str, Any]:
    """Return versions, git commit, device, seed, command line and determinism as plain values; names neither the user nor the machine."""
    kind = device_kind()
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in PACKAGES},
        "git": git_commit(root),
        "device": {"kind": kind, "names": _device_names(kind), "threads": torch.get_num_threads()},
        "seed": seed,
        "determinism": determinism_status(kind),
    }


def git_commit(root: Path) -> dict[str, Any] | None:
    """Return commit and whether files differ from it, or None where `root` is not the top of a checkout (an installed package)."""
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "changed_files": None if changed is None else len(changed.splitlines())}


def _git(root: Path, *words: str) -> str | None:
    try:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device_names(kind: str) -> list[str]:
    if kind == "cuda":
        return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [_processor_name()]


def _processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    try:
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
