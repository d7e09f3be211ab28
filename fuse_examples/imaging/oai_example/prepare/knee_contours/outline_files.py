"""iMorphics' two forms of outlines: MATLAB structures per slice (.mat), and text in nested braces (.txt)."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.prepare.knee_contours.outlines import STRUCTURES, Outlines, Points

Collected = dict[int, dict[str, list[Points]]]


@dataclass(frozen=True)
class OutlineFile:
    """Outlines of a knee.

    Attributes:
        outlines: by slice and structure.
        slices: number of slices the file speaks of; None where it only names those with outlines.
    """

    outlines: Outlines
    slices: int | None


def read_outlines(path: Path, rows: int) -> OutlineFile:
    """Read a .mat or .txt file of outlines of a scan with `rows` rows; raise `DataError` for what is neither."""
    found = _read_mat(path, rows) if path.suffix.lower() == ".mat" else _read_text(path, rows)
    if not found.outlines:
        raise DataError(f"{path}: holds no outline of {', '.join(STRUCTURES)}.")
    return found


def _read_mat(path: Path, rows: int) -> OutlineFile:
    """`datastruct` has an entry per slice with a field per structure: a row of cells, each (points, 2 or more), x and y.

    y runs upwards from the lower edge: the image row is rows - y. x and y count from the image's edge, so that their whole part is the
    voxel that a point lies in; a voxel's centre is then half a voxel further.
    """
    try:
        content = loadmat(path, struct_as_record=False)
    except NotImplementedError as error:
        raise DataError(f"{path}: is a MATLAB 7.3 file. Save it with -v7 in MATLAB.") from error
    except Exception as error:  # damaged files raise many kinds
        raise DataError(f"{path}: cannot be read as a MATLAB file ({error}).") from error
    if "datastruct" not in content:
        named = ", ".join(key for key in content if not key.startswith("__"))
        raise DataError(f"{path}: has no variable datastruct; found {named or 'none'}.")
    entries = np.atleast_2d(content["datastruct"])[0]
    collected: Collected = defaultdict(lambda: defaultdict(list))
    for index, entry in enumerate(entries):
        for name in STRUCTURES:
            for piece in _cells(getattr(entry, name, None)):
                points = np.asarray(piece, float)
                if points.ndim == 2 and points.shape[1] >= 2:
                    collected[index][name].append(np.column_stack([points[:, 0] - 0.5, rows - points[:, 1] - 0.5]))
    return OutlineFile(collected, len(entries))


def _cells(value: Any) -> Iterator[Any]:
    """Return the pieces of a field: of a row of cells each, of a bare matrix itself, of an empty one none."""
    array = np.asarray(value)
    if array.dtype == object and array.ndim:
        yield from (cell for cell in array.ravel() if np.size(cell))
    elif array.ndim == 2 and array.size:
        yield array


@dataclass
class _Block:
    name: str = ""
    numbers: list[float] = field(default_factory=list)
    blocks: "list[_Block]" = field(default_factory=list)

    def leaves(self) -> "Iterator[_Block]":
        if self.numbers:
            yield self
        for block in self.blocks:
            yield from block.leaves()


def _read_text(path: Path, rows: int) -> OutlineFile:
    """Structures hold slices, slices pieces, pieces points "x y z" in voxels from their centres; the image row is rows - (y + 1).

    Structures are told by name, or where the file has none by their order.
    """
    root = _parse(path)
    if not any(block.name in STRUCTURES for block in root.blocks) and len(root.blocks) != len(STRUCTURES):
        raise DataError(f"{path}: has {len(root.blocks)} blocks without names; the structures are {len(STRUCTURES)}.")
    named = any(block.name in STRUCTURES for block in root.blocks)
    collected: Collected = defaultdict(lambda: defaultdict(list))
    for place, block in enumerate(root.blocks):
        name = block.name if named else STRUCTURES[place]
        for leaf in block.leaves():
            if name not in STRUCTURES:
                continue
            if len(leaf.numbers) % 3:
                raise DataError(f"{path}: a piece of {name} has {len(leaf.numbers)} numbers; points are three each, x y z.")
            points = np.array(leaf.numbers).reshape(-1, 3)
            index = round(float(points[0, 2]))
            if np.ptp(points[:, 2]) > 1e-6 or abs(points[0, 2] - index) > 1e-6 or index < 0:
                raise DataError(
                    f"{path}: a piece of {name} is not within one slice (z from {points[:, 2].min():g} to {points[:, 2].max():g})."
                )
            collected[index][name].append(np.column_stack([points[:, 0], rows - (points[:, 1] + 1)]))
    return OutlineFile(collected, None)


def _parse(path: Path) -> _Block:
    try:
        tokens = re.findall(r"[{}]|[^\s{},;:=\"]+", path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    stack = [_Block()]
    pending = ""
    for token in tokens:
        if token == "{":
            block = _Block(pending)
            stack[-1].blocks.append(block)
            stack.append(block)
            pending = ""
        elif token == "}":
            if len(stack) == 1:
                raise DataError(f"{path}: a brace is closed that was not opened.")
            stack.pop()
        else:
            try:
                stack[-1].numbers.append(float(token))
            except ValueError:
                pending = token
                if token in STRUCTURES and len(stack) == 2 and not stack[-1].name:
                    stack[-1].name, pending = token, ""
    if len(stack) != 1:
        raise DataError(f"{path}: ends within {len(stack) - 1} open braces; it may be cut off.")
    return stack[0]
