"""Who wins where a checkpoint, or a weight file, and the configuration both have a say.

A checkpoint carries the plain values (`StageConfig.dump()`) it was made with.

* testing and prediction: the checkpoint wins; a differing YAML value is passed over with a line, a differing word is a mistake;
* pre-trained weights: what the backbone was taught with must agree, sizes and spacing may differ with a line;
* resuming: nothing that the trained weights or the order of batches depend on may change.

All functions are pure: plain values and a frozen configuration in, a new frozen configuration out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from fuse_examples.imaging.oai_example.configuration.origin import DEFAULT, Origin, Problem, in_order
from fuse_examples.imaging.oai_example.configuration.rules import WEIGHT_KEYS
from fuse_examples.imaging.oai_example.configuration.settings import settings_of
from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.configuration.wording import listed, shown
from fuse_examples.imaging.oai_example.errors import ConfigError

Config = TypeVar("Config", bound=StageConfig)

# What the features of a backbone depend on; a null in these keys takes the value of whatever the run starts from.
TAUGHT_WITH = ("backbone", "width", "norm_statistics", "backbone_options", "orientation", "intensity")
# How scans are read: a test reads as training did, while pre-training may have read other series.
READING = ("channels", "series", "tolerate_uneven_spacing")
SIZES = ("resize_to", "patch_size", "spacing")
MAY_CHANGE_ON_RESUME = ("n_epochs", "n_workers", "devices", "num_nodes", "strategy", "results_dir", "overwrite", *WEIGHT_KEYS)
_ABSENT = object()
_OPEN = (None, "auto")  # values that stand for one that the run finds out


def from_checkpoint(config: Config, saved: Mapping[str, Any], keys: Iterable[str]) -> tuple[Config, tuple[str, ...]]:
    """The configuration of a test or prediction: `keys` take the checkpoint's values.

    Args:
        config: as loaded, with test_ckpt set.
        saved: plain values as the checkpoint holds them, nested as `dump()` gives them.
        keys: names of settings and blocks that travel in the checkpoint; those that the stage or the checkpoint lacks are left out.

    Returns:
        The configuration, and a line for each YAML value that was passed over.

    Raises:
        ConfigError: for each `key=value` word that says something else than the checkpoint.
    """
    notes, problems, taken = [], [], {}
    for key, ours, theirs in _differences(config, saved, keys):
        origin = config.origin(key)
        if origin.kind == "command line" and ours not in _OPEN:
            text = f"{key}: the checkpoint was made with {shown(theirs)}, which a test cannot change; leave the word out"
            problems.append(Problem(origin, text))
        elif origin.kind == "file" and ours not in _OPEN:
            notes.append(f"{origin.text}: {key}: {shown(ours)} is passed over; the checkpoint was made with {shown(theirs)}")
        taken[key] = theirs
    _raise(problems)
    return _changed(config, taken, "the checkpoint"), tuple(notes)


def adopt_from_weights(
    config: Config, saved: Mapping[str, Any], keys: Sequence[str] = TAUGHT_WITH, may_differ: Sequence[str] = SIZES
) -> tuple[Config, tuple[str, ...]]:
    """The configuration of a run that starts from pre-trained weights: a null takes the file's value.

    Args:
        config: as loaded, with dino_weights set.
        saved: plain values as the weight file holds them.
        keys: settings and blocks that must agree with the weights.
        may_differ: settings whose difference is only reported.

    Returns:
        The configuration, and a line for each of `may_differ` that differs.

    Raises:
        ConfigError: for each of `keys` that is set to something else than the weights were made with.
    """
    problems, taken = [], {}
    for key, ours, theirs in _differences(config, saved, keys):
        if ours is None:
            taken[key] = theirs
        else:
            text = (
                f"{key}: {shown(ours)} differs from {shown(theirs)}, which the weights were made with; set it to null to take the weights'"
            )
            problems.append(Problem(config.origin(key), text))
    _raise(problems)
    notes = [
        f"{key}: {shown(ours)} here, {shown(theirs)} when the weights were made"
        for key, ours, theirs in _differences(config, _with_view_size(saved), may_differ)
        if ours is not None and theirs is not None
    ]
    return _changed(config, taken, "the weight file"), tuple(notes)


def check_resume(config: Config, saved: Mapping[str, Any]) -> Config:
    """The configuration of a resumed run: that of the run it carries on, but for the few keys that may change.

    Args:
        config: as loaded, with resume_training_from set.
        saved: plain values of the whole configuration of the run to carry on.

    Raises:
        ConfigError: for each other key that differs. A null that stands for something found out (`backbone`, `spacing`, ...) and `auto`
            do not differ: they take the run's value.
    """
    found_out = (*TAUGHT_WITH, "patch_size", "spacing", "batch_size", "structure_names", "positive_class")
    keys = [key for key in settings_of(type(config)) if key not in MAY_CHANGE_ON_RESUME and not key.startswith("clearml")]
    free = listed([*(key for key in MAY_CHANGE_ON_RESUME if key in settings_of(type(config))), "clearml*"])
    problems, taken = [], {}
    for key, ours, theirs in _differences(config, saved, keys):
        if ours == "auto" or (ours is None and key.split(".")[0] in found_out):
            taken[key] = theirs
        else:
            text = f"{key}: {shown(ours)} differs from {shown(theirs)} of the run to be resumed; only {free} may change"
            problems.append(Problem(config.origin(key), text))
    _raise(problems)
    return _changed(config, taken, "the run to be resumed")


def settle(config: Config) -> Config:
    """The configuration with each null replaced by the value it stands for when nothing else gave one (`backbone: null` is unet3d)."""
    values = config.dump()
    nulls = {key: one.null_means for key, one in settings_of(type(config)).items() if one.null_means is not None}
    if config.intensity.method not in (None, "percentile"):
        del nulls["intensity.percentiles"]
    return _changed(config, {key: value for key, value in nulls.items() if _get(values, key) is None}, None)


def _differences(config: StageConfig, saved: Mapping[str, Any], keys: Iterable[str]) -> list[tuple[str, Any, Any]]:
    """(key, our value, their value) of each setting among `keys`, and in the blocks among them, that the two tell differently."""
    wanted = tuple(keys)
    ours = config.dump()
    if _is_among(_get(ours, "backbone_options"), _get(saved, "backbone_options")):
        ours["backbone_options"] = None  # which stands for all of theirs
    pairs = [(key, _get(ours, key), _get(saved, key)) for key in settings_of(type(config)) if key in wanted or key.split(".")[0] in wanted]
    return [(key, mine, theirs) for key, mine, theirs in pairs if theirs is not _ABSENT and mine != theirs]


def _is_among(mine: Any, theirs: Any) -> bool:
    """Whether both name options, and theirs have the same values for all of mine."""
    return isinstance(mine, Mapping) and isinstance(theirs, Mapping) and mine.items() <= theirs.items()


def _with_view_size(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """What weights were made with; for pre-training the size of its large views is the size of whole volumes and of patches."""
    size = _get(saved, "crops.global_size")
    return saved if size is _ABSENT else {"resize_to": size, "patch_size": size, **saved}


def _get(values: Mapping[str, Any], key: str) -> Any:
    found: Any = values
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return _ABSENT
        found = found[part]
    return found


def _changed(config: Config, taken: Mapping[str, Any], giver: str | None) -> Config:
    values = config.dump()
    for key, value in taken.items():
        block = values
        for part in key.split(".")[:-1]:
            block = block[part]
        block[key.split(".")[-1]] = value
    origin = Origin("checkpoint", giver) if giver else DEFAULT
    kept = {key: config.origin(key) for key in settings_of(type(config))}
    try:
        return type(config).model_validate(values).with_origins(kept | dict.fromkeys(taken, origin))
    except ValidationError as error:
        keys = listed(sorted({str(detail["loc"][0]) for detail in error.errors()}))
        raise ConfigError(f"{giver or 'the configuration'} holds values that cannot be used here: {keys}") from error


def _raise(problems: list[Problem]) -> None:
    if problems:
        raise ConfigError(in_order(problems))
