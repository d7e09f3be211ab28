"""The settings of DINO pre-training. Where a default follows a published recipe, the comment beside it names the source."""

from typing import ClassVar, Literal

from fuse_examples.imaging.oai_example.configuration import dino_rules, rules
from fuse_examples.imaging.oai_example.configuration.blocks import AugmentationSettings
from fuse_examples.imaging.oai_example.configuration.kinds import (
    AutoCount,
    AutoPositive,
    AutoPositiveNumber,
    AutoShare,
    Axis,
    Columns,
    Count,
    CountRange,
    Flag,
    InnerShareRange,
    NotNegative,
    Positive,
    PositiveNumber,
    PositiveShare,
    ScaleRange,
    Share,
    ShareBelowOne,
    ShareRange,
    Size,
)
from fuse_examples.imaging.oai_example.configuration.settings import Settings, augmentation, inner, task, training, volumes
from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig


class CropSettings(Settings):
    """The views of a volume. Scales follow 3DINO (Xu et al., 2025), which crops slices by area and their number by length."""

    n_global: Positive = inner(2, "Large views of each volume; teacher and student see them.")
    n_local: Count = inner(2, "Small views of each volume; the student alone sees them.")
    global_size: Size = inner((40, 224, 224), "Size that large views are resampled to.")
    local_size: Size = inner((40, 128, 128), "Size that small views are resampled to.")
    global_scale_in_plane: ShareRange = inner((0.48, 1.0), "Smallest and largest share of a slice's area in a large view.")
    global_scale_through_plane: ShareRange = inner((0.5, 1.0), "Smallest and largest share of the slices in a large view.")
    local_scale_in_plane: ShareRange = inner((0.16, 0.48), "Smallest and largest share of a slice's area in a small view.")
    local_scale_through_plane: ShareRange = inner((0.2, 0.5), "Smallest and largest share of the slices in a small view.")
    through_plane_axis: Axis | None = inner(None, "Axis along which slices are stacked. null: the axis of the largest voxel spacing.")


class ProjectionHeadSettings(Settings):
    """The projection head of student and teacher (Caron et al., 2021)."""

    n_layers: Positive = inner(3, "Linear layers before the last one.")
    hidden_dim: Positive = inner(2048, "Width of the hidden layers.")
    bottleneck_dim: Positive = inner(256, "Width of the normalised vector before the last layer.")
    n_prototypes: AutoPositive = inner(
        "auto", "Outputs of the last layer. auto: by the number of volumes, 1024 up to 20 000 of them, 65 536 from 500 000 on."
    )
    use_batch_norm: Flag = inner(
        True, "Whether the hidden layers have batch normalisation; without it a few hundred similar scans soon gave uniform outputs."
    )
    norm_last_layer: Flag = inner(True, "Whether the rows of the last layer keep length one; false learns faster and collapses sooner.")


class MaskingSettings(Settings):
    """Masked objectives beside DINO's. Shares and ratios follow 3DINO (Xu et al., 2025)."""

    patch_weight: NotNegative = inner(
        0.0,
        "Weight of masked self-distillation, which tells what the teacher says of each masked cell, as a mean over masked views; 0 for "
        "none. The 1 of DINOv2 and 3DINO, over all large views, is 0.5 here.",
    )
    patch_centering: Literal["moving_average", "sinkhorn"] = inner(
        "sinkhorn",
        "As centering, for masked cells. sinkhorn, as in DINOv2: with the moving average one prototype soon took all cells of a few "
        "hundred scans.",
    )
    reconstruction_weight: NotNegative = inner(
        0.0,
        "Weight of masked reconstruction, which also trains the decoder and exports it; 0 for none. 1 made better features of one of two "
        "real data sets in two of three pre-trainings, and no difference to the other (docs/pretraining.md).",
    )
    share_of_views: ShareBelowOne = inner(
        0.5, "Share of each volume's large views that are masked; the others keep normalisation statistics as whole views make them."
    )
    ratio: InnerShareRange = inner((0.2, 0.75), "Smallest and largest share of a masked view that is hidden.")
    block_cells: CountRange = inner(
        (1, 3), "Shortest and longest edge of the hidden blocks, in cells of the deepest feature map (unet3d: 8 voxels)."
    )

    @property
    def is_on(self) -> bool:
        """Whether any objective needs masks."""
        return self.patch_weight > 0 or self.reconstruction_weight > 0


class ViewAugmentation(AugmentationSettings):
    """Random changes of a view, drawn for each view anew."""

    gamma_range: ScaleRange = inner(
        (0.5, 2.0), "Smallest and largest exponent of a gamma curve over the range of intensities; [1, 1] for none."
    )
    blur_std: NotNegative = inner(1.0, "Largest standard deviation of a Gaussian blur, in voxels of the view; 0 for none.")
    shading: NotNegative = inner(
        0.0,
        "Largest coefficient of a smooth uneven brightness over the view; 0 for none. About 0.5 for MRI whose coils shade each scan in a "
        "way of its own, which all its views share: without it a network may learn that first.",
    )


class DINOConfig(StageConfig):
    """Pre-train a backbone on unlabelled volumes with DINO, or test one."""

    script: ClassVar[str] = "fuse_examples/imaging/oai_example/self_supervised/dino.py"
    RULES: ClassVar[tuple[rules.Rule, ...]] = (
        *StageConfig.RULES,
        rules.one_checkpoint_is_tested,
        dino_rules.enough_views,
        dino_rules.learning_rate_falls,
        dino_rules.momentum_rises,
        dino_rules.probes_need_both_folds,
        dino_rules.masks_for_masked_objectives,
    )

    crops: CropSettings = volumes(CropSettings, "The views of each volume: boxes cut out in all three axes.")

    augmentation: ViewAugmentation = augmentation(ViewAugmentation, "Random changes of each view.")

    head: ProjectionHeadSettings = task(ProjectionHeadSettings, "The projection head; it is not part of the exported backbone.")
    masking: MaskingSettings = task(
        MaskingSettings,
        "Objectives on parts of the large views that the student is not shown; off, but masked reconstruction is worth a try "
        "(docs/pretraining.md).",
    )
    pooling: Literal["average", "max"] = task("average", "How the deepest feature map becomes one vector.")
    probe_targets: Columns | None = task(
        None,
        "Categorical columns of the CSV file to probe the features with, by k-NN and a linear classifier learnt on the training cases; the "
        "network never sees them. best.ckpt is then the best probe's epoch. null: none.",
    )
    probe_every_n_epochs: Positive = task(5, "Probe after every so many epochs, and after the first and the last, on val_folds.")
    student_temperature: PositiveNumber = task(0.1, "Temperature of the student's softmax.")
    teacher_temperature_start: AutoPositiveNumber = task(
        "auto", "Temperature of the teacher's softmax at the start. auto: teacher_temperature, but at most 0.04."
    )
    teacher_temperature: AutoPositiveNumber = task(
        "auto",
        "Temperature of the teacher's softmax after its warm-up; above 0.07 is unstable. auto: by the number of volumes, 0.02 up to "
        "20 000 of them, 0.07 from a million on.",
    )
    teacher_temperature_warmup_epochs: AutoCount = task(
        "auto", "Epochs over which the teacher's temperature rises in a straight line. auto: 30 % of n_epochs, at most 30."
    )
    centering: Literal["moving_average", "sinkhorn"] = task(
        "moving_average",
        "What keeps one prototype from taking everything. moving_average: the average of the teacher's past outputs is subtracted. "
        "sinkhorn: each batch is made to use all prototypes alike.",
    )
    center_momentum: Share = task(0.9, "Share of the old centre that is kept at each step, with centering: moving_average.")
    koleo_weight: NotNegative = task(
        0.0,
        "Weight of the KoLeo loss, which keeps the features of different volumes apart, as a mean over large views; 0 for none. The 0.1 of "
        "DINOv2, over their sum, is 0.2 here.",
    )
    momentum_start: AutoShare = task(
        "auto",
        "Share of the teacher that is kept at each step, at the start. auto: by the number of volumes, 0.99 up to 20 000 of them, 0.996 "
        "from a million on; less in a short run.",
    )
    momentum_end: Share = task(1.0, "The same at the end; a cosine leads there.")
    drop_path: ShareBelowOne = task(
        0.0,
        "Chance that a volume passes the encoder's last residual block by in training; it falls to 0 at the first block. 0.1 in DINO, 0.3 "
        "in 3DINO, 0 for none. Not with unet3d, which has no residual blocks.",
    )
    freeze_last_layer_epochs: Count = task(1, "Epochs in which the head's last layer does not learn.")
    on_collapse: Literal["warn", "stop"] = task(
        "warn", "When an epoch after the warm-up shows a collapse. warn: say so and go on. stop: end the run, with what usually helps."
    )

    batch_size: Positive = training(4, "Volumes per step; each gives crops.n_global + crops.n_local views.")
    n_epochs: Positive = training(100, "Passes over the training volumes.")
    learning_rate: AutoPositiveNumber = training(  # type: ignore[assignment]  # a number once the run's size is known
        "auto", "Highest learning rate of AdamW. auto: 5e-4 x sqrt(volumes per step / 64)."
    )
    learning_rate_end: NotNegative = training(1e-6, "Learning rate at the end; a cosine leads there.")
    layer_decay: PositiveShare = training(
        1.0,
        "Factor of the learning rate for each level of the encoder away from its deepest map; heads and decoder learn at the full rate. "
        "0.9 in DINOv2 and 3DINO, 1 for one rate.",
    )
    weight_decay: NotNegative = training(0.04, "Weight decay of AdamW at the start; biases and norms have none.")
    weight_decay_end: NotNegative = training(0.4, "Weight decay at the end; a cosine leads there.")
    warmup_epochs: AutoCount = training(  # type: ignore[assignment]  # likewise
        "auto", "Epochs over which the learning rate rises from zero. auto: 10 % of n_epochs, at most 10."
    )
    grad_clip: PositiveNumber | None = training(3.0, "Largest norm of the gradient; longer ones are scaled down. null: no limit.")
