"""What a run of ours leaves in its checkpoints besides weights, and what a later run takes from there."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.errors import WeightsError
from fuse_examples.imaging.oai_example.models.backbone import Backbone, build_backbone
from fuse_examples.imaging.oai_example.models.containers import has_plain_values
from fuse_examples.imaging.oai_example.stages.opening import FOLD_COUNTS, OpenedCases
from fuse_examples.imaging.oai_example.training.checkpoints import PROJECT, read_run_checkpoint
from fuse_examples.imaging.oai_example.training.patient_hashes import hash_patients

_ENTRIES = {"config": dict, "backbone": str, "backbone_options": dict, "preprocessing": dict, "patients": list, "state_dict": dict}
_RESUMED = ("callbacks", "epoch", "global_step", "loops", "lr_schedulers", "optimizer_states", "pytorch-lightning_version", "random_state")
"""What a run needs besides, to go on where it stopped."""
_ORIGINAL = "Give the checkpoint as the run wrote it, or another one of its checkpoints folder."


def project_entry(
    stage: str,
    config: StageConfig,
    backbone: Backbone,
    preprocessing: Preprocessing,
    cases: OpenedCases,
    inherited: Iterable[str] = (),
    **facts: Any,
) -> dict[str, Any]:
    """Return the project's entry of a checkpoint, and the metadata of an exported backbone: plain values only.

    Args:
        stage: "segmentation", "classification" or "dino".
        config: the resolved configuration.
        backbone: its name and options travel.
        preprocessing: what prediction must repeat.
        cases: of the run. The patients of those it learns from travel as salted hashes; of all travels how many are in each fold.
        inherited: hashes of the patients that the weights it started from had learnt from.
        facts: what the stage adds, such as class names.
    """
    return {
        "stage": stage,
        "config": config.dump(),
        "backbone": backbone.name,
        "backbone_options": dict(backbone.options),
        "preprocessing": preprocessing.as_dict(),
        "patients": sorted({*hash_patients(case.patient for case in cases.train), *inherited}),
        FOLD_COUNTS: cases.fold_counts(),
        **facts,
    }


def read_stage_checkpoint(path: Any, key: str, stage: str) -> dict[str, Any]:
    """Read a checkpoint of a run of `stage`; its project entry is under `PROJECT`. Raises WeightsError for any other file."""
    checkpoint = read_run_checkpoint(path, key)
    found = checkpoint[PROJECT].get("stage")
    if found != stage:
        raise WeightsError(f"{key}: {path} is a checkpoint of {found}, not of {stage}. Give a checkpoint that {stage}.py wrote.")
    entries = {**checkpoint[PROJECT], "state_dict": checkpoint.get("state_dict")}
    lost = [name for name, kind in _ENTRIES.items() if not isinstance(entries.get(name), kind)]
    lost += [name for name in _RESUMED if key == "resume_training_from" and name not in checkpoint]
    if lost:
        raise WeightsError(f"{key}: {path} has lost {', '.join(lost)} since a run wrote it. {_ORIGINAL}")
    return checkpoint


def check_fits(task: nn.Module, state_dict: Mapping[str, Any], path: Any, key: str) -> None:
    """Hold a checkpoint's tensors against the task that is to take them.

    Raises:
        WeightsError: naming the first tensor that is missing, that is not the task's, or whose shape or kind differs; or that is not
            finite.
    """
    ours, theirs = task.state_dict(), state_dict
    missing = [name for name in ours if name not in theirs]
    alien = [str(name) for name in theirs if name not in ours]
    differing = [name for name in ours if name in theirs and ours[name].shape != getattr(theirs[name], "shape", None)]
    strange = [name for name in ours if name in theirs and name not in differing and not _alike(ours[name], theirs[name])]
    faults = {"are missing": missing, "are not the network's": alien, "have another shape": differing, "hold no such numbers": strange}
    found = [f"{len(names)} {what}, first {names[0]}" for what, names in faults.items() if names]
    if found:
        raise WeightsError(f"{key}: {path} does not hold the tensors of the network that it describes: {'; '.join(found)}. {_ORIGINAL}")
    infinite = next((name for name, tensor in theirs.items() if not torch.isfinite(tensor).all()), None)
    if infinite is not None:
        raise WeightsError(
            f"{key}: {path} holds numbers that are not finite, first in {infinite}: the training diverged before it was written. "
            "Give an earlier checkpoint, such as best.ckpt, or train anew with a lower learning_rate."
        )


def _alike(ours: Tensor, theirs: Tensor) -> bool:
    """Whether a copy of `theirs` is the same numbers: quantised, complex, sparse or absent ones would become others."""
    return has_plain_values(theirs) and theirs.is_floating_point() == ours.is_floating_point()


def saved_config(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration a checkpoint was trained with, as plain values."""
    config: dict[str, Any] = checkpoint[PROJECT]["config"]
    return config


def saved_backbone(project: Mapping[str, Any], *, with_decoder: bool) -> Backbone:
    """Build the backbone that a project's entry describes, with random weights."""
    return build_backbone(project["backbone"], with_decoder=with_decoder, **project["backbone_options"])
