"""What a classification configuration is made of: the network with its heads, what each head learns, and the batches it learns from."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.configuration.classification_config import ClassificationConfig
from fuse_examples.imaging.oai_example.data.class_index import ClassIndex
from fuse_examples.imaging.oai_example.data.classification_views import LabelledVolumes, balanced_sampling, balanced_weights
from fuse_examples.imaging.oai_example.data.covariates import Covariates
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.targets import LearnedTarget
from fuse_examples.imaging.oai_example.data.view import collate_with_views
from fuse_examples.imaging.oai_example.data.volume_data_module import VolumeDataModule
from fuse_examples.imaging.oai_example.models.attention_pooling import AttentionPooling
from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.models.heads import ClassificationHeads
from fuse_examples.imaging.oai_example.objectives.target_objectives import (
    ClassObjective,
    GradeObjective,
    NumberObjective,
    TargetObjective,
)
from fuse_examples.imaging.oai_example.stages.resolution import makes_views_on_device
from fuse_examples.imaging.oai_example.stages.stored_cases import StoredCases
from fuse_examples.imaging.oai_example.tasks.classification import ClassificationRecipe, ClassificationTask


def classification_task(
    config: ClassificationConfig, backbone: Backbone, classes: Sequence[LearnedTarget], covariates: Covariates
) -> ClassificationTask:
    """The task that a resolved configuration describes, around a backbone."""
    objectives = {learned.target: _objective(config, learned) for learned in classes}
    n_outputs = {target: objective.n_outputs for target, objective in objectives.items()}
    n_features = backbone.feature_dim + covariates_of_network(config, covariates).length
    heads = ClassificationHeads(n_features, n_outputs, hidden_dim=config.head.hidden_dim, dropout=config.head.dropout)
    recipe = ClassificationRecipe(
        config.learning_rate,
        config.head_learning_rate or config.learning_rate,
        config.weight_decay,
        config.warmup_epochs,
        config.freeze_backbone,
        config.layer_decay,
        config.reestimate_norm_statistics,
    )
    pooling = AttentionPooling(backbone.feature_dim) if config.pooling == "attention" else None
    return ClassificationTask(backbone, heads, objectives, recipe, pooling)


def covariates_of_network(config: ClassificationConfig, covariates: Covariates) -> Covariates:
    """Those covariates that the network sees."""
    return covariates if config.covariate_input else Covariates()


def backbone_pooling(config: ClassificationConfig) -> str:
    """What the backbone does with its deepest map; a pooling that learns is not its own."""
    return "average" if config.pooling == "attention" else config.pooling


def _objective(config: ClassificationConfig, learned: LearnedTarget) -> TargetObjective:
    if not isinstance(learned, ClassIndex):
        return NumberObjective(learned.mean, learned.std)
    # What is drawn evenly need not be weighed as well.
    balanced = config.class_weights == "balanced" and learned.target != config.sample_by
    weights = balanced_weights(learned) if balanced else torch.ones(len(learned.classes))
    if learned.ordinal:
        return GradeObjective(weights)
    positive = None if learned.positive is None else learned.classes.index(learned.positive)
    return ClassObjective(weights, config.focal_gamma, config.label_smoothing, positive)


def training_data(
    config: ClassificationConfig,
    stored: StoredCases,
    preprocessing: Preprocessing,
    classes: Sequence[LearnedTarget],
    covariates: Covariates,
) -> VolumeDataModule:
    """Training and validation batches of stored cases."""
    on_device = makes_views_on_device(config)
    seen = covariates_of_network(config, covariates)
    return VolumeDataModule(
        LabelledVolumes(stored.train, preprocessing, classes, config.augmentation, config.seed, seen, on_device=on_device),
        LabelledVolumes(stored.evaluation, preprocessing, classes, covariates=seen),
        config.batch_size,
        config.n_workers,
        config.seed,
        collate=collate_with_views if on_device else None,
        evaluation_batch_size=config.batch_size,
        sample_weights=_sample_weights(config, stored.train, classes),
        batches_per_epoch=config.batches_per_epoch,
    )


def _sample_weights(
    config: ClassificationConfig, volumes: Sequence[CaseVolumes], classes: Sequence[LearnedTarget]
) -> NDArray[np.float64] | None:
    chosen = [index for index in classes if index.target == config.sample_by and isinstance(index, ClassIndex)]
    return balanced_sampling(volumes, chosen[0]) if chosen else None
