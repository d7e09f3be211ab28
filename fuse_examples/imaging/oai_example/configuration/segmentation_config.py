"""The settings of segmentation."""

from typing import Annotated, ClassVar, Literal

from annotated_types import Ge
from pydantic import Strict

from fuse_examples.imaging.oai_example.configuration import rules, segmentation_rules
from fuse_examples.imaging.oai_example.configuration.fine_tuning_config import FineTuningConfig
from fuse_examples.imaging.oai_example.configuration.kinds import (
    ClassWeights,
    Flag,
    Names,
    Positive,
    PositiveNumber,
    Regions,
    Share,
    ShareBelowOne,
    Size,
    Spacing,
)
from fuse_examples.imaging.oai_example.configuration.segmentation_augmentation import SegmentationAugmentation
from fuse_examples.imaging.oai_example.configuration.settings import REQUIRED, augmentation, data, task, training, volumes


class SegmentationConfig(FineTuningConfig):
    """Train a volume segmenter, or test one."""

    script: ClassVar[str] = "fuse_examples/imaging/oai_example/downstream/segmentation.py"
    RULES: ClassVar[tuple[rules.Rule, ...]] = (
        *FineTuningConfig.RULES,
        segmentation_rules.a_name_for_each_structure,
        segmentation_rules.sheets_are_structures,
        segmentation_rules.regions_can_be_written,
        segmentation_rules.losses_fit_the_activation,
        segmentation_rules.whole_volumes_or_patches,
        segmentation_rules.flips_know_the_sides,
        segmentation_rules.elastic_fields_do_not_fold,
    )

    mask_affine: Literal["strict", "from_image"] = data(
        "strict", "strict: a mask that lies elsewhere than its image is an error. from_image: the mask takes the image's place in space."
    )

    resize_to: Size | None = volumes(None, "Size that whole volumes are resized to. Set this or patch_size or neither.")
    patch_size: Size | None = volumes(
        None, "Size of the patches to train on; prediction slides windows of this size over the volume. null without resize_to: planned."
    )
    spacing: Spacing | None = volumes(
        None, "Voxel size in mm that volumes are resampled to, with patch_size. null: the median of the training cases."
    )
    foreground_share: Share = volumes(0.33, "Share of patches that are centred on a voxel of a structure, with patch_size.")
    patches_per_case: Positive = volumes(1, "Patches drawn from each case in an epoch, with patch_size.")
    overlap: ShareBelowOne = volumes(0.5, "Share of a window that its neighbour covers again in prediction, with patch_size.")

    mirror_in_test: Flag = volumes(
        True, "Whether a test averages predictions over mirror images, along each axis of augmentation.flip_axes."
    )
    largest_component: Literal["auto", "never"] = volumes(
        "auto",
        "auto: a structure keeps its largest connected part alone where that raises its Dice on val_folds. never: all parts stay, as "
        "always with regions.",
    )

    augmentation: SegmentationAugmentation = augmentation(SegmentationAugmentation, "Random changes of a training volume and its mask.")

    num_classes: Annotated[int, Strict(), Ge(2)] = task(REQUIRED, "Number of labels in the masks, the background (0) included.")
    structure_names: Names | None = task(None, "Names of labels 1, 2, ... in this order. null: structure_1, structure_2, ...")
    activation: Literal["softmax", "sigmoid"] = task(
        "softmax",
        "softmax: the structures exclude each other. sigmoid: each is judged on its own; where several are above one half the most "
        "probable is written, since a mask holds one label a voxel.",
    )
    regions: Regions | None = task(
        None,
        "Structures that overlap, as unions of labels: {whole: [1, 2, 3], core: [2, 3], inner: [3]}. With sigmoid; the network has an "
        "output for each, and they are what is scored. A mask gets the label that a region has beside those inside it. null: each label.",
    )
    include_background: Flag = task(False, "Whether the background counts in the Dice term of the loss, with softmax.")
    class_weights: ClassWeights | None = task(
        None,
        "Weights in the loss's cross-entropy: with softmax of all labels, the background's first; with sigmoid of the structures or "
        "regions, the outer first.",
    )
    deep_supervision: Flag = task(False, "Whether the loss is also taken at 1/2 and 1/4 of the resolution, inside the decoder.")
    surface_dice_tolerance: PositiveNumber = task(1.0, "Distance in mm within which surface Dice calls two surfaces the same.")
    thickness_structures: Names | None = task(
        None, "Sheets whose mean thickness is measured in a test. null: the structures with 'cartilage' in their name."
    )
    n_bootstrap: Positive = task(2000, "Resamplings of the test patients for the 95 % confidence intervals.")

    batch_size: Positive | None = training(  # type: ignore[assignment]  # null until the run has planned it
        None, "Cases per step. null: planned from the training cases and the memory."
    )

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of labels 1, 2, ...: structure_names, or structure_1, structure_2, ..."""
        return self.structure_names or segmentation_rules.default_names(self.num_classes)

    @property
    def structures(self) -> tuple[str, ...]:
        """What is predicted and scored: the regions, the outer first, or the labels by their names."""
        return tuple(segmentation_rules.outer_first(self.regions)) or self.label_names

    @property
    def region_labels(self) -> tuple[tuple[int, ...], ...]:
        """Labels of each region, the outer first; empty without regions."""
        return tuple(segmentation_rules.outer_first(self.regions).values())

    @property
    def written_labels(self) -> tuple[int, ...]:
        """The label that a mask gets where a region is, the later over the earlier; empty without regions."""
        return tuple(own[0] for own in segmentation_rules.own_labels(self.region_labels))

    @property
    def sheets(self) -> tuple[str, ...]:
        """The structures whose thickness is measured: thickness_structures, or those with "cartilage" in their name."""
        if self.thickness_structures is not None:
            return self.thickness_structures
        return tuple(name for name in self.structures if "cartilage" in name.lower())
