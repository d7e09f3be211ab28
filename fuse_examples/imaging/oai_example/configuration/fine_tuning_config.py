"""The settings that classification and segmentation share: a backbone goes on from its weights and is validated with labels."""

from typing import ClassVar, Literal

from fuse_examples.imaging.oai_example.configuration import rules
from fuse_examples.imaging.oai_example.configuration.kinds import CrossValidation, Flag, Names, Positive, PositiveShare
from fuse_examples.imaging.oai_example.configuration.settings import data, training, weights
from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig


class FineTuningConfig(StageConfig):
    """What every stage with labels is told."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = (
        *StageConfig.RULES,
        rules.validation_folds_are_named,
        rules.a_backbone_thaws_before_the_end,
        rules.statistics_of_a_frozen_backbone,
        rules.cross_validation_trains,
    )

    cross_validation: CrossValidation | None = data(
        None,
        "Number of folds that patients are dealt out to, or folds: those of the column `fold`. Of the cases of train_folds and val_folds "
        "each fold is tested once, by a run that learnt from the others but for one, on which it was validated. null: a single run.",
    )
    report_by: Names = data((), "Columns of the CSV file, such as sex or site, by whose values test metrics are given as well.")
    freeze_backbone: Flag | Positive = weights(
        False,
        "true: only what follows it learns, and a decoder for which there are no weights. A number: so in the first so many epochs, then "
        "all. false: all from the start.",
    )
    reestimate_norm_statistics: Literal["auto", "always", "never"] = weights(
        "auto",
        "Whether a frozen backbone's running statistics are taken anew from the training cases before the first step. auto: where in "
        "some layer more than a tenth of the channels lie a standard deviation off, or spread less than half or more than twice as "
        "widely.",
    )
    layer_decay: PositiveShare = training(
        1.0, "Factor of the backbone's learning rate for each level of its layers away from the output; 1 for one rate, 0.75 is usual."
    )
    batches_per_epoch: Positive | None = training(
        None,
        "Batches of an epoch, for which the training cases are gone through again and again, or in part. null: each case once in an epoch.",
    )
    validate_every_n_epochs: Positive = training(1, "Validate after every so many epochs.")
    early_stopping_patience: Positive | None = training(
        None, "Stop after so many validations without a better score. null: train all n_epochs."
    )
