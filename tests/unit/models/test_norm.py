"""Norm3d against the formula, over its three kinds of statistics."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.models.norm import Norm3d, unmoved_statistics

KINDS = ("running", "batch", "instance")
FORMATS = (torch.contiguous_format, torch.channels_last_3d)


def made(statistics: str, channels: int = 3, seed: int = 0) -> Norm3d:
    """A layer whose weight, bias and running statistics are all unlike their defaults."""
    draw = torch.Generator().manual_seed(seed)
    norm = Norm3d(channels, statistics)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(channels, generator=draw) + 0.5)
        norm.bias.copy_(torch.randn(channels, generator=draw))
        norm.running_mean.copy_(torch.randn(channels, generator=draw))
        norm.running_var.copy_(torch.rand(channels, generator=draw) + 0.5)
    return norm


def reference(norm: Norm3d, x: torch.Tensor, over: tuple[int, ...] | None) -> torch.Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias in float64; `over` None means the running statistics."""
    x = x.double()
    column = (1, -1, 1, 1, 1)
    if over is None:
        mean, variance = norm.running_mean.double().view(column), norm.running_var.double().view(column)
    else:
        mean = x.mean(over, keepdim=True)
        variance = ((x - mean) ** 2).mean(over, keepdim=True)
    scaled = (x - mean) / (variance + norm.eps).sqrt()
    return scaled * norm.weight.double().view(column) + norm.bias.double().view(column)


OVER = {
    ("running", True): (0, 2, 3, 4),
    ("running", False): None,
    ("batch", True): (0, 2, 3, 4),
    ("batch", False): (0, 2, 3, 4),
    ("instance", True): (2, 3, 4),
    ("instance", False): (2, 3, 4),
}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("statistics", KINDS)
def test_equals_the_formula(statistics: str, training: bool, layout: torch.memory_format, batch: int) -> None:
    norm = made(statistics).train(training)
    x = (torch.randn(batch, 3, 4, 5, 6, generator=torch.Generator().manual_seed(1)) * 2 + 1).contiguous(memory_format=layout)
    expected = reference(norm, x, OVER[statistics, training])
    assert torch.allclose(norm(x).double(), expected, atol=1e-5)
    assert norm(x).is_contiguous(memory_format=layout)


@pytest.mark.parametrize("statistics", KINDS)
def test_keys_are_batch_norms(statistics: str) -> None:
    ours, theirs = Norm3d(4, statistics).state_dict(), nn.BatchNorm3d(4).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


@pytest.mark.parametrize("statistics", ["running", "instance"])
@given(mates=st.integers(1, 3), place=st.integers(0, 3), scale=st.floats(0.1, 100), seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_in_evaluation_no_case_depends_on_its_batch_mates(statistics: str, mates: int, place: int, scale: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    norm = made(statistics, seed=seed % 7).eval()
    case = torch.randn(1, 3, 2, 3, 4, generator=draw)
    others = list((torch.randn(mates, 3, 2, 3, 4, generator=draw) * scale).split(1))
    place = min(place, mates)
    together = norm(torch.cat([*others[:place], case, *others[place:]]))[place]
    assert torch.allclose(together, norm(case)[0], atol=1e-6)


def test_with_batch_a_case_depends_on_its_batch_mates() -> None:
    norm = made("batch").eval()
    x = torch.randn(2, 3, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert (norm(x)[0] - norm(x[:1])[0]).abs().max() > 0.1


@pytest.mark.parametrize(("statistics", "moves"), [("running", True), ("batch", True), ("instance", False)])
def test_running_statistics_move_in_training_only_and_never_with_instance(statistics: str, moves: bool) -> None:
    norm = made(statistics)
    before = {name: value.clone() for name, value in norm.named_buffers()}
    x = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0)) + 5
    norm.eval()(x)
    assert all(torch.equal(before[name], value) for name, value in norm.named_buffers())
    norm.train()(x)
    assert [torch.equal(before[name], value) for name, value in norm.named_buffers()] == [not moves] * 3
    if moves:
        assert torch.allclose(norm.running_mean, 0.9 * before["running_mean"] + 0.1 * x.mean((0, 2, 3, 4)), atol=1e-5)


@pytest.mark.parametrize(
    ("statistics", "training", "batch", "text"),
    [
        (
            "running",
            True,
            1,
            "norm_statistics: running met a feature map of 1×1×1 voxels in a batch of one: a single value has no variance.",
        ),
        ("batch", True, 1, "norm_statistics: batch met a feature map of 1×1×1 voxels in a batch of one"),
        ("batch", False, 1, "Use a larger input size or crop or a larger batch."),
        ("instance", True, 2, "norm_statistics: instance met a feature map of 1×1×1 voxels: a single value has no variance."),
        ("instance", False, 2, "Use a larger input size or crop."),
    ],
)
def test_a_single_value_is_refused(statistics: str, training: bool, batch: int, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(statistics).train(training)(torch.ones(batch, 3, 1, 1, 1))
    assert text in str(caught.value)


@pytest.mark.parametrize(("statistics", "training", "batch"), [("running", False, 1), ("running", True, 2), ("batch", False, 2)])
def test_a_single_voxel_works_where_there_is_a_variance(statistics: str, training: bool, batch: int) -> None:
    norm = made(statistics).train(training)
    x = torch.arange(3.0 * batch).view(batch, 3, 1, 1, 1)
    assert torch.allclose(norm(x).double(), reference(norm, x, OVER[statistics, training]), atol=1e-5)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("statistics", KINDS)
def test_bfloat16_input_has_float32_statistics(statistics: str, layout: torch.memory_format) -> None:
    # With a mean of 100 and a spread of 1 statistics in bfloat16, whose step there is 0.5, would be off by tenths.
    norm = made(statistics).train()
    x = (torch.randn(2, 3, 16, 16, 16, generator=torch.Generator().manual_seed(0)) + 100).bfloat16().contiguous(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x)
    assert y.dtype == torch.bfloat16
    expected = reference(norm, x, OVER[statistics, True])
    assert (y.double() - expected).abs().max() < 0.03  # bfloat16's rounding of values up to 6


@pytest.mark.parametrize("statistics", KINDS)
def test_gradients_are_the_formulas(statistics: str) -> None:
    norm = made(statistics).double().train()
    x = torch.randn(2, 3, 2, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    weights = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    (expected,) = torch.autograd.grad((reference(norm, x, OVER[statistics, True]) * weights).sum(), x)
    (found,) = torch.autograd.grad((norm(x) * weights).sum(), x)
    assert torch.allclose(found, expected, atol=1e-9)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="norm_statistics is 'layer'; it is one of running, batch, instance"):
        Norm3d(4, "layer")


def test_unmoved_statistics_change_no_output_and_no_buffer() -> None:
    torch.manual_seed(0)
    norm = Norm3d(3).train()
    x = torch.randn(2, 3, 4, 4, 4)
    before = {name: value.clone() for name, value in norm.named_buffers()}
    with unmoved_statistics(norm):
        unmoved = norm(x)
    assert all(torch.equal(before[name], value) for name, value in norm.named_buffers())
    assert torch.equal(norm(x), unmoved)
    assert not torch.equal(before["running_mean"], norm.running_mean)
