import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss as MonaiDiceCELoss
from monai.losses import DiceLoss as MonaiDiceLoss

from fuse_examples.imaging.oai_example.objectives.segmentation_loss import DiceBCELoss, DiceCELoss


def reference(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    background: bool,
    batch: bool,
    weights: tuple[float, float] = (1, 1),
    smooth: float = 1e-5,
) -> float:
    """The formula in float64, with loops."""
    x = logits.double().numpy()
    p = np.exp(x - x.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    g = labels.numpy()
    losses = []
    groups = [range(len(g))] if batch else [[b] for b in range(len(g))]
    for group in groups:
        for k in range(0 if background else 1, p.shape[1]):
            inside = sum(float(p[b, k][g[b] == k].sum()) for b in group)
            size = sum(float(p[b, k].sum()) + float((g[b] == k).sum()) for b in group)
            if any((g[b] == k).any() for b in group):
                losses.append(1 - (2 * inside + smooth) / (size + smooth))
    true_probability = np.take_along_axis(p, g[:, None], axis=1)
    return weights[0] * (float(np.mean(losses)) if losses else 0.0) - weights[1] * float(np.log(true_probability).mean())


def example(classes: int = 4, batch: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn((batch, classes, 3, 4, 5), generator=generator)
    return logits, torch.randint(classes, (batch, 3, 4, 5), generator=generator)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("smooth", [1e-5, 3.0])
def test_equals_the_formula_in_float64(background: bool, batch: bool, absent: bool, smooth: float) -> None:
    logits, labels = example()
    if absent:
        labels[labels == 3] = 0
        labels[1][labels[1] == 2] = 1
    loss = DiceCELoss(4, background, batch_dice=batch, dice_weight=0.7, cross_entropy_weight=1.3, smooth=smooth)
    expected = reference(logits, labels, background=background, batch=batch, weights=(0.7, 1.3), smooth=smooth)
    assert float(loss(logits, labels)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("batch", [False, True])
def test_equals_monai_where_every_class_is_present(background: bool, batch: bool) -> None:
    logits, labels = example()
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    monai = MonaiDiceCELoss(include_background=background, to_onehot_y=True, softmax=True, batch=batch, smooth_nr=1e-5, smooth_dr=1e-5)
    expected = monai(theirs, labels[:, None])
    value = DiceCELoss(4, background, batch_dice=batch)(ours, labels)
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    value.backward()
    expected.backward()
    assert ours.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-7)


def test_a_class_absent_from_the_batch_adds_nothing_to_dice() -> None:
    logits, labels = example()
    labels[labels == 3] = 0
    loss = DiceCELoss(4)
    logits.requires_grad_()
    dice, _ = loss.terms(logits, labels)
    shifted = logits.detach().clone()
    p = torch.softmax(logits.detach(), 1)
    by_hand = [1 - (2 * p[:, k][labels == k].sum() / (p[:, k].sum() + (labels == k).sum())) for k in (1, 2)]
    assert dice.item() == pytest.approx(float(sum(by_hand)) / 2, rel=1e-5)
    # Only background: the Dice term is 0 and has a gradient of 0, cross-entropy teaches alone.
    dice, cross_entropy = loss.terms(shifted.requires_grad_(), torch.zeros_like(labels))
    assert dice.item() == 0
    (dice + 0 * cross_entropy).backward()
    assert torch.equal(shifted.grad, torch.zeros_like(shifted))


def test_float32_under_autocast_and_from_bfloat16() -> None:
    logits, labels = example()
    logits = logits.bfloat16()
    expected = reference(logits.float(), labels, background=False, batch=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = DiceCELoss(4)(logits, labels.to(torch.uint8))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_perfect_and_confident_is_zero_and_extreme_logits_stay_finite() -> None:
    _, labels = example()
    logits = torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).float() * 200
    assert DiceCELoss(4)(logits, labels).item() == pytest.approx(0, abs=1e-6)
    wrong = (1e4 * torch.randn(logits.shape)).requires_grad_()
    value = DiceCELoss(4)(wrong, labels)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(wrong.grad).all()


def test_gradient_equals_finite_differences_of_the_formula() -> None:
    logits, labels = example(classes=3, batch=2)
    logits = logits[:, :, :1, :2, :2].contiguous()
    labels = labels[:, :1, :2, :2].contiguous()
    logits.requires_grad_()
    DiceCELoss(3)(logits, labels).backward()
    assert logits.grad is not None
    for index in np.ndindex(*logits.shape):
        step = torch.zeros(logits.shape, dtype=torch.float64)
        step[index] = 1e-5
        ends = [reference(logits.detach().double() + sign * step, labels, background=False, batch=True) for sign in (1, -1)]
        assert float(logits.grad[index]) == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-5)


def test_shapes_that_do_not_fit_are_refused() -> None:
    logits, labels = example()
    with pytest.raises(
        ValueError, match=r"logits of shape \(3, 4, 3, 4, 5\) and labels of shape \(3, 1, 3, 4, 5\); expected \(B, 4, D, H, W\)"
    ):
        DiceCELoss(4)(logits, labels[:, None])
    with pytest.raises(ValueError, match=r"expected \(B, 5, D, H, W\)"):
        DiceCELoss(5)(logits, labels)
    with pytest.raises(ValueError, match="num_classes is 1"):
        DiceCELoss(1)


def test_millions_of_voxels_are_summed_without_loss() -> None:
    logits = torch.zeros((1, 2, 64, 160, 160))
    logits[:, 1] = -2.2
    labels = torch.ones((1, 64, 160, 160), dtype=torch.uint8)
    labels[:, 0] = 0
    dice, cross_entropy = DiceCELoss(2).terms(logits, labels)
    p = 1 / (1 + np.exp(2.2))
    expected = 1 - 2 * 63 * p / (64 * p + 63)
    assert dice.item() == pytest.approx(expected, rel=2e-6)
    assert cross_entropy.item() == pytest.approx((-63 * np.log(p) - np.log(1 - p)) / 64, rel=2e-6)


def test_class_weights_are_those_of_a_weighted_cross_entropy() -> None:
    logits, labels = torch.randn(2, 3, 4, 5, 6), torch.randint(0, 3, (2, 4, 5, 6))
    weights = [0.2, 1.0, 3.0]
    _, found = DiceCELoss(3, class_weights=weights).terms(logits, labels)
    chosen = torch.tensor(weights)[labels]
    by_hand = -(logits.log_softmax(1).gather(1, labels[:, None])[:, 0] * chosen).sum() / chosen.sum()
    assert found == pytest.approx(float(by_hand), rel=1e-5)
    assert "class_weights" not in DiceCELoss(3, class_weights=weights).state_dict()


@pytest.mark.parametrize("weights", [None, [1.0, 4.0]])
def test_structures_on_their_own_against_monai_and_a_formula(weights: list[float] | None) -> None:
    logits, labels = torch.randn(2, 3, 4, 5, 6), torch.randint(0, 3, (2, 4, 5, 6))
    targets = torch.stack([labels == 1, labels == 2], dim=1).float()
    dice = MonaiDiceLoss(sigmoid=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits[:, 1:], targets)
    p, per_structure = logits[:, 1:].sigmoid(), torch.tensor(weights or [1.0, 1.0])
    entropy = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean(dim=(0, 2, 3, 4))
    expected = dice + (entropy * per_structure).sum() / per_structure.sum()
    assert DiceBCELoss(3, structure_weights=weights)(logits, labels) == pytest.approx(float(expected), rel=1e-4)
    changed = logits.clone()
    changed[:, 0] = 7  # the background has no say
    assert DiceBCELoss(3, structure_weights=weights)(changed, labels) == DiceBCELoss(3, structure_weights=weights)(logits, labels)


def test_regions_are_unions_of_labels_against_monai_and_a_formula() -> None:
    logits, labels = torch.randn(2, 4, 4, 5, 6), torch.randint(0, 4, (2, 4, 5, 6))
    targets = torch.stack([labels > 0, (labels == 3) | (labels == 1), labels == 3], dim=1).float()
    dice = MonaiDiceLoss(sigmoid=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits[:, 1:], targets)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 1:], targets)
    found = DiceBCELoss(4, regions=[(1, 2, 3), (3, 1), (3,)])(logits, labels)
    assert found == pytest.approx(float(dice + entropy), rel=1e-4)


def test_a_structure_that_the_batch_lacks_is_left_out_of_dice() -> None:
    logits, labels = torch.randn(1, 3, 4, 4, 4), torch.zeros(1, 4, 4, 4, dtype=torch.long)
    labels[0, 0] = 1
    two = DiceBCELoss(2)(logits[:, :2], labels)
    entropy = [torch.nn.functional.binary_cross_entropy_with_logits(logits[:, k], (labels == k).float()) for k in (1, 2)]
    assert float(DiceBCELoss(3)(logits, labels) - sum(entropy) / 2) == pytest.approx(float(two - entropy[0]), rel=1e-4)
