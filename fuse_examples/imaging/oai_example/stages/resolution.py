"""From what a user wrote to what a run does: every null becomes a value, in a new configuration that the run folder keeps."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch

from fuse_examples.imaging.oai_example.configuration.kinds import FrozenDict
from fuse_examples.imaging.oai_example.configuration.origin import DEFAULT, Problem
from fuse_examples.imaging.oai_example.configuration.precedence import settle
from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.reading import Reading, SeriesChoice
from fuse_examples.imaging.oai_example.data.store import VolumeStore
from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.geometry.volume import Shape
from fuse_examples.imaging.oai_example.models.backbone import Backbone, Option, build_backbone

Config = TypeVar("Config", bound=StageConfig)
WITH_A_KEY = ("width", "norm_statistics")
"""Options of backbones that have a key of their own; the others stand in `backbone_options`."""
_FOUND = ("in_channels", "pooling")  # what a stage gives


def build_configured_backbone(config: StageConfig, *, with_decoder: bool, **options: Any) -> Backbone:
    """The backbone of a configuration; options that it leaves null keep the backbone's own defaults.

    Raises:
        ConfigError: an option that the backbone cannot take, at its line, with the weights where these decided which backbone it is.
    """
    channels = {"in_channels": len(config.channels)} if config.channels else {}
    chosen = {**channels, **(config.backbone_options or {}), **{option: getattr(config, option) for option in WITH_A_KEY}, **options}
    given = {option: value for option, value in chosen.items() if value is not None}
    name = settle(config).backbone
    assert name is not None  # null stands for a name
    try:
        backbone = build_backbone(name, with_decoder=with_decoder, **given)
    except ConfigError as error:
        raise ConfigError(_placed(problem, config, name) for problem in error.problems) from error
    backbone.gradient_checkpointing = config.gradient_checkpointing
    return backbone


def _placed(problem: str, config: StageConfig, network: str) -> str:
    """What a backbone says of an option, with the place of the key that gave it and the weights that asked for this backbone."""
    keys = {**dict.fromkeys(config.backbone_options or {}, "backbone_options"), **{key: key for key in ("backbone", *WITH_A_KEY)}}
    key = next((key for option, key in keys.items() if problem.startswith(f"{option} is ") or f"no option '{option}'" in problem), None)
    origin = config.origin(key) if key is not None else DEFAULT
    weights = next((name for name in ("dino_weights", "suprem_weights") if getattr(config, name) is not None), None)
    if key is not None and weights is not None and config.origin("backbone").kind == "checkpoint":
        problem += f" {weights}: {getattr(config, weights)} holds a {network}"
        problem += "." if origin.kind == "checkpoint" else f"; set {key} to null to take what its weights were made with."
    return problem if origin is DEFAULT else str(Problem(origin, problem))


def resolved(config: Config, backbone: Backbone, **found: Any) -> Config:
    """The configuration without the nulls that stand for something.

    Args:
        config: as loaded.
        backbone: what was built from it; its options fill `width` and the like.
        found: what the stage has found out itself, such as a spacing.
    """
    own: dict[str, Any] = {option: backbone.options[option] for option in WITH_A_KEY if option in backbone.options}
    return settle(config).model_copy(update={**own, "backbone_options": further_options(backbone.options), **found})


def further_options(options: Mapping[str, Option]) -> FrozenDict | None:
    """Those of a backbone's options that have no key of their own; None where there are none."""
    further = {option: value for option, value in options.items() if option not in (*WITH_A_KEY, *_FOUND)}
    return FrozenDict(further) if further else None


def preprocessing_of(
    config: StageConfig,
    resize_to: Shape | None,
    patch_size: Shape | None = None,
    spacing: tuple[float, float, float] | None = None,
) -> Preprocessing:
    """What a resolved configuration does to every scan."""
    intensity = config.intensity
    assert config.orientation is not None
    assert intensity.method is not None
    return Preprocessing(config.orientation, intensity.method, intensity.percentiles, intensity.window, resize_to, patch_size, spacing)


def reading_of(config: StageConfig) -> Reading:
    """How a configuration reads scans."""
    series = config.series
    return Reading(SeriesChoice(series.description, series.echo, series.largest), config.tolerate_uneven_spacing)


def store_of(config: StageConfig) -> VolumeStore:
    """The store of a resolved configuration."""
    assert config.orientation is not None
    folder = config.store.path or config.results_dir / ".store"
    return VolumeStore(folder, config.orientation, config.intensity.percentiles or (0.0, 100.0), reading_of(config))


def makes_views_on_device(config: StageConfig) -> bool:
    """Whether training views are made on the GPU.

    Raises:
        ConfigError: `augment_on: gpu` on a machine without one.
    """
    has_gpu = torch.cuda.is_available()
    if config.augment_on == "gpu" and not has_gpu:
        raise ConfigError("augment_on: gpu, but this machine has no GPU that PyTorch can use. Set augment_on to auto or cpu.")
    return has_gpu and config.augment_on != "cpu"
