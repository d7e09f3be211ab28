"""The networks that a prediction uses: checkpoints in, told by themselves what they are; one case in, what is found in it out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import pytorch_lightning as pl
from pydantic import ValidationError
from pytorch_lightning.callbacks import BasePredictionWriter

from fuse_examples.imaging.oai_example.configuration.classification_config import ClassificationConfig
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.covariates import Covariates, check_covariates
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.errors import WeightsError
from fuse_examples.imaging.oai_example.evaluation.classified_cases import Target
from fuse_examples.imaging.oai_example.evaluation.ensembles import average_cases, mean_thresholds
from fuse_examples.imaging.oai_example.inference.restoration import SegmentedCase
from fuse_examples.imaging.oai_example.stages import classification, segmentation
from fuse_examples.imaging.oai_example.stages.beginning import read_members
from fuse_examples.imaging.oai_example.stages.checkpoint_entry import saved_config
from fuse_examples.imaging.oai_example.stages.classification_parts import covariates_of_network
from fuse_examples.imaging.oai_example.stages.classification_results import test_targets
from fuse_examples.imaging.oai_example.training.checkpoints import PROJECT, read_run_checkpoint

KEY = "--checkpoint"
Config = TypeVar("Config", bound=StageConfig)


@dataclass(frozen=True)
class Found:
    """What networks find in one scan.

    Attributes:
        segmented: labels on the scan's voxels; None of a classifier.
        probabilities: target -> class -> probability.
        values: continuous target -> number.
        predicted: target -> the class that is called.
    """

    segmented: SegmentedCase | None = None
    probabilities: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    predicted: Mapping[str, str] = field(default_factory=dict)


def open_model(paths: Sequence[Path]) -> "Model":
    """Read the checkpoints and build their networks.

    Raises:
        WeightsError: each file that is no checkpoint of segmentation.py or classification.py, or would run code.
        UserError: checkpoints that cannot be averaged.
    """
    stages: dict[Path, str] = {}
    saved: dict[str, Any] = {}
    problems: list[str] = []
    for path in paths:
        try:
            checkpoint = read_run_checkpoint(path, KEY)
        except WeightsError as error:
            problems += error.problems
            continue
        stages[path] = str(checkpoint[PROJECT].get("stage"))
        saved = saved or saved_config(checkpoint)
        if stages[path] not in MODELS:
            problems.append(_no_model(path, stages[path]))
    if not problems and len(set(stages.values())) > 1:
        told = ", ".join(f"{path} of {stage}" for path, stage in stages.items())
        problems.append(f"{KEY}: checkpoints of several stages cannot be averaged: {told}. Give those of one.")
    if problems:
        raise WeightsError(problems)
    return MODELS[stages[paths[0]]](paths, saved)


def describe_model(path: Path) -> dict[str, Any]:
    """What a checkpoint predicts and needs, as plain values, without building its network.

    Raises:
        WeightsError: no checkpoint of segmentation.py or classification.py, or one that would run code.
    """
    checkpoint = read_run_checkpoint(path, KEY)
    project = checkpoint[PROJECT]
    stage = str(project.get("stage"))
    if stage not in MODELS:
        raise WeightsError(_no_model(path, stage))
    config = saved_config(checkpoint)
    about: dict[str, Any] = {"stage": stage, "backbone": project.get("backbone"), "channels": config.get("channels")}
    if stage == segmentation.STAGE:
        return {**about, "structures": list(project.get("structures", []))}
    told = ("target", "type", "classes", "positive")
    columns = [one["name"] for one in project.get("covariates", [])] if config.get("covariate_input") else []
    return {
        **about,
        "targets": [{name: one[name] for name in told if name in one} for one in project.get("classes", [])],
        "columns": columns,
    }


def _no_model(path: Path, stage: str) -> str:
    return (
        f"{KEY}: {path} is a checkpoint of {stage}, which predicts no masks and no classes. Give one that segmentation.py or "
        "classification.py wrote."
    )


class SegmentationModel:
    """Segmenters: one, or several whose probabilities are averaged.

    Attributes:
        config: as the first checkpoint was trained; with it scans are read and predicted as in a test.
        structures: names of labels 1, 2, ...
        measured: what volumes are given of, names to labels: the structures and the regions.
        columns: of the table, that the network sees besides images: none.
    """

    stage = segmentation.STAGE
    columns: tuple[str, ...] = ()

    def __init__(self, paths: Sequence[Path], saved: Mapping[str, Any]) -> None:
        config = _config(SegmentationConfig, saved, paths)
        self.members, _ = read_members(config, self.stage, segmentation.CHECKPOINT_KEYS, KEY)
        self.config: SegmentationConfig = self.members[0].config
        self.structures = self.config.label_names
        self.measured = {name: (label,) for label, name in enumerate(self.structures, start=1)} | dict(self.config.regions or {})
        self.task = segmentation.tested_segmenter(self.members)

    def check(self, cases: Sequence[Case], table: Path) -> None:
        """Nothing to refuse."""

    def case(self, case: Case) -> Case:
        """As it is."""
        return case

    def predict(self, volumes: CaseVolumes, folder: Path) -> Found:
        """Labels of one case."""
        kept = _Kept()
        segmentation.predict_volumes(self.config, self.task, self.members[0].project, [volumes], kept, folder)
        return Found(segmented=kept.cases[0])


class ClassificationModel:
    """Classifiers: one, or several whose probabilities are averaged.

    Attributes:
        config, columns: as of `SegmentationModel`; the columns are covariates.
        targets: what is predicted, with the threshold of a positive class.
        structures, measured: none.
    """

    stage = classification.STAGE
    structures: tuple[str, ...] = ()
    measured: Mapping[str, tuple[int, ...]] = MappingProxyType({})

    def __init__(self, paths: Sequence[Path], saved: Mapping[str, Any]) -> None:
        config = _config(ClassificationConfig, saved, paths)
        members, _ = read_members(config, self.stage, classification.CHECKPOINT_KEYS, KEY)
        self.config: ClassificationConfig = members[0].config
        self.tasks = [classification.tested_classifier(member) for member in members]
        self.targets = test_targets(self.tasks[0].classes, mean_thresholds([member.thresholds for member in members]))
        self.columns = tuple(column.name for column in self._seen(self.tasks[0].covariates).columns)

    def check(self, cases: Sequence[Case], table: Path) -> None:
        """Refuse what the covariates of any checkpoint cannot take."""
        for task in self.tasks:
            check_covariates({"the scans": cases}, self._seen(task.covariates), table)

    def case(self, case: Case) -> Case:
        """The case with an empty cell for each target."""
        return replace(case, targets=dict.fromkeys(self.config.cls_targets))

    def predict(self, volumes: CaseVolumes, folder: Path) -> Found:
        """Probabilities of one case."""
        (case,) = average_cases([classification.predict_volumes(self.config, task, [volumes], folder) for task in self.tasks])
        targets = [target for target in self.targets if isinstance(target, Target)]
        probabilities = {one.name: dict(zip(one.classes, map(float, case.probabilities[one.name]), strict=True)) for one in targets}
        called = {one.name: one.classes[int(one.decide(np.array([case.probabilities[one.name]]))[0])] for one in targets}
        return Found(None, probabilities, {name: float(value) for name, value in case.values.items()}, called)

    def _seen(self, covariates: Covariates) -> Covariates:
        return covariates_of_network(self.config, covariates)


Model = SegmentationModel | ClassificationModel
MODELS: dict[str, type[Model]] = {
    segmentation.STAGE: SegmentationModel,
    classification.STAGE: ClassificationModel,
}


class _Kept(BasePredictionWriter):
    """Callback that keeps what the task predicts."""

    def __init__(self) -> None:
        super().__init__(write_interval="batch")
        self.cases: list[SegmentedCase] = []

    def write_on_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, prediction: Any, *_: Any) -> None:
        self.cases.append(prediction)


def _config(schema: type[Config], saved: Mapping[str, Any], paths: Sequence[Path]) -> Config:
    """The configuration that the first checkpoint was trained with, to test these checkpoints without worker processes."""
    try:
        config = schema.model_validate(saved)
    except ValidationError as error:
        keys = ", ".join(".".join(map(str, one["loc"])) for one in error.errors())
        raise WeightsError(
            f"{KEY}: {paths[0]} was made with settings that this version does not take: {keys}. Predict with the version that trained it."
        ) from error
    return config.model_copy(update={"test_ckpt": tuple(paths), "n_workers": 0, "report_by": ()})
