"""Every name a YAML may choose, as "module:Class" text relative to this package. Imports nothing but the resolver.

A new backbone is one file in models/ and one line here.
"""

from importlib import import_module
from typing import Any

BACKBONES: dict[str, str] = {
    "unet3d": "models.unet3d:UNet3D",
    "swin_unetr": "models.swin_unetr:SwinUNETR",
    "segresnet": "models.segresnet:SegResNet",
    "resnet3d": "models.resnet3d:ResNet3D",
}


def resolve(location: str) -> Any:
    """Import and return the object that a "module:name" text of this catalogue stands for."""
    module, name = location.split(":")
    return getattr(import_module(f"{__package__}.{module}"), name)
