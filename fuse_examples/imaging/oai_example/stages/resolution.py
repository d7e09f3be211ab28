"""From what a user wrote to what a run does: every null becomes a value, in a new configuration that the run folder keeps."""

from typing import Any, TypeVar

from fuse_examples.imaging.oai_example.configuration.blocks import IntensitySettings
from fuse_examples.imaging.oai_example.configuration.settings import settings_of
from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.models.backbone import Backbone

Config = TypeVar("Config", bound=StageConfig)


def backbone_options(config: StageConfig) -> dict[str, Any]:
    """The backbone's options that the configuration sets; the others keep the backbone's own defaults."""
    given = {"width": config.width, "norm_statistics": config.norm_statistics}
    return {option: value for option, value in given.items() if value is not None}


def backbone_name(config: StageConfig) -> str:
    """The backbone, by default the one that null stands for."""
    name: str = config.backbone or settings_of(type(config))["backbone"].null_means
    return name


def resolved(config: Config, backbone: Backbone, **values: Any) -> Config:
    """The configuration without the nulls that stand for something.

    Args:
        config: as loaded.
        backbone: what was built from it; its options fill `width` and the like.
        values: what the stage has found out itself, such as a spacing.
    """
    meanings = settings_of(type(config))
    intensity = config.intensity
    method = intensity.method or meanings["intensity.method"].null_means
    percentiles = intensity.percentiles or tuple(meanings["intensity.percentiles"].null_means)
    update = {
        "backbone": backbone.name,
        "width": backbone.options.get("width"),
        "norm_statistics": backbone.options.get("norm_statistics"),
        "orientation": config.orientation or meanings["orientation"].null_means,
        "intensity": IntensitySettings(method=method, percentiles=percentiles if method == "percentile" else None, window=intensity.window),
    }
    return config.model_copy(update={**update, **values})
