"""Maps of where a network looked: against formulas of their own, and their place on the input's grid."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fuse_examples.imaging.oai_example.geometry.maps import view_map
from fuse_examples.imaging.oai_example.inference.explanation import CoarseMap, grad_cam, occlusion
from fuse_examples.imaging.oai_example.models.backbone import build_backbone


def test_with_average_pooling_and_a_linear_head_grad_cam_is_the_class_activation_map() -> None:
    torch.manual_seed(0)
    deepest, head = torch.randn(1, 5, 2, 3, 4), nn.Linear(5, 2)
    found = grad_cam(deepest, lambda cells: head(cells.mean(dim=(2, 3, 4)))[:, 1], (16, 24, 32), 8)
    # Zhou et al. 2016 (arXiv:1512.04150): the features weighted with the class's weights; the mean over cells divides by their number.
    expected = F.relu(torch.einsum("f,fdhw->dhw", head.weight[1], deepest[0])) / (2 * 3 * 4)
    assert np.allclose(found.values, expected.detach().numpy(), atol=1e-6)
    assert found.values.max() > 0


def test_grad_cam_weighs_features_with_the_mean_of_their_gradient() -> None:
    torch.manual_seed(0)
    deepest = torch.randn(1, 4, 2, 2, 3, dtype=torch.float32)
    evidence = lambda cells: (cells**3).flatten(1).sum(dim=1)  # noqa: E731
    expected = F.relu(((3 * deepest**2).mean(dim=(2, 3, 4), keepdim=True) * deepest).sum(dim=1))[0]
    assert np.allclose(grad_cam(deepest, evidence, (16, 16, 24), 8).values, expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_network_is_explained_too(frozen: bool) -> None:
    torch.manual_seed(0)
    head = nn.Linear(3, 1).requires_grad_(not frozen)
    with torch.no_grad():
        found = grad_cam(torch.rand(1, 3, 2, 2, 2), lambda cells: head(cells.mean(dim=(2, 3, 4)))[:, 0].abs(), (8, 8, 8), 4)
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize(("size", "multiple"), [((16, 24, 32), 8), ((13, 22, 32), 8), ((20, 20, 20), 16)])
def test_cells_lie_where_their_voxels_are_also_under_padding(size: tuple[int, int, int], multiple: int) -> None:
    """The mean position of the voxels of a cell, by padding an image of positions as networks do."""
    from fuse_examples.imaging.oai_example.models.padding import pad

    found = grad_cam(torch.rand(1, 1, *(-(-n // multiple) for n in size)), lambda cells: cells.sum(dim=(1, 2, 3, 4)), size, multiple)
    for axis, length in enumerate(size):
        line = torch.arange(float(length)).reshape([-1 if a == axis else 1 for a in range(3)]).expand(size)[None, None]
        mean = F.avg_pool3d(pad(line.contiguous(), multiple), multiple)[0, 0].select((axis + 1) % 3, 0)
        inner = mean.movedim([a for a in range(3) if a != (axis + 1) % 3].index(axis), 0).flatten(1)[:, 0]
        centres = found.first[axis] + found.step[axis] * np.arange(len(inner))
        whole = slice(1, -1) if length % multiple else slice(None)  # cells at the border repeat the border's position
        assert np.allclose(centres[whole], inner.numpy()[whole])


def occluded(image: Tensor, evidence, n: int, step: float) -> np.ndarray:
    """The slow way, box by box, along the first axis."""
    mean, whole, lost = image.mean(), float(evidence(image)[0]), []
    for index in range(n):
        copy = image.clone()
        for voxel in range(image.shape[2]):
            if (index - 0.5) * step <= voxel + 0.001 and voxel < (index + 1.5) * step - 0.001:
                copy[0, 0, voxel] = mean
        lost.append(whole - float(evidence(copy)[0]))
    return np.array(lost)


def test_occlusion_is_what_is_lost_box_by_box() -> None:
    image = torch.rand(1, 1, 32, 3, 3)  # short axes have one box, which covers them
    weights = torch.rand(32)
    evidence = lambda images: (images[:, 0].mean(dim=(2, 3)) * weights).sum(dim=1)  # noqa: E731
    found = occlusion(image, evidence)
    assert found.values.shape == (8, 1, 1)
    assert np.allclose(found.values[:, 0, 0], occluded(image, evidence, 8, 4.0), atol=1e-5)
    assert (found.first, found.step) == ((1.5, 1.0, 1.0), (4.0, 3.0, 3.0))


def test_a_map_is_interpolated_between_the_middles_of_its_cells() -> None:
    coarse = CoarseMap(np.array([0.0, 1.0, 3.0], dtype=np.float32).reshape(3, 1, 1), (1.5, 0, 0), (4.0, 1, 1))
    on_scan = coarse.on_grid(np.eye(4), (12, 1, 1))[:, 0, 0]
    assert np.allclose(on_scan, np.interp(np.arange(12), [1.5, 5.5, 9.5], [0, 1, 3]))
    doubled = coarse.on_grid(view_map([12, 0.5, 0.5], [24, 1, 1], (12, 1, 1), (1, 1, 1)), (24, 1, 1))[:, 0, 0]  # the scan is twice as fine
    assert np.allclose(doubled, np.interp((np.arange(24) + 0.5) / 2 - 0.5, [1.5, 5.5, 9.5], [0, 1, 3]), atol=1e-6)


@pytest.mark.parametrize("name", ["unet3d", "resnet3d", "segresnet", "swin_unetr"])
def test_the_deepest_map_of_every_backbone_can_be_explained(name: str) -> None:
    torch.manual_seed(0)
    width = {"unet3d": 2, "resnet3d": 4, "segresnet": 8, "swin_unetr": 12}[name]
    backbone = build_backbone(name, with_decoder=False, width=width).eval()
    size = (33, 40, 48)
    with torch.no_grad():
        deepest = backbone.encode(torch.rand(1, 1, *size))[-1]
    head = nn.Linear(backbone.feature_dim, 1)
    found = grad_cam(deepest, lambda cells: head(backbone.pool(cells, size))[:, 0], size, backbone.size_multiple)
    assert found.values.shape == deepest.shape[2:]
    for axis, length in enumerate(size):
        assert found.first[axis] - found.step[axis] / 2 <= -0.5  # the cells cover the image
        assert found.first[axis] + (found.values.shape[axis] - 0.5) * found.step[axis] >= length - 0.5
