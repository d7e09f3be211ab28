"""What a run of ours leaves in its checkpoints besides weights, and what a later run takes from there."""

from collections.abc import Iterable, Mapping
from typing import Any

from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.errors import WeightsError
from fuse_examples.imaging.oai_example.models.backbone import Backbone, build_backbone
from fuse_examples.imaging.oai_example.training.checkpoints import PROJECT, read_run_checkpoint
from fuse_examples.imaging.oai_example.training.patient_hashes import hash_patients


def project_entry(
    stage: str,
    config: StageConfig,
    backbone: Backbone,
    preprocessing: Preprocessing,
    cases: Iterable[Case],
    inherited: Iterable[str] = (),
    **facts: Any,
) -> dict[str, Any]:
    """Return the project's entry of a checkpoint, and the metadata of an exported backbone: plain values only.

    Args:
        stage: "segmentation", "classification" or "dino".
        config: the resolved configuration.
        backbone: its name and options travel.
        preprocessing: what prediction must repeat.
        cases: those whose images the weights have learnt from; their patients travel as salted hashes.
        inherited: hashes of the patients that the weights it started from had learnt from.
        facts: what the stage adds, such as class names.
    """
    return {
        "stage": stage,
        "config": config.dump(),
        "backbone": backbone.name,
        "backbone_options": dict(backbone.options),
        "preprocessing": preprocessing.as_dict(),
        "patients": sorted({*hash_patients(case.patient for case in cases), *inherited}),
        **facts,
    }


def read_stage_checkpoint(path: Any, key: str, stage: str) -> dict[str, Any]:
    """Read a checkpoint of a run of `stage`; its project entry is under `PROJECT`. Raises WeightsError for any other file."""
    checkpoint = read_run_checkpoint(path, key)
    found = checkpoint[PROJECT].get("stage")
    if found != stage:
        raise WeightsError(f"{key}: {path} is a checkpoint of {found}, not of {stage}. Give a checkpoint that {stage}.py wrote.")
    return checkpoint


def saved_config(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration a checkpoint was trained with, as plain values."""
    config: dict[str, Any] = checkpoint[PROJECT]["config"]
    return config


def saved_backbone(project: Mapping[str, Any], *, with_decoder: bool) -> Backbone:
    """Build the backbone that a project's entry describes, with random weights."""
    return build_backbone(project["backbone"], with_decoder=with_decoder, **project["backbone_options"])
