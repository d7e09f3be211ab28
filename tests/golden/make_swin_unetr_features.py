"""Write `swin_unetr_features_before_monai_1.5.json`: what MONAI's own Swin UNETR computed before it changed patch merging.

Run it with an environment of its own that has such a version, since the project needs a newer one:

    python -m venv old && old/bin/pip install torch einops "monai==1.4.*"
    old/bin/python tests/golden/make_swin_unetr_features.py

The weights and the image are functions of names and shapes (`seeded_tensor`), so that the file holds features alone.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PATH = Path(__file__).with_name("swin_unetr_features_before_monai_1.5.json")
SIZE = (32, 64, 32)
WIDTH = 12
MAPS = ("half", "quarter", "eighth", "sixteenth", "deepest", "decoded")
MOST_VALUES = 192


def seeded_tensor(name: str, shape: Sequence[int]) -> Tensor:
    """Numbers that depend on `name` and `shape` only, of a size that keeps a network's activations near 1."""
    drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    if len(shape) > 1:
        return torch.from_numpy(drawn / np.sqrt(np.prod(shape[1:])))
    return torch.from_numpy(0.2 * drawn + name.endswith("weight"))


def seed(network: nn.Module) -> None:
    """Give every floating-point tensor of `network` its seeded values; the position indices stay as the network made them."""
    state = network.state_dict()
    seeded = {name: seeded_tensor(name, value.shape) for name, value in state.items() if value.is_floating_point()}
    network.load_state_dict({**state, **seeded})


def image() -> Tensor:
    """The image, (1, 1, 32, 64, 32)."""
    return seeded_tensor("image", (1, 1, *SIZE)) * np.sqrt(np.prod(SIZE))


def samples(maps: Sequence[Tensor]) -> dict[str, list[float]]:
    """At most 192 values of each of the six maps, evenly spaced over it."""
    return {name: value.flatten()[:: -(-value.numel() // MOST_VALUES)].tolist() for name, value in zip(MAPS, maps, strict=True)}


def features_of_monai(use_v2: bool) -> tuple[dict[str, list[float]], str]:
    """The six maps of the installed MONAI's network, and its version."""
    import monai
    from monai.networks.nets.swin_unetr import SwinUNETR

    options: Mapping[str, Any] = {"in_channels": 1, "out_channels": 1, "feature_size": WIDTH, "use_v2": use_v2}
    network = SwinUNETR(img_size=SIZE, **options).double().eval()
    network.swinViT.patch_embed.norm = None  # 1.4.0 alone has a norm here, which no other version and no published file has
    seed(network)
    decoded: list[Tensor] = []
    network.decoder1.register_forward_hook(lambda module, inputs, output: decoded.append(output))
    with torch.no_grad():
        network(image())
        hidden = network.swinViT(image(), True)
    return samples([*hidden, *decoded]), monai.__version__


def main() -> None:
    """Write the file."""
    content: dict[str, Any] = {}
    for kind, use_v2 in (("swin_unetr", False), ("swin_unetr_v2", True)):
        content[kind], content["monai"] = features_of_monai(use_v2)
    rounded = {
        kind: {name: [float(f"{value:.9g}") for value in values] for name, values in maps.items()} if isinstance(maps, dict) else maps
        for kind, maps in content.items()
    }
    PATH.write_text(json.dumps(rounded, indent=1).replace(",\n   ", ", ").replace("[\n   ", "[") + "\n")


if __name__ == "__main__":
    main()
