"""Soft Dice + cross-entropy, the losses segmentation trains with."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DiceCELoss(nn.Module):
    """Sum of soft Dice loss (Milletari et al., V-Net, 3DV 2016) and cross-entropy, as in nnU-Net (Isensee et al., Nat Methods 2021).

    Dice of class k is 2 Σ p g / (Σ p + Σ g), with sums over all voxels **of the batch** by default. A small structure is absent from
    many patches; its Dice in such a sample would be nothing but the smoothing constant, and with batches of one to four samples that
    noise would steer the training. For the same reason a class that no voxel of the sums has is left out of the mean: cross-entropy
    alone teaches that it is absent. Where every class is present the value is that of `monai.losses.DiceCELoss` with `batch=True`.

    Everything is computed in float32, whatever the logits are: sums over millions of voxels do not fit bfloat16. No operation here is
    one that autocast would bring down again.

    Args:
        num_classes: K, background included; two at least.
        include_background: count class 0 in the Dice mean. Off by default: it is easy, and would dilute the structures.
        class_weights: of each class in cross-entropy, (K,); the mean is over the weights. None: all 1.
        dice_weight: factor of the Dice term.
        cross_entropy_weight: factor of the cross-entropy term.
        batch_dice: sums over the batch (True) or over each sample, averaged (False).
        smooth: added to numerator and denominator of Dice.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        num_classes: int,
        include_background: bool = False,
        *,
        class_weights: Sequence[float] | None = None,
        dice_weight: float = 1.0,
        cross_entropy_weight: float = 1.0,
        batch_dice: bool = True,
        smooth: float = 1e-5,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}; it counts the background too, so it is 2 at least")
        self.num_classes = num_classes
        self.first_class = 0 if include_background else 1
        # Not persistent: the configuration has them, and a checkpoint need not.
        self.register_buffer("class_weights", None if class_weights is None else torch.tensor(class_weights), persistent=False)
        self.dice_weight = dice_weight
        self.cross_entropy_weight = cross_entropy_weight
        self.batch_dice = batch_dice
        self.smooth = smooth

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted sum of both terms, a scalar in float32.

        Args:
            logits: (B, K, D, H, W) in any floating-point type.
            labels: (B, D, H, W) integers 0 … K - 1.
        """
        dice, cross_entropy = self.terms(logits, labels)
        return self.dice_weight * dice + self.cross_entropy_weight * cross_entropy

    def terms(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return (1 - mean Dice, mean cross-entropy), unweighted scalars, for a log that shows both."""
        if logits.shape[1] != self.num_classes or logits.shape[:1] + logits.shape[2:] != labels.shape:
            raise ValueError(
                f"logits of shape {tuple(logits.shape)} and labels of shape {tuple(labels.shape)}; "
                f"expected (B, {self.num_classes}, D, H, W) and (B, D, H, W)"
            )
        labels = labels.long()
        log_probabilities = F.log_softmax(logits.float(), dim=1)
        cross_entropy = F.nll_loss(log_probabilities, labels, weight=self.class_weights)
        return self._dice_loss(log_probabilities.exp(), labels), cross_entropy

    def _dice_loss(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        # Σ p g needs the probability of the true class alone, summed under its label: no one-hot array. It is summed row by row first,
        # because adding millions of values to one float32 number would lose them.
        batch, classes = probabilities.shape[:2]
        rows = labels.reshape(-1, labels.shape[-1])
        bins = (rows + classes * torch.arange(len(rows), device=rows.device).unsqueeze(1)).flatten()
        true_probability = probabilities.gather(1, labels.unsqueeze(1)).flatten()
        overlap = true_probability.new_zeros(len(rows) * classes).index_add(0, bins, true_probability).view(batch, -1, classes).sum(dim=1)
        count = torch.bincount(bins, minlength=len(rows) * classes).view(batch, -1, classes).sum(dim=1)
        size = probabilities.flatten(2).sum(dim=2) + count
        if self.batch_dice:
            overlap, size, count = (total.sum(dim=0, keepdim=True) for total in (overlap, size, count))
        chosen = slice(self.first_class, None)
        dice = (2 * overlap[:, chosen] + self.smooth) / (size[:, chosen] + self.smooth)
        present = (count[:, chosen] > 0).to(dice.dtype)
        # Nothing present at all: the sum is 0 and keeps its place in the graph.
        return ((1 - dice) * present).sum() / present.sum().clamp(min=1)


class DiceBCELoss(nn.Module):
    """Sum of soft Dice loss and binary cross-entropy over structures that are judged each on its own (sigmoid).

    Dice is as in `DiceCELoss`: sums over the batch, and structures that the batch does not have are left out of its mean.

    Args:
        num_classes: K, background included; two at least. Channel 0 of the logits is the background's constant and is not used.
        regions: labels of each structure, where structures are unions of labels that may overlap, (K - 1) of them. None: structure k is
            label k.
        structure_weights: of each structure in cross-entropy, (K - 1,); the mean is over the weights. None: all 1.
        smooth: added to numerator and denominator of Dice.
    """

    structure_weights: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        regions: Sequence[Sequence[int]] | None = None,
        structure_weights: Sequence[float] | None = None,
        smooth: float = 1e-5,
    ) -> None:
        super().__init__()
        self.regions = tuple((structure,) for structure in range(1, num_classes)) if regions is None else tuple(map(tuple, regions))
        weights = torch.ones(num_classes - 1) if structure_weights is None else torch.tensor(structure_weights)
        self.register_buffer("structure_weights", weights / weights.sum(), persistent=False)
        self.num_classes = num_classes
        self.smooth = smooth

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of both terms, a scalar in float32, of logits (B, K, D, H, W) and labels (B, D, H, W) from 0 on."""
        overlap, size, count, cross_entropy = [], [], [], []
        for structure, (first, *further) in enumerate(self.regions, start=1):  # one at a time: no one-hot array
            there = labels == first
            for label in further:
                there = there | (labels == label)
            own, truth = logits[:, structure].float(), there.float()
            probability = own.sigmoid()
            overlap.append((probability * truth).sum())
            count.append(truth.sum())
            size.append(probability.sum() + count[-1])
            cross_entropy.append(F.binary_cross_entropy_with_logits(own, truth))
        dice = (2 * torch.stack(overlap) + self.smooth) / (torch.stack(size) + self.smooth)
        present = (torch.stack(count) > 0).float()
        dice_loss = ((1 - dice) * present).sum() / present.sum().clamp(min=1)
        return dice_loss + (torch.stack(cross_entropy) * self.structure_weights).sum()
