"""What a network keeps for the way back is counted, not guessed; and a run plans what its configuration leaves open."""

import numpy as np
import torch

from fuse_examples.imaging.oai_example.models.backbone import build_backbone
from fuse_examples.imaging.oai_example.stages.planning import kept_bytes_per_voxel, memory_at_hand


def test_what_is_kept_grows_with_the_width_and_leaves_the_network_as_it_was() -> None:
    torch.manual_seed(0)
    narrow, wide = (build_backbone("unet3d", width=width) for width in (4, 8))
    before = {name: tensor.clone() for name, tensor in narrow.eval().state_dict().items()}
    ratio = kept_bytes_per_voxel(wide) / kept_bytes_per_voxel(narrow)
    assert 1.8 < ratio < 2.1
    assert not narrow.training
    assert all(torch.equal(before[name], tensor) for name, tensor in narrow.state_dict().items())


def test_a_u_net_keeps_what_can_be_counted_by_hand() -> None:
    # Channels kept per voxel: of each convolution its input and of each norm its input (a ReLU keeps its output, the next input), with
    # 1/8 of the voxels at each level down. A bound from below and above, since pooling and concatenation keep a little more.
    width = 8
    levels = [2 * (width + 2 * width), 2 * (2 + 4) * width, 2 * (4 + 8) * width, 2 * (8 + 16) * width]
    least = sum(channels / 8**level for level, channels in enumerate(levels)) * 4
    found = kept_bytes_per_voxel(build_backbone("unet3d", width=width))
    assert least < found < 4 * least


def test_this_machine_has_memory() -> None:
    available, name = memory_at_hand()
    assert np.log10(available) > 8.5
    assert name in ("this machine", "the GPU")
