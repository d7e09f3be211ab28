"""Whose weights a file holds: each published layout is one function from a file to the backbone's names.

A new layout is one function here and its name in SOURCES.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from torch import Tensor

from fuse_examples.imaging.oai_example.models.backbone import Option
from fuse_examples.imaging.oai_example.models.containers import WeightFile

# The language-driven heads of SuPreM's training network. Their shapes depend on the release, so they are known by name.
SUPREM_HEADS = frozenset(
    {
        "organ_embedding",
        "organ_embedding.weight",
        "precls_conv.0.weight",
        "precls_conv.0.bias",
        "precls_conv.2.weight",
        "precls_conv.2.bias",
        "GAP.0.weight",
        "GAP.0.bias",
        "GAP.3.weight",
        "GAP.3.bias",
        "controller.weight",
        "controller.bias",
        "text_to_vision.weight",
        "text_to_vision.bias",
    }
)
# How SuPreM's networks and the earlier OAI example's computed, which no tensor shows.
PUBLISHED_CHOICES: dict[str, Option] = {"patch_merging": "legacy", "norm_statistics": "batch"}
_BESIDE_A_BACKBONE = ("student_backbone.", "student_head.", "teacher_head.", "head.", "heads.", "criterion.", "loss.", "objective.")


@dataclass(frozen=True)
class Recognised:
    """A file's tensors under a backbone's names.

    Attributes:
        source: whose layout it is, in words.
        tensors: names the layout does not know stay as they are and will be reported as unexpected.
        dropped: reason -> the file's names that the layout knows and a backbone does not need.
        choices: constructor options the weights were trained with, as far as known.
        belongs_to: the configuration key for files of this kind, None where any will do.
    """

    source: str
    tensors: dict[str, Tensor]
    dropped: dict[str, tuple[str, ...]] = field(default_factory=dict)
    choices: dict[str, Option] = field(default_factory=dict)
    belongs_to: str | None = None


def recognise(file: WeightFile) -> Recognised:
    """Find whose layout a file has; a file of nobody's is taken as a plain state dict."""
    return next(found for found in (source(file) for source in SOURCES) if found is not None)


def _own_backbone(file: WeightFile) -> Recognised | None:
    if not file.metadata or file.entry:
        return None
    return Recognised("backbone file of this project", file.tensors, choices=_own_choices(file), belongs_to="dino_weights")


def _dino_checkpoint(file: WeightFile) -> Recognised | None:
    whose = next((name for name in ("teacher", "student") if _has_prefix(file.tensors, f"{name}_backbone.")), None)
    if whose is None:
        return None
    tensors, dropped = _take(file, f"{whose}_backbone.")
    maker = "this project" if file.metadata else "the earlier OAI example"
    choices = _own_choices(file) if file.metadata else PUBLISHED_CHOICES
    return Recognised(f"DINO checkpoint of {maker}, {whose}", tensors, dropped, choices, "dino_weights")


def _fine_tuned_checkpoint(file: WeightFile) -> Recognised | None:
    if not file.metadata or not _has_prefix(file.tensors, "backbone."):
        return None
    tensors, dropped = _take(file, "backbone.")
    return Recognised("fine-tuned checkpoint of this project", tensors, dropped, _own_choices(file), "dino_weights")


def _suprem(file: WeightFile) -> Recognised | None:
    tensors = _strip(file.tensors, "module.")
    heads = tuple(name for name in tensors if name in SUPREM_HEADS)
    if file.entry != "net" and not heads:
        return None
    rest = _strip({name: value for name, value in tensors.items() if name not in SUPREM_HEADS}, "backbone.")
    dropped = {"language heads": heads} if heads else {}
    return Recognised("SuPreM checkpoint", rest, dropped, PUBLISHED_CHOICES, "suprem_weights")


def _plain(file: WeightFile) -> Recognised:
    return Recognised("plain state dict", _strip(_strip(file.tensors, "module."), "backbone."))


SOURCES: tuple[Callable[[WeightFile], Recognised | None], ...] = (
    _own_backbone,
    _dino_checkpoint,
    _fine_tuned_checkpoint,
    _suprem,
    _plain,
)


def _own_choices(file: WeightFile) -> dict[str, Option]:
    options = file.metadata.get("backbone_options", {})
    return dict(options) if isinstance(options, dict) else {}


def _has_prefix(names: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _take(file: WeightFile, prefix: str) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
    """Strip `prefix` where it stands, set what stands beside a backbone aside, and leave other names as they are."""
    own = {name.removeprefix(prefix): value for name, value in file.tensors.items() if name.startswith(prefix)}
    beside = tuple(name for name in file.tensors if name.startswith(_BESIDE_A_BACKBONE) and not name.startswith(prefix))
    others = {name: value for name, value in file.tensors.items() if not name.startswith((prefix, *_BESIDE_A_BACKBONE))}
    return {**others, **own}, {"student, heads and losses": beside} if beside else {}


def _strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Strip `prefix` where it stands, unless two names would become one: such a file holds two networks and is left as it is."""
    stripped = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return stripped if len(stripped) == len(tensors) else tensors
