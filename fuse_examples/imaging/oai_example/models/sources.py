"""Whose weights a file holds: each published layout is one function from a file to the backbone's names.

A new layout is one function here and its name in SOURCES. Names and shapes decide; a file's own name and its author's word do not.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from fuse_examples.imaging.oai_example.catalogue import BACKBONES, resolve
from fuse_examples.imaging.oai_example.models.backbone import Backbone, Option
from fuse_examples.imaging.oai_example.models.containers import WeightFile

Tensors = dict[str, Tensor]
Dropped = dict[str, tuple[str, ...]]

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
# MONAI changed patch merging in 1.5.0 without a trace in names or shapes. Every published Swin UNETR is older, so a file that does not
# say is taken to be; the backbone's option patch_merging overrides.
BEFORE_MONAI_1_5: dict[str, Option] = {"patch_merging": "legacy"}
# The earlier example fed slice, row, column of sagittal DICOM series: towards the left, the feet and the back.
EARLIER_EXAMPLE: dict[str, Any] = {"orientation": "LIP"}

# What the source's own pages declare. Nothing of it is legal advice, and weights may have terms of their own.
LICENCES = {
    "suprem": "SuPreM: the code is CC BY-NC-ND 4.0; the page that the weights come from is reported to declare Apache-2.0. Read both.",
    "genesis": "Models Genesis: the code is MIT. Read what the page that the weights come from declares.",
    "monai": "MONAI: the code is Apache-2.0. Read what the page that the weights come from declares.",
    "medicalnet": "MedicalNet: the code is MIT. Read what the page that the weights come from declares.",
    "unknown": "Not known from the file. Read what the page that the weights come from declares.",
}

_WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.")
_BESIDE_A_BACKBONE = (
    *("student_backbone.", "student_head.", "teacher_head.", "student_patch_head.", "teacher_patch_head.", "reconstruction_head."),
    *("head.", "heads.", "criterion.", "patch_criterion.", "loss.", "objective."),
)
_BESIDE_A_MODEL = ("_model.heads.", "_model.head.", "_losses.", "_metrics.")
_OUTPUTS = ("out.conv.", "out_tr.final_conv.", "conv_final.2.conv.", "conv_seg.", "fc.")
_SSL_HEADS = ("norm.", "rotation_", "contrastive_", "conv.", "convTrans3d.", "decoder.", "mask_token")
_VOCO_HEADS = ("student.", "teacher.", "proj_head.", "predictor.", "rotation_", "contrastive_")
_DAE_STAGE = re.compile(r"^encoder\.(layers[1-4]c?\.0\.)(?:\d\.)?(?=blocks\.|downsample\.|layer\.)")


@dataclass(frozen=True)
class Recognised:
    """A file's tensors under a backbone's names.

    Attributes:
        source: whose layout it is, in words.
        tensors: names the layout does not know stay as they are and will be reported as unexpected.
        dropped: reason -> the file's names that the layout knows and a backbone does not need.
        choices: constructor options the weights were trained with and no tensor shows, as far as known.
        belongs_to: the configuration key for files of this kind, None where either will do.
        settings: configuration values that the weights were trained with, which a run must repeat.
        notes: sentences for the report.
        licence: what is known of the licence of weights of this source; "" for this project's own, whose metadata has it.
        network: catalogue name of the backbone whose encoder the names are, None for none of them.
        shown: constructor options of that backbone that names and shapes tell.
    """

    source: str
    tensors: Tensors
    dropped: Dropped = field(default_factory=dict)
    choices: dict[str, Option] = field(default_factory=dict)
    belongs_to: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    licence: str = LICENCES["unknown"]
    network: str | None = None
    shown: dict[str, Option] = field(default_factory=dict)


def recognise(file: WeightFile) -> Recognised:
    """Find whose layout a file has, and which network's; a file of nobody's is taken as a plain state dict."""
    found = next(found for found in (source(file) for source in SOURCES) if found is not None)
    network = network_of(found.tensors)
    if network is None:
        return found
    return replace(found, network=network, shown=resolve(BACKBONES[network]).options_shown_by(found.tensors))


def network_of(names: Iterable[str]) -> str | None:
    """The backbone of the catalogue whose encoder has most of `names`, None where none has any."""
    names = tuple(names)
    counts = {name: sum(map(_backbone(name).is_encoder_key, names)) for name in BACKBONES}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else None


def _own_backbone(file: WeightFile) -> Recognised | None:
    if not file.metadata or file.entry:
        return None
    return Recognised("backbone file of this project", file.tensors, choices=_own_choices(file), belongs_to="dino_weights", licence="")


def _own_export(file: WeightFile) -> Recognised | None:
    """A file that this project wrote in SuPreM's layout; unlike SuPreM's it says how the network computed."""
    if not file.metadata or file.entry != "net":
        return None
    return Recognised("SuPreM-shaped file of this project", _unwrapped(file.tensors), choices=_own_choices(file), licence="")


def _dino_checkpoint(file: WeightFile) -> Recognised | None:
    whose = next((name for name in ("teacher", "student") if _has_prefix(file.tensors, f"{name}_backbone.")), None)
    if whose is None:
        return None
    tensors, dropped = _take(file, f"{whose}_backbone.", _BESIDE_A_BACKBONE, "student, heads and losses")
    if file.metadata:
        source = f"DINO checkpoint of this project, {whose}"
        return Recognised(source, tensors, dropped, _own_choices(file), "dino_weights", licence="")
    return _of_earlier_example(f"DINO checkpoint of the earlier OAI example, {whose}", tensors, dropped, "dino_weights")


def _fine_tuned_checkpoint(file: WeightFile) -> Recognised | None:
    if not file.metadata or not _has_prefix(file.tensors, "backbone."):
        return None
    tensors, dropped = _take(file, "backbone.", _BESIDE_A_BACKBONE, "student, heads and losses")
    return Recognised("fine-tuned checkpoint of this project", tensors, dropped, _own_choices(file), "dino_weights", licence="")


def _earlier_fine_tuning(file: WeightFile) -> Recognised | None:
    """Masked pre-training and fine-tuning of the earlier example: one model with a backbone and heads."""
    if not _has_prefix(file.tensors, "_model.backbone."):
        return None
    tensors, dropped = _take(file, "_model.backbone.", _BESIDE_A_MODEL, "heads")
    return _of_earlier_example("MAE or fine-tuning checkpoint of the earlier OAI example", tensors, dropped, None)


def _suprem(file: WeightFile) -> Recognised | None:
    tensors = _strip(file.tensors, "module.")
    heads = tuple(name for name in tensors if name in SUPREM_HEADS)
    if file.entry != "net" and not heads:
        return None
    rest = _unwrapped({name: value for name, value in tensors.items() if name not in SUPREM_HEADS})
    rest, outputs = _without(rest, _OUTPUTS, "output layer")
    dropped = {**({"language heads": heads} if heads else {}), **outputs}
    return Recognised("SuPreM checkpoint", rest, dropped, PUBLISHED_CHOICES, "suprem_weights", licence=LICENCES["suprem"])


def _models_genesis(file: WeightFile) -> Recognised | None:
    tensors = _unwrapped(file.tensors)
    output = tensors.get("out_tr.final_conv.weight")
    if output is None or output.shape[:1] != (1,):  # one channel: it paints the image back
        return None
    tensors, dropped = _without(tensors, _OUTPUTS, "output layer")
    return Recognised("Models Genesis", tensors, dropped, {"norm_statistics": "batch"}, licence=LICENCES["genesis"])


def _disruptive_autoencoder(file: WeightFile) -> Recognised | None:
    """MONAI's ssl_pretrained_weights.pth: a Swin transformer called `encoder`, one level deeper, and a Swin UNETR's decoder."""
    tensors = _strip(file.tensors, "module.")
    if "encoder.patch_embed.proj.weight" not in tensors:
        return None
    tensors, dropped = _without(tensors, ("encoder.mask_token", "encoder.norm.", "out.conv."), "self-supervised heads")
    renamed = {re.sub(r"^encoder\.", "swinViT.", _DAE_STAGE.sub(r"encoder.\1", name)): value for name, value in tensors.items()}
    return Recognised("MONAI self-supervised Swin UNETR (DAE)", renamed, dropped, BEFORE_MONAI_1_5, licence=LICENCES["monai"])


def _self_supervised_swin(file: WeightFile) -> Recognised | None:
    """MONAI's model_swinvit.pt: the transformer alone, without a name of its own, its perceptrons under their older names."""
    tensors = _unwrapped(file.tensors)
    if "patch_embed.proj.weight" not in tensors or not _has_prefix(tensors, "layers1."):
        return None
    tensors, dropped = _without(tensors, _SSL_HEADS, "self-supervised heads")
    renamed = {f"swinViT.{_newer(name)}" if name.startswith(("patch_embed.", "layers")) else name: tensors[name] for name in tensors}
    return Recognised("MONAI self-supervised Swin transformer", renamed, dropped, BEFORE_MONAI_1_5, licence=LICENCES["monai"])


def _swin_unetr(file: WeightFile) -> Recognised | None:
    """Swin UNETR files with MONAI's names: VoCo's, the segmentation release, and those of a self-supervised head."""
    tensors = {re.sub(r"^swin_vit\.", "swinViT.", name): value for name, value in _unwrapped(file.tensors).items()}
    if "swinViT.patch_embed.proj.weight" not in tensors:
        return None
    voco = _has_prefix(tensors, ("swinViT.layers1c.", "student.", "teacher."))
    tensors, dropped = _without(tensors, (*_OUTPUTS, *_VOCO_HEADS, *_SSL_HEADS), "output layers and self-supervised heads")
    renamed = {_newer(name): value for name, value in tensors.items()}
    source, licence = ("VoCo Swin UNETR", "unknown") if voco else ("MONAI Swin UNETR", "monai")
    return Recognised(source, renamed, dropped, BEFORE_MONAI_1_5, licence=LICENCES[licence])


def _medicalnet(file: WeightFile) -> Recognised | None:
    tensors = _unwrapped(file.tensors)
    first = tensors.get("conv1.weight")
    if first is None or first.ndim != 5 or "layer4.0.conv1.weight" not in tensors:
        return None
    tensors, dropped = _without(tensors, _OUTPUTS, "output layer")
    return Recognised("MedicalNet ResNet", tensors, dropped, {"layout": "medicalnet"}, licence=LICENCES["medicalnet"])


def _plain(file: WeightFile) -> Recognised:
    tensors, dropped = _without(_unwrapped(file.tensors), _OUTPUTS, "output layer")
    return Recognised("plain state dict", tensors, dropped)


SOURCES: tuple[Callable[[WeightFile], Recognised | None], ...] = (
    _own_backbone,
    _own_export,
    _dino_checkpoint,
    _fine_tuned_checkpoint,
    _earlier_fine_tuning,
    _suprem,
    _models_genesis,
    _disruptive_autoencoder,
    _self_supervised_swin,
    _swin_unetr,
    _medicalnet,
    _plain,
)


def _of_earlier_example(source: str, tensors: Tensors, dropped: Dropped, belongs_to: str | None) -> Recognised:
    orientation = EARLIER_EXAMPLE["orientation"]
    axes = f"axes {orientation} (slice, row, column of sagittal DICOM series)"
    note = f"These weights were trained on arrays with {axes}, so orientation is {orientation}."
    return Recognised(source, tensors, dropped, PUBLISHED_CHOICES, belongs_to, EARLIER_EXAMPLE, (note,))


def _own_choices(file: WeightFile) -> dict[str, Option]:
    options = file.metadata.get("backbone_options", {})
    return dict(options) if isinstance(options, dict) else {}


def _backbone(name: str) -> type[Backbone]:
    cls: type[Backbone] = resolve(BACKBONES[name])
    return cls


def _newer(name: str) -> str:
    return name.replace(".mlp.fc1.", ".mlp.linear1.").replace(".mlp.fc2.", ".mlp.linear2.")


def _has_prefix(names: Iterable[str], prefix: str | tuple[str, ...]) -> bool:
    return any(name.startswith(prefix) for name in names)


def _take(file: WeightFile, prefix: str, beside: tuple[str, ...], reason: str) -> tuple[Tensors, Dropped]:
    """Strip `prefix` where it stands, set what stands beside a backbone aside, and leave other names as they are."""
    own = {name.removeprefix(prefix): value for name, value in file.tensors.items() if name.startswith(prefix)}
    aside = tuple(name for name in file.tensors if name.startswith(beside) and not name.startswith(prefix))
    others = {name: value for name, value in file.tensors.items() if not name.startswith((prefix, *beside))}
    return {**others, **own}, {reason: aside} if aside else {}


def _without(tensors: Mapping[str, Tensor], prefixes: tuple[str, ...], reason: str) -> tuple[Tensors, Dropped]:
    """Set tensors that begin with one of `prefixes` aside."""
    aside = tuple(name for name in tensors if name.startswith(prefixes))
    return {name: value for name, value in tensors.items() if name not in aside}, {reason: aside} if aside else {}


def _unwrapped(tensors: Tensors) -> Tensors:
    """Without what DataParallel, torch.compile and Lightning modules write before a network's names, in whatever order."""
    stripped = tensors
    for wrapper in _WRAPPERS:
        stripped = _strip(stripped, wrapper)
    return tensors if list(stripped) == list(tensors) else _unwrapped(stripped)


def _strip(tensors: Tensors, prefix: str) -> Tensors:
    """Strip `prefix` where it stands, unless two names would become one: such a file holds two networks and is left as it is."""
    stripped = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return stripped if len(stripped) == len(tensors) else tensors
