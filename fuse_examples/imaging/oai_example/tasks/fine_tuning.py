"""What classifier and segmenter share: a pre-trained backbone, which may be frozen for good or in the first epochs."""

import logging
from typing import Any, Literal

import pytorch_lightning as pl
from torch import Tensor

from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.objectives.norm_statistics import MISFIT_SHARE, reestimate_statistics
from fuse_examples.imaging.oai_example.tasks.first_batches import first_batches
from fuse_examples.imaging.oai_example.training.optimisation import is_frozen, layered_parameter_groups

Reestimation = Literal["auto", "always", "never"]
log = logging.getLogger(__name__)


class FineTuningTask(pl.LightningModule):
    """A task on a backbone. While it is frozen it stays in evaluation mode, keeps its statistics and has no gradients.

    Args:
        backbone: the network.
        freeze_backbone: True for good; a number for so many epochs, after which it learns with everything else.
        reestimate_norm_statistics: when a frozen backbone's running statistics are taken anew from the training cases before the first
            step: "auto" where those of its source do not fit (`objectives.norm_statistics`).
        new_decoder: whether the decoder starts from random numbers. It then learns from the start, beside a frozen encoder: a head on a
            random decoder that stays as it is could learn next to nothing.
    """

    def __init__(
        self, backbone: Backbone, freeze_backbone: bool | int, reestimate_norm_statistics: Reestimation, *, new_decoder: bool = False
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self._freeze, self._reestimate = freeze_backbone, reestimate_norm_statistics
        self._start_with(new_decoder=new_decoder)

    def _start_with(self, *, new_decoder: bool) -> None:
        self._new_decoder = new_decoder
        if self._freeze is not True:
            return
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(new_decoder and self.backbone.is_decoder_key(name))

    @property
    def backbone_is_frozen(self) -> bool:
        """Whether the backbone does not learn in the current epoch."""
        return is_frozen(self._freeze, self.current_epoch)

    @property
    def decoder_is_frozen(self) -> bool:
        """Whether the decoder does not learn in the current epoch."""
        return self.backbone_is_frozen and not self._new_decoder

    def features(self, image: Tensor) -> Tensor:
        """What the head is given of (B, C, D, H, W) images; without a graph through what is frozen.

        Parameters without gradients are passed over by AdamW, so that one optimiser serves the epochs before and after.
        """
        raise NotImplementedError

    def _pass_through_frozen(self, image: Tensor) -> object:
        """A pass through the layers that are frozen."""
        return self.features(image) if self.decoder_is_frozen else self.backbone.encode(image)

    def backbone_groups(self, learning_rate: float, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
        """The backbone's parameter groups for AdamW."""
        distances = self.backbone.distances() if layer_decay != 1 else {}
        return layered_parameter_groups(self.backbone.named_parameters(), distances, learning_rate, weight_decay, layer_decay)

    def train(self, mode: bool = True) -> "FineTuningTask":
        """Set the mode; a frozen backbone stays in evaluation mode, so that its normalisation keeps its statistics."""
        super().train(mode)
        if mode:
            self._train_backbone()
        return self

    def _train_backbone(self) -> None:
        self.backbone.train(not self.backbone_is_frozen)
        for name, module in self.backbone.named_modules():
            if self._new_decoder and self.backbone.is_decoder_key(f"{name}."):
                module.train()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Thaw the backbone when its epoch has come, also where a run is resumed in the middle of it."""
        if self.backbone.training == self.backbone_is_frozen:
            self._train_backbone()

    def on_train_start(self) -> None:
        """Take a frozen backbone's statistics anew where they do not fit, unless the run is resumed."""
        if self.trainer.global_step > 0 or not self.backbone_is_frozen or self._reestimate == "never":
            return
        images = (batch["image"] for batch in first_batches(self.trainer, self.device, lambda batch: len(batch["image"])))
        with self.trainer.precision_plugin.forward_context():
            share = reestimate_statistics(self.backbone, self._pass_through_frozen, images, always=self._reestimate == "always")
        if share is None:
            log.info("norm statistics: the frozen backbone keeps none")
            return
        taken = self._reestimate == "always" or share > MISFIT_SHARE
        done = "re-estimated on the training cases" if taken else "kept as the weights have them"
        log.info("norm statistics: up to %.0f %% of a layer's channels do not fit the training cases; %s", 100 * share, done)
