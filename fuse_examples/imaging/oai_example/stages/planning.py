"""Planned sizes of a segmentation run: the rules are those of `data.planning`; here are the cases, the network and the machine."""

import os

import numpy as np
import torch
from torch import Tensor

from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.data.planning import Memory, Plan, plan_sizes
from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.stages.opening import OpenedCases
from fuse_examples.imaging.oai_example.training.trainer import device_kind

_SHARE = 0.5  # of the machine's memory that a step may take; the rest is for data, weights and others
_BACKWARD = 2.0  # what a step takes at its peak over what it keeps for the way back: gradients and the convolutions' workspace


def planned(config: SegmentationConfig, backbone: Backbone, cases: OpenedCases) -> tuple[SegmentationConfig, tuple[str, ...]]:
    """The configuration with spacing, patch and batch size, and a line for each that was planned."""
    assert config.orientation is not None  # resolved
    reasons: list[str] = []
    update: dict[str, object] = {}
    spacing = config.spacing
    if config.resize_to is None and spacing is None:
        spacing = cases.median_spacing(config.orientation)
        update["spacing"] = spacing
        reasons.append(f"spacing {list(spacing)} mm: the median of the {len(cases.train)} training cases, along each axis")
    if (config.resize_to is None and config.patch_size is None) or config.batch_size is None:
        plan = _plan(config, backbone, cases, spacing)
        update["batch_size"] = plan.batch_size
        if config.resize_to is None:
            update["patch_size"] = plan.patch_size
        reasons += plan.reasons
    return config.model_copy(update=update), tuple(f"planned: {reason}" for reason in reasons)


def _plan(config: SegmentationConfig, backbone: Backbone, cases: OpenedCases, spacing: tuple[float, float, float] | None) -> Plan:
    assert config.orientation is not None
    grids = [cases.headers[case.name].image.source.oriented(config.orientation) for case in cases.train]
    extents = [np.array(grid.shape) * grid.spacing for grid in grids]
    if config.resize_to is not None:  # every case has these voxels
        extents, spacing = [np.array(config.resize_to, dtype=float)] * len(grids), (1.0, 1.0, 1.0)
    assert spacing is not None
    available, name = memory_at_hand()
    memory = Memory(_SHARE * available, _BACKWARD * kept_bytes_per_voxel(backbone), f"half of the {available / 2**30:.0f} GiB of {name}")
    return plan_sizes(extents, spacing, backbone.size_multiple, memory, config.resize_to or config.patch_size, config.batch_size)


def memory_at_hand() -> tuple[float, str]:
    """Bytes of the device that trains, all of them: what others use in this moment must not decide about a run."""
    if device_kind() == "cuda":
        return float(torch.cuda.get_device_properties(0).total_memory), "the GPU"
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")), "this machine"


def kept_bytes_per_voxel(network: Backbone) -> float:
    """Bytes that a forward pass in float32 keeps for the way back, per voxel of the input; counted on a small input."""
    size = max(network.smallest_size, 2 * network.size_multiple)
    kept: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    was_training = network.training
    state = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        network.train()
        with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            decoded = network.decode(network.encode(torch.zeros(2, int(network.options["in_channels"]), size, size, size)))
    finally:
        network.train(was_training)
        for name, buffer in network.named_buffers():
            buffer.copy_(state[name])
    return (sum(kept.values()) + decoded.untyped_storage().nbytes()) / (2 * size**3)
