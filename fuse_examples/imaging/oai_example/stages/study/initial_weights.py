"""What the runs of a study start from: whether it can be compared, and that it has not seen the test patients."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fuse_examples.imaging.oai_example.configuration.label_efficiency_config import LabelEfficiencyConfig
from fuse_examples.imaging.oai_example.configuration.label_efficiency_rules import WEIGHTS
from fuse_examples.imaging.oai_example.configuration.precedence import TAUGHT_WITH, settle
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.configuration.wording import shown
from fuse_examples.imaging.oai_example.data.splits import Splits
from fuse_examples.imaging.oai_example.errors import ConfigError, DataError, UserError
from fuse_examples.imaging.oai_example.stages.resolution import build_configured_backbone, resolved
from fuse_examples.imaging.oai_example.stages.starting_weights import StartingWeights, refuse_seen_patients, starting_weights
from fuse_examples.imaging.oai_example.stages.study.downstream import DownstreamConfig
from fuse_examples.imaging.oai_example.training.patient_hashes import overlap

_OTHERS = "Choose other test_folds or other weights: a study whose test patients were learnt from answers nothing."


def look_at_initialisations(
    config: LabelEfficiencyConfig, base: DownstreamConfig, splits: Splits
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """Load each file once, and hold the networks against each other.

    Returns:
        By initialisation its settings with the checksums of its files, and lines that a reader should know.

    Raises:
        WeightsError: a file that cannot be used.
        DataError: weights that have learnt from a test patient.
        ConfigError: initialisations of different networks, which differ in more than their weights.
    """
    entries, notes, networks, problems = {}, [], {}, []
    leaks: list[str] = []
    _check_files(config)
    for name, settings in config.initialisations.items():
        own, weights = _started(base, name, settings)
        backbone = build_configured_backbone(own, with_decoder=isinstance(base, SegmentationConfig))
        weights.load_into(backbone)
        try:
            refuse_seen_patients(splits.test, weights.patients, weights.path, own, _OTHERS)
        except DataError as error:
            leaks += [f"initialisations: {name}: {problem}" for problem in error.problems]
        entries[name] = {**settings, **({"sha256": _checksum(weights.path)} if weights.path else {})}
        notes += _notes(name, weights.path, weights.patients, splits)
        plain = settle(resolved(own, backbone)).dump()
        networks[name] = {key: plain[key] for key in TAUGHT_WITH}
    if leaks:
        raise DataError(leaks)
    first, *others = networks
    for other in others:
        for key in TAUGHT_WITH:
            one, two = networks[first][key], networks[other][key]
            if one != two:
                problems.append(
                    f"initialisations: {first} would have {key}: {shown(one)} and {other} {shown(two)}; they may differ in their weights "
                    f"alone. Set {key} under overrides, or compare them in studies of their own."
                )
    if problems:
        raise ConfigError(problems)
    return entries, tuple(notes)


def _check_files(config: LabelEfficiencyConfig) -> None:
    missing = [
        f"initialisations: {name}: no such file: '{block[key]}'; paths are relative to the working directory, {Path.cwd()}"
        for name, block in config.initialisations.items()
        for key in WEIGHTS
        if block.get(key) is not None and not Path(block[key]).expanduser().is_file()
    ]
    if missing:
        raise ConfigError(missing)


def _started(base: DownstreamConfig, name: str, settings: Mapping[str, Any]) -> tuple[DownstreamConfig, StartingWeights]:
    try:
        own, weights, _ = starting_weights(_with(base, name, settings))
    except ConfigError as error:
        raise ConfigError([f"initialisations: {name}: {problem.removeprefix('default: ')}" for problem in error.problems]) from error
    return own, weights


def _with(base: DownstreamConfig, name: str, settings: Mapping[str, Any]) -> DownstreamConfig:
    try:
        return type(base).model_validate({**base.dump(), **settings})
    except ValidationError as error:
        wrong = sorted({str(detail["loc"][0]) for detail in error.errors()})
        told = [f"{key}: {shown(settings.get(key))} is not what the key takes; --help of the stage lists it" for key in wrong]
        raise ConfigError(told) from error


def _notes(name: str, path: Path | None, patients: list[str], splits: Splits) -> list[str]:
    if path is None:
        return []
    if not patients:
        told = f"{name}: {path.name} does not say whose images it has learnt from"
        return [f"{told}, so that nobody can tell whether test patients are among them."]
    seen = overlap((case.patient for case in splits.val), patients)
    if seen:
        return [f"{name}: {path.name} has learnt from images of {len(seen)} validation patients; its validation scores may be too good."]
    return []


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error
    return digest.hexdigest()[:16]
