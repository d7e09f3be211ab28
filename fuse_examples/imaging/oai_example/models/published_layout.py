"""A backbone in the container and under the names that SuPreM publishes, for programs that load its files."""

from collections.abc import Mapping
from typing import Any

from fuse_examples.imaging.oai_example.models.backbone import Backbone
from fuse_examples.imaging.oai_example.models.containers import FORMAT_VERSION, PROJECT_ENTRY

PREFIXES = {"unet3d": "module.backbone.", "swin_unetr": "module.backbone.", "segresnet": "module."}
"""What SuPreM's files have before a tensor's name, by backbone; it publishes no others."""


def suprem_shaped(backbone: Backbone, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a SuPreM-shaped .pth file: `net`, and empty `optimizer`, `scheduler` and `epoch`.

    This project's entry comes along; SuPreM's code passes it over, and this project's learns from it how the network computed.

    Args:
        backbone: one of `PREFIXES`.
        metadata: plain values; format version, the backbone's name and its options are added.
    """
    described = {**metadata, "format_version": FORMAT_VERSION, "backbone": backbone.name, "backbone_options": dict(backbone.options)}
    net = {PREFIXES[backbone.name] + name: value.detach().cpu().contiguous() for name, value in backbone.state_dict().items()}
    return {"net": net, "optimizer": {}, "scheduler": {}, "epoch": 0, PROJECT_ENTRY: described}
