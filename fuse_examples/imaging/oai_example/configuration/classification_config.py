"""The settings of classification."""

from typing import ClassVar, Literal

from fuse_examples.imaging.oai_example.configuration import classification_rules, rules
from fuse_examples.imaging.oai_example.configuration.blocks import VolumeAugmentation
from fuse_examples.imaging.oai_example.configuration.fine_tuning_config import FineTuningConfig
from fuse_examples.imaging.oai_example.configuration.kinds import (
    ClassOfTarget,
    Columns,
    Flag,
    NotNegative,
    Positive,
    PositiveNumber,
    ShareBelowOne,
    Size,
    Text,
    TypeOfCovariate,
    TypeOfTarget,
)
from fuse_examples.imaging.oai_example.configuration.settings import (
    REQUIRED,
    Settings,
    augmentation,
    inner,
    task,
    training,
    volumes,
)


class ClassificationHeadSettings(Settings):
    """The head that each target has."""

    dropout: ShareBelowOne = inner(0.1, "Share of the features that is dropped in training.")
    hidden_dim: Positive | None = inner(None, "Width of a hidden layer. null: no hidden layer.")


class ClassificationConfig(FineTuningConfig):
    """Train a volume classifier, or test one."""

    script: ClassVar[str] = "fuse_examples/imaging/oai_example/downstream/classification.py"
    RULES: ClassVar[tuple[rules.Rule, ...]] = (
        *FineTuningConfig.RULES,
        classification_rules.targets_are_columns_of_their_own,
        classification_rules.types_belong_to_targets,
        classification_rules.positive_classes_belong_to_targets,
        classification_rules.covariates_are_no_targets,
        classification_rules.sampling_is_by_a_target_with_classes,
        classification_rules.losses_of_classes_need_classes,
        classification_rules.no_flips_where_the_side_is_the_target,
    )

    resize_to: Size = volumes((40, 224, 224), "Size that volumes are resized to.")

    augmentation: VolumeAugmentation = augmentation(VolumeAugmentation, "Random changes of a training volume.")

    cls_targets: Columns = task(REQUIRED, "Columns of the CSV file to predict, one head each. An empty cell is left out.")
    target_types: TypeOfTarget | None = task(
        None,
        "What a column of cls_targets holds: {KL: ordinal, age: continuous}. categorical: classes. ordinal: grades, numbers or texts that "
        "begin with one. continuous: numbers. null: all are categorical.",
    )
    positive_class: ClassOfTarget | None = task(
        None, "The class that counts as positive, by target: {V00COHORT: '1: Progression'}. null: the rarest in training."
    )
    covariates: TypeOfCovariate | None = task(
        None,
        "Columns of the CSV file that are known beside the image: {age: numeric, sex: categorical}. A linear model of them alone stands "
        "beside the network's score. An empty cell is allowed.",
    )
    covariate_input: Flag = task(True, "Whether the network sees the covariates too. false: only the linear model does.")
    pooling: Literal["average", "max", "attention"] = task(
        "average", "How the deepest feature map becomes one vector. attention: an average whose weights are learnt."
    )
    head: ClassificationHeadSettings = task(ClassificationHeadSettings, "The head of each target.")
    class_weights: Literal["balanced", "none"] = task(
        "balanced", "balanced: rare classes weigh more in the loss, but for the target of sample_by. none: all alike."
    )
    sample_by: Text | None = task(
        None, "Target whose classes are drawn equally often in training, some cases several times in an epoch. null: each case once."
    )
    focal_gamma: NotNegative = task(0.0, "Exponent of the focal loss of categorical targets: well classified cases count less. 0: none.")
    label_smoothing: ShareBelowOne = task(0.0, "Share of a categorical target's label that is spread over all its classes.")
    explain: Literal["none", "gradcam", "occlusion"] = task(
        "gradcam",
        "How a test shows where the network looks, as maps in test/explanations and in the report. gradcam: by the deepest feature map, "
        "which takes no longer than the prediction. occlusion: by covering boxes of the scan, some hundred predictions a case. none: not.",
    )
    explain_cases: Positive = task(
        6, "Cases of each target that are explained: half of them the surest mistakes, the others the surest right answers."
    )
    n_bootstrap: Positive = task(2000, "Resamplings of the test patients for the 95 % confidence intervals.")

    head_learning_rate: PositiveNumber | None = training(None, "Highest learning rate of the heads. null: learning_rate.")
