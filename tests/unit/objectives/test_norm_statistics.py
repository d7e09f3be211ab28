"""Running statistics: how far a pass moves them, and what is done when a voxel that is not a number spoilt them."""

import math

import pytest
import torch
from torch import nn

from fuse_examples.imaging.oai_example.objectives.norm_statistics import (
    differ_in_buffers,
    misfit_share,
    reestimate_statistics,
    restore_buffers,
    statistics_momentum,
)


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


class TestReestimation:
    def fitted(self) -> tuple[nn.Sequential, torch.Tensor]:
        """A frozen network and images that its statistics fit."""
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 8, 3), nn.BatchNorm3d(8), nn.Dropout(0.5))
        images = torch.rand(6, 4, 1, 9, 9, 9)
        assert reestimate_statistics(net, net, images, always=True) is not None
        return net.eval(), images

    def test_statistics_are_the_mean_over_batches_and_nothing_else_moves(self) -> None:
        net, images = self.fitted()
        mean = net[0](images.flatten(0, 1)).mean((0, 2, 3, 4))
        variance = torch.stack([net[0](batch).transpose(0, 1).flatten(1).var(1) for batch in images]).mean(0)
        torch.testing.assert_close(net[1].running_mean, mean)
        torch.testing.assert_close(net[1].running_var, variance)
        assert not any(module.training for module in net.modules())
        assert (net[1].momentum, int(net[1].num_batches_tracked)) == (0.1, 0)

    @pytest.mark.parametrize(
        ("shift", "scale", "fits"), [(0.0, 1.0, True), (0.02, 1.1, True), (5.0, 1.0, False), (0.0, 5.0, False), (0.4, 0.1, False)]
    )
    def test_auto_takes_them_where_the_own_do_not_fit(self, shift: float, scale: float, fits: bool) -> None:
        net, images = self.fitted()
        before = {name: value.clone() for name, value in net.state_dict().items()}
        share = reestimate_statistics(net, net, images * scale + shift, always=False)
        assert share is not None
        assert (share <= 0.1) == fits
        assert all(torch.equal(before[name], value) for name, value in net.state_dict().items()) == fits
        if not fits:
            assert reestimate_statistics(net, net, images * scale + shift, always=False) == pytest.approx(0, abs=0.01)

    def test_a_batch_that_is_not_finite_is_left_out(self) -> None:
        net, images = self.fitted()
        broken = images.clone()
        broken[2, 0, 0, 0, 0, 0] = math.nan
        reestimate_statistics(net, net, broken, always=True)
        mean = net[0](images[[0, 1, 3, 4, 5]].flatten(0, 1)).mean((0, 2, 3, 4))
        torch.testing.assert_close(net[1].running_mean, mean)

    def test_layers_that_no_image_meets_stay_and_do_not_count(self) -> None:
        net, images = self.fitted()
        net.append(nn.BatchNorm3d(8)).eval()
        assert reestimate_statistics(net, net[:5], images, always=False) == pytest.approx(0, abs=0.01)
        assert torch.equal(net[6].running_mean, torch.zeros(8))
        assert reestimate_statistics(nn.Sequential(nn.Conv3d(1, 1, 1)), lambda _: None, images, always=True) is None

    def test_the_rule_is_a_standard_deviation_or_a_factor_of_two(self) -> None:
        own = (torch.zeros(5), torch.full((5,), 4.0))
        found = (torch.tensor([1.9, 2.1, 0.0, 0.0, 0.0]), torch.tensor([4.0, 4.0, 15.0, 17.0, 0.9]))
        assert misfit_share([own], [found]) == pytest.approx(3 / 5)
        assert misfit_share([own, own, own], [own, found, own]) == pytest.approx(3 / 5)  # one layer decides
