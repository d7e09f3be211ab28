"""Running statistics: how far a pass moves them, and what is done when a voxel that is not a number spoilt them."""

import math

import pytest
import torch
from torch import nn

from fuse_examples.imaging.oai_example.objectives.norm_statistics import differ_in_buffers, restore_buffers, statistics_momentum


def network() -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm3d(2, momentum=0.3), nn.Sequential(nn.BatchNorm3d(2)))


@pytest.mark.parametrize(("momentum", "share"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_momentum_holds_within_and_is_back_after(momentum: float, share: float) -> None:
    net, volumes = network(), torch.randn(3, 2, 4, 4, 4) * 2 + 5
    with statistics_momentum(net, momentum):
        net(volumes)
    mean, variance = volumes.mean(dim=(0, 2, 3, 4)), volumes.transpose(0, 1).flatten(1).var(dim=1)
    torch.testing.assert_close(net[0].running_mean, share * mean)
    torch.testing.assert_close(net[0].running_var, (1 - share) + share * variance)
    assert (net[0].momentum, net[1][0].momentum) == (0.3, 0.1)


def test_shares_of_one_over_k_give_the_mean_over_batches() -> None:
    net, batches = network(), torch.randn(5, 3, 2, 4, 4, 4) + 1
    for count, batch in enumerate(batches, 1):
        with statistics_momentum(net, 1 / count):
            net(batch)
    torch.testing.assert_close(net[0].running_mean, batches.mean(dim=(0, 1, 3, 4, 5)))


def test_momentum_is_back_after_an_error_and_contexts_nest() -> None:
    net = network()
    with statistics_momentum(net, 0.5):
        with pytest.raises(ValueError, match="expected 5D input"), statistics_momentum(net, 0.0):
            net(torch.randn(2, 2))
        assert (net[0].momentum, net[1][0].momentum) == (0.5, 0.5)
    assert (net[0].momentum, net[1][0].momentum) == (0.3, 0.1)


def test_buffers_that_are_not_finite_come_from_the_sound_network() -> None:
    net, sound = network(), network()
    sound(torch.randn(3, 2, 4, 4, 4) + 4)
    net[0].running_mean.copy_(torch.tensor([math.nan, 7.0]))
    net[1][0].running_var.copy_(torch.tensor([2.0, math.inf]))
    assert restore_buffers(net, sound)
    assert net[0].running_mean.tolist() == [sound[0].running_mean[0].item(), 7.0]
    assert net[1][0].running_var.tolist() == [2.0, sound[1][0].running_var[1].item()]
    assert net[0].num_batches_tracked == 0
    assert not restore_buffers(net, sound)


def test_difference_in_buffers() -> None:
    net, other = network(), network()
    assert not differ_in_buffers(net, other)
    with torch.no_grad():
        net[0].weight.add_(1)
    assert not differ_in_buffers(net, other), "weights are no buffers"
    net[1][0].running_var[1] += 1e-6
    assert differ_in_buffers(net, other)
