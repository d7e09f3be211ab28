import torch

from fuse_examples.imaging.oai_example.inference.mirroring import mirrored


def test_a_network_that_turns_with_its_input_is_left_as_it_is() -> None:
    def network(view: torch.Tensor) -> torch.Tensor:
        return torch.cat([view, -view], dim=1)

    view = torch.randn(2, 1, 4, 5, 6)
    assert torch.allclose(mirrored(network, (0, 1, 2))(view), network(view), atol=1e-6)
    assert mirrored(network, ()) is network


def test_every_combination_counts_once() -> None:
    seen = []

    def network(view: torch.Tensor) -> torch.Tensor:
        seen.append(view[0, 0].flatten().tolist())
        return view

    view = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
    assert torch.equal(mirrored(network, (0, 1, 2))(view), view)
    assert len({tuple(one) for one in seen}) == len(seen) == 8


def test_sides_change_places_only_across_the_side_axis() -> None:
    def network(view: torch.Tensor) -> torch.Tensor:  # calls the first half of axis 2 class 1 and the second class 2, wherever it looks
        ramp = torch.tensor([1.0, 0.0]).expand(1, 2, 2, 2)
        return torch.stack([torch.zeros(1, 2, 2, 2), ramp, 1 - ramp], dim=1)

    view = torch.zeros(1, 1, 2, 2, 2)
    assert torch.equal(mirrored(network, (2,), side_axis=2, pairs=[(1, 2)])(view), network(view))
    assert torch.equal(mirrored(network, (2,), side_axis=0, pairs=[(1, 2)])(view)[:, 1:], torch.full((1, 2, 2, 2, 2), 0.5))
