"""What a pre-training configuration is made of: networks, losses and recipe."""

from torch import nn

from fuse_examples.imaging.oai_example.configuration.dino_auto import number
from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.models.heads import DINOProjectionHead
from fuse_examples.imaging.oai_example.objectives.dino_loss import DINOLoss
from fuse_examples.imaging.oai_example.objectives.patch_loss import PatchLoss
from fuse_examples.imaging.oai_example.tasks.dino import DINOTask
from fuse_examples.imaging.oai_example.tasks.dino_recipe import DINORecipe
from fuse_examples.imaging.oai_example.tasks.masked_dino import MaskedDINOTask, PatchParts, ReconstructionParts


def dino_task(config: DINOConfig, backbone: Backbone, recipe: DINORecipe | None = None) -> DINOTask:
    """The task with the objectives that are on; a configuration in which no `auto` is left, unless it is for a test.

    Args:
        config: the resolved configuration.
        backbone: the student's, with its decoder where `with_decoder_of` says so.
        recipe: of training; a test needs none.
    """
    head = _head(config, backbone, use_batch_norm=config.head.use_batch_norm)
    criterion, stop = DINOLoss(*_distributions(config), config.centering), config.on_collapse == "stop"
    masking, patch, reconstruction = config.masking, None, None
    if not masking.is_on:
        return DINOTask(backbone, head, criterion, recipe, stop_on_alarm=stop)
    if masking.patch_weight > 0:
        of_cells = _head(config, backbone, use_batch_norm=False)
        patch = PatchParts(masking.patch_weight, of_cells, PatchLoss(*_distributions(config), masking.patch_centering))
    if masking.reconstruction_weight > 0:
        to_image = nn.Conv3d(backbone.decoder_dim, int(backbone.options["in_channels"]), kernel_size=1)
        reconstruction = ReconstructionParts(masking.reconstruction_weight, to_image)
    return MaskedDINOTask(backbone, head, criterion, recipe, patch=patch, reconstruction=reconstruction, stop_on_alarm=stop)


def _head(config: DINOConfig, backbone: Backbone, *, use_batch_norm: bool) -> DINOProjectionHead:
    head = config.head
    return DINOProjectionHead(
        backbone.feature_dim,
        head.hidden_dim,
        head.bottleneck_dim,
        number(head.n_prototypes),
        head.n_layers,
        use_batch_norm=use_batch_norm,
        norm_last_layer=head.norm_last_layer,
    )


def _distributions(config: DINOConfig) -> tuple[int, float, float]:
    return number(config.head.n_prototypes), config.student_temperature, config.center_momentum


def with_decoder_of(config: DINOConfig) -> bool:
    """Whether the decoder learns, and is exported."""
    return config.masking.reconstruction_weight > 0


def recipe_of(config: DINOConfig) -> DINORecipe:
    """Schedules and optimiser values, as plain numbers."""
    return DINORecipe(
        learning_rate=number(config.learning_rate),
        learning_rate_end=config.learning_rate_end,
        warmup_epochs=number(config.warmup_epochs),
        weight_decay=config.weight_decay,
        weight_decay_end=config.weight_decay_end,
        momentum_start=number(config.momentum_start),
        momentum_end=config.momentum_end,
        teacher_temperature_start=number(config.teacher_temperature_start),
        teacher_temperature=number(config.teacher_temperature),
        teacher_temperature_warmup_epochs=number(config.teacher_temperature_warmup_epochs),
        freeze_last_layer_epochs=config.freeze_last_layer_epochs,
        koleo_weight=config.koleo_weight,
        layer_decay=config.layer_decay,
    )
