"""The heads behind a backbone."""

import torch

from fuse_examples.imaging.oai_example.models.heads import SegmentationHead


def test_segmentation_head_is_one_linear_map_per_voxel() -> None:
    torch.manual_seed(0)
    head = SegmentationHead(5, 3)
    decoded = torch.randn(2, 5, 2, 3, 4)
    expected = torch.einsum("bcdhw,nc->bndhw", decoded, head.conv.weight[:, :, 0, 0, 0]) + head.conv.bias.view(1, 3, 1, 1, 1)
    assert torch.allclose(head(decoded), expected, atol=1e-6)
