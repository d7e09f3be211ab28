"""The codes that say in DICOM what a structure is: a YAML file with a category and a type for structures of a segmenter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.configuration.wording import did_you_mean, shown
from fuse_examples.imaging.oai_example.configuration.yaml_source import Source, read_file
from fuse_examples.imaging.oai_example.errors import ConfigError

LONGEST = (("value", 16), ("scheme", 16), ("meaning", 64))
"""Characters that DICOM allows in the parts of a code."""


@dataclass(frozen=True)
class Code:
    """A coded concept.

    Attributes:
        value: such as "71341001".
        scheme: designator of the coding scheme, such as "SCT" for SNOMED CT.
        meaning: in words, such as "Femur".
    """

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class StructureCode:
    """Category and type of a segmented property (DICOM PS3.3 C.8.20.4)."""

    category: Code
    type: Code


TISSUE = Code("85756007", "SCT", "Tissue")
ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
DEFAULT = StructureCode(TISSUE, TISSUE)
"""Of structures without a code of their own: true of all, and what viewers show when nothing more is known; the name says the rest."""


def read_structure_codes(path: Path | None, structures: Sequence[str]) -> dict[str, StructureCode]:
    """Read the codes of `structures`; those that the file does not name have `DEFAULT`.

    Args:
        path: a block for each structure, with `type` and, unless it is an anatomical structure, `category`, each [value, scheme, meaning].
            None for no file.
        structures: names of the segmenter's labels.

    Raises:
        ConfigError: with every mistake of the file and its line.
    """
    found = dict.fromkeys(structures, DEFAULT)
    if path is None:
        return found
    source = read_file(path)
    problems = [f"{path}:{line}: {text}" for line, text in source.problems]
    for name, entry in (source.value or {}).items():
        where = f"{path}:{source.lines.get((name,), 1)}: {name}"
        if name not in found:
            problems.append(
                f"{where}: is no structure of the checkpoint, which has {', '.join(structures)}{did_you_mean(name, structures)}"
            )
        elif not isinstance(entry, Mapping) or "type" not in entry or not {"type", "category"}.issuperset(entry):
            problems.append(f"{where}: must have `type` and may have `category`, found {shown(entry)}")
        else:
            category, kind = (_code(entry.get(part), part, name, path, source, problems) for part in ("category", "type"))
            found[name] = StructureCode(category or ANATOMICAL_STRUCTURE, kind or TISSUE)
    if problems:
        raise ConfigError(problems)
    return found


def _code(value: Any, part: str, name: str, path: Path, source: Source, problems: list[str]) -> Code | None:
    if value is None and part == "category":
        return None
    where = f"{path}:{source.lines.get((name, part), 1)}: {name}.{part}"
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(isinstance(one, str | int) and str(one) for one in value):
        problems.append(f"{where}: must be [value, scheme, meaning], such as [71341001, SCT, Femur]; found {shown(value)}")
        return None
    texts = [str(one) for one in value]
    for text, (what, longest) in zip(texts, LONGEST, strict=True):
        if len(text) > longest or "\\" in text:
            problems.append(f"{where}: the {what} {text!r} has {len(text)} characters; DICOM takes {longest}, and no backslash")
            return None
    return Code(*texts)
