"""Loading a backbone's weights with a verdict, and writing a backbone with its metadata."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fuse_examples.imaging.oai_example.catalogue import BACKBONES, resolve
from fuse_examples.imaging.oai_example.errors import WeightsError
from fuse_examples.imaging.oai_example.models.adaptation import Adapted, adapt
from fuse_examples.imaging.oai_example.models.backbone import Backbone, Option
from fuse_examples.imaging.oai_example.models.containers import FORMAT_VERSION, PROJECT_ENTRY, WeightFile, read_weight_file
from fuse_examples.imaging.oai_example.models.load_report import Coverage, LoadReport
from fuse_examples.imaging.oai_example.models.sources import Recognised, recognise


def load_backbone_weights(backbone: Backbone, path: Path, key: str, overrides: Mapping[str, Option] | None = None) -> LoadReport:
    """Fill `backbone` from a weight file and say what became of each tensor.

    The whole encoder is filled, or nothing is changed. Decoder tensors that the file lacks stay as they were made.

    Args:
        backbone: changed in place.
        path: a file of any source that `sources` knows.
        key: the configuration key that named the file, for messages and the report.
        overrides: options that the configuration sets although the file cannot show them, such as `patch_merging`; they stay as they are.

    Raises:
        WeightsError: the file cannot be read safely, belongs to another key or network, holds less than the whole encoder, or holds
            numbers that are not finite or of another kind than the network's.
    """
    file = read_weight_file(path, key)
    found = recognise(file)
    if found.belongs_to not in (None, key) and key in ("suprem_weights", "dino_weights"):
        raise WeightsError(f"{key}: {path} is a {found.source}. Give it as {found.belongs_to}, which knows how such weights were trained.")
    adapted = _adapted(backbone, found)
    report = _compare(backbone, file, found, adapted)
    alien = [name for name in report.unexpected if backbone.is_encoder_key(name)]
    if report.encoder.share < 1 or alien:
        raise WeightsError(_refusal(report, file, found, alien))
    loaded = {**{name: found.tensors[name] for name in report.matched}, **{name: one.tensor for name, one in adapted.items()}}
    state = backbone.state_dict()
    _check_numbers(loaded, state, f"{key}: {path}")
    backbone.load_state_dict({**state, **loaded})
    return replace(report, adaptations=report.adaptations + found.notes + _adopted(backbone, found, overrides or {}))


def look_at_weights(path: Path, key: str) -> tuple[Recognised, dict[str, Any]]:
    """Whose weights a file holds, and the plain metadata that this project wrote into it ({} in other people's files).

    Raises WeightsError for files that cannot be read safely.
    """
    file = read_weight_file(path, key)
    return recognise(file), file.metadata


def read_backbone_metadata(path: Path, key: str) -> dict[str, Any]:
    """Return the plain metadata that this project wrote into a file: preprocessing, backbone and its options, patient hashes, …

    Empty for other people's files. Raises WeightsError for files that cannot be read safely.
    """
    return read_weight_file(path, key).metadata


def save_backbone(path: Path, backbone: Backbone, metadata: Mapping[str, Any]) -> None:
    """Write a backbone alone as safetensors: whole or not at all.

    Args:
        path: for example backbone.safetensors; replaced where it exists.
        backbone: its state dict, on any device.
        metadata: plain values that JSON can hold; format version, the backbone's name and its options are added.
    """
    described = {**metadata, "format_version": FORMAT_VERSION, "backbone": backbone.name, "backbone_options": backbone.options}
    tensors = {name: value.detach().cpu().contiguous() for name, value in backbone.state_dict().items()}
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, beside, metadata={"format": "pt", PROJECT_ENTRY: json.dumps(described, allow_nan=False)})
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _check_numbers(loaded: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> None:
    """Refuse numbers that would become others in the network: quantised or complex ones, and ones that are not finite there."""
    quantised = [name for name, value in loaded.items() if state[name].is_floating_point() and not value.is_floating_point()]
    if quantised:
        first = quantised[0]
        raise WeightsError(
            f"{where} holds numbers of type {loaded[first].dtype} where the network has {state[first].dtype} ({len(quantised)} tensors, "
            f"first {first}). Give the weights as they were trained, with floating-point numbers."
        )
    # In the network's own type: a number that is too large for it is infinite there.
    infinite = [name for name, value in loaded.items() if not torch.isfinite(value.to(state[name].dtype)).all()]
    if infinite:
        raise WeightsError(f"{where} holds numbers that are not finite, first in {infinite[0]}. The training it comes from diverged.")


def _adopted(backbone: Backbone, found: Recognised, overrides: Mapping[str, Option]) -> tuple[str, ...]:
    """Switch the backbone to what the weights were trained with, but for what the configuration insists on."""
    insisted = tuple(
        f"{option} is {ours} as the configuration says; weights of this kind were trained with {found.choices[option]}."
        for option, ours in overrides.items()
        if option in backbone.options and found.choices.get(option, ours) != ours
    )
    return insisted + backbone.adopt({option: value for option, value in found.choices.items() if option not in overrides})


def _adapted(backbone: Backbone, found: Recognised) -> dict[str, Adapted]:
    state, in_channels = backbone.state_dict(), int(backbone.options["in_channels"])
    differing = [name for name in state if name in found.tensors and found.tensors[name].shape != state[name].shape]
    adapted = {name: adapt(name, found.tensors[name], state[name], in_channels) for name in differing}
    return {name: one for name, one in adapted.items() if one is not None}


def _compare(backbone: Backbone, file: WeightFile, found: Recognised, adapted: Mapping[str, Adapted]) -> LoadReport:
    state = backbone.state_dict()
    shared = [name for name in state if name in found.tensors]
    matched = tuple(name for name in shared if found.tensors[name].shape == state[name].shape)
    fits = {*matched, *adapted}
    others = [name for name in found.tensors if name not in state]
    unused = tuple(name for name in others if not backbone.has_decoder and backbone.is_decoder_key(name))
    encoder, decoder = backbone.encoder_parameter_names(), backbone.decoder_parameter_names()
    return LoadReport(
        key=file.key,
        path=str(file.path),
        source=found.source,
        network=backbone.name,
        matched=matched,
        missing=tuple(name for name in state if name not in found.tensors),
        unexpected=tuple(name for name in others if name not in unused),
        dropped={**found.dropped, **({"decoder, which this stage does not use": unused} if unused else {})},
        shape_mismatches=tuple((name, tuple(found.tensors[name].shape), tuple(state[name].shape)) for name in shared if name not in fits),
        encoder=Coverage(len(fits.intersection(encoder)), len(encoder)),
        decoder=Coverage(len(fits.intersection(decoder)), len(decoder)),
        adapted={how: tuple(name for name, one in adapted.items() if one.how == how) for how in {one.how: 0 for one in adapted.values()}},
        licence=found.licence,
        adaptations=_conversions(state, found.tensors, matched),
    )


def _conversions(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], matched: tuple[str, ...]) -> tuple[str, ...]:
    changes = Counter((str(tensors[name].dtype), str(state[name].dtype)) for name in matched if tensors[name].dtype != state[name].dtype)
    return tuple(f"{count} tensors converted from {before} to {after}." for (before, after), count in changes.items())


def _refusal(report: LoadReport, file: WeightFile, found: Recognised, alien: list[str]) -> str:
    if report.encoder.share < 1:
        what = f"does not hold the whole encoder of {report.network}: {report.encoder}"
    else:
        hint = "; set backbone_options: null, or {swin_v2: true}" if found.shown.get("swin_v2") else ""
        what = f"holds encoder tensors that this {report.network} does not have ({len(alien)}, first {alien[0]}){hint}"
    lines = [f"{report.key}: {report.path} {what}. Nothing was loaded.", *report.as_text().splitlines()[1:]]
    for name in report.missing[:3]:
        nearest = get_close_matches(name, found.tensors, n=1)
        lines.append(f"  expected   {name}; nearest in the file: {nearest[0] if nearest else 'nothing like it'}")
    other = found.network or next((name for name in sorted(BACKBONES) if _names_of(resolve(BACKBONES[name]), file)), None)
    if other not in (None, report.network):
        lines.append(f"These are names of {other}: set backbone: {other}, or choose weights of a {report.network}.")
    elif report.shape_mismatches:
        lines.append("The names fit and the shapes do not: set width and the number of input channels that the weights were trained with.")
    else:
        lines.append(f"Choose weights that were trained with a {report.network}.")
    return "\n".join(lines)


def _names_of(cls: type[Backbone], file: WeightFile) -> bool:
    """Whether a file has tensors of each part of this backbone's encoder, behind whatever prefix; some names occur in many networks."""
    return all(any(name.startswith(prefix) or f".{prefix}" in name for name in file.tensors) for prefix in cls.encoder_prefixes)
