"""Weights that a run starts from: what they decide, what was loaded of them, and whose images they have already seen."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fuse_examples.imaging.oai_example.configuration.precedence import adopt_from_weights
from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.errors import DataError, WeightsError
from fuse_examples.imaging.oai_example.models.backbone import Backbone, Option
from fuse_examples.imaging.oai_example.models.load_report import LoadReport
from fuse_examples.imaging.oai_example.models.sources import Recognised
from fuse_examples.imaging.oai_example.models.weights import load_backbone_weights, look_at_weights
from fuse_examples.imaging.oai_example.stages.resolution import further_options
from fuse_examples.imaging.oai_example.training.patient_hashes import overlap
from fuse_examples.imaging.oai_example.training.safe_files import write_json

Config = TypeVar("Config", bound=StageConfig)
KEYS = ("dino_weights", "suprem_weights")
ORIGINS = "origins"
"""The entry of this project's metadata that says whose weights a network goes back to."""
LOAD_REPORT = "load_report.json"
"""The verdict on the weights that a run started from, in its folder."""
_METADATA = {"config": dict, "patients": list, "backbone_options": dict}
_SHOWN = 20
_OTHERS_OR_SAY_SO = "Choose other test_folds or other weights, or set allow_pretraining_overlap: true and say so with the result."
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StartingWeights:
    """A weight file that a run starts from.

    Attributes:
        key, path: the configuration key and the file it names; None for a run from scratch.
        metadata: what this project wrote into the file; empty for other people's.
        insisted: options of the backbone that the configuration sets, whatever such weights were trained with.
        origins: source, file name and licence note of other people's weights that these go back to.
    """

    key: str | None = None
    path: Path | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    insisted: Mapping[str, Option] = field(default_factory=dict)
    origins: Sequence[Mapping[str, str]] = ()

    @property
    def patients(self) -> list[str]:
        """Hashes of the patients whose images the weights have learnt from."""
        return list(self.metadata.get("patients", []))

    def load_into(self, backbone: Backbone) -> LoadReport | None:
        """Fill the backbone and return the verdict; None where there is no file. Raises WeightsError."""
        if self.key is None or self.path is None:
            return None
        return load_backbone_weights(backbone, self.path, self.key, self.insisted)


def keep_report(report: LoadReport | None, folder: Path) -> None:
    """Leave the verdict on loaded weights in the log, and as `load_report.json` in the run's folder."""
    if report is not None:
        log.info("%s", report.as_text())
        write_json(folder / LOAD_REPORT, report.as_dict())


def starting_weights(config: Config) -> tuple[Config, StartingWeights, tuple[str, ...]]:
    """Look at the weight file that the configuration names, before anything is built.

    Returns:
        The configuration, whose nulls take the weights' values; the file; and a line for each setting that differs harmlessly.

    Raises:
        WeightsError: the file cannot be read safely.
        ConfigError: a setting contradicts the weights.
    """
    for key in KEYS:
        path = getattr(config, key)
        if path is not None:
            found, metadata = look_at_weights(path, key)
            _check_metadata(metadata, path, key)
            insisted = dict(config.backbone_options or {})
            config, notes = adopt_from_weights(config, _taught_with(config, found, metadata))
            return config, StartingWeights(key, path, metadata, insisted, _origins(path, found, metadata)), notes
    return config, StartingWeights(), ()


def _taught_with(config: StageConfig, found: Recognised, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What the weights say about the configuration: this project's all of theirs, other people's what names and shapes tell."""
    if "config" in metadata:
        return {"backbone_options": further_options(found.choices), **found.choices, **metadata["config"]}
    if config.backbone not in (None, found.network):
        return dict(found.settings)
    told = {"backbone": found.network, **found.shown}
    # A setting that the file contradicts stays, and loading says what does not fit.
    nulls = {key: value for key, value in told.items() if getattr(config, key, "") is None}
    options = further_options({**found.shown, **(config.backbone_options or {})})
    return nulls | {"backbone_options": options} | found.settings


def _origins(path: Path, found: Recognised, metadata: Mapping[str, Any]) -> list[dict[str, str]]:
    """Where weights come from, oldest first: what their own description says, or the source that the file shows."""
    if metadata:
        return [dict(entry) for entry in metadata.get(ORIGINS, [])]
    return [{"source": found.source, "file": path.name, "licence": found.licence}]


def _check_metadata(metadata: Mapping[str, Any], path: Path, key: str) -> None:
    """Refuse a file whose own description is not of the kind this project writes: it would be passed over, or stop the run."""
    damaged = [name for name, kind in _METADATA.items() if name in metadata and not isinstance(metadata[name], kind)]
    if not damaged and not all(isinstance(entry, str) for entry in metadata.get("patients", [])):
        damaged = ["patients"]
    if damaged:
        raise WeightsError(f"{key}: {path} has a damaged description ({', '.join(damaged)}). Give the file as the run wrote it.")


def refuse_seen_patients(
    cases: Sequence[Case], hashes: Iterable[str], source: object, config: StageConfig, remedy: str = _OTHERS_OR_SAY_SO
) -> tuple[str, ...]:
    """Refuse test patients whose images a network has learnt from; a score on them says nothing.

    Returns:
        A line for the log and the report where `allow_pretraining_overlap` lets them pass, else nothing.

    Raises:
        DataError: naming the patients and their rows, unless `allow_pretraining_overlap`.
    """
    seen = overlap((case.patient for case in cases), hashes)
    if not seen:
        return ()
    rows = {name: [case.row for case in cases if case.patient == name] for name in seen[:_SHOWN]}
    text = "; ".join(f"{name} (rows {', '.join(map(str, lines))})" for name, lines in rows.items())
    more = f"; and {len(seen) - _SHOWN} more" if len(seen) > _SHOWN else ""
    message = f"{config.csv_path}: {source} has learnt from images of {len(seen)} patient(s) of the test folds: {text}{more}."
    if not config.allow_pretraining_overlap:
        raise DataError(f"{message} {remedy}")
    return (f"Warning: {message} allow_pretraining_overlap is set.",)
