"""One volume through each backbone at its default width: into the encoder, and on through the decoder.

    python benchmarks/backbones.py [--size 40 224 224] [--backbones unet3d swin_unetr segresnet resnet3d]

Each backbone is loaded from a file in the container and under the names in which its weights are published (SuPreM's, with the moments of
AdamW, and MedicalNet's), made here from random numbers. Then a float32 volume passes through it on one thread, without gradients. Each
backbone has a process of its own. Shown are the size that the network computes on, CPU seconds of loading, encoder and decoder, and the
growth of the largest resident set over that after imports and building: with the weights read, after the encoder, after the decoder.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from fuse_examples.imaging.oai_example.catalogue import BACKBONES
from fuse_examples.imaging.oai_example.models.backbone import Backbone, build_backbone
from fuse_examples.imaging.oai_example.models.padding import padded_size
from fuse_examples.imaging.oai_example.models.published_layout import PREFIXES
from fuse_examples.imaging.oai_example.models.weights import load_backbone_weights


def published_file(backbone: Backbone, path: Path) -> Path:
    """Write the backbone's tensors as they are published."""
    from_suprem = backbone.name in PREFIXES
    prefix, entry = (PREFIXES[backbone.name], "net") if from_suprem else ("module.", "state_dict")
    tensors = {prefix + name: value for name, value in backbone.state_dict().items() if from_suprem or backbone.is_encoder_key(name)}
    moments = {
        place: {"exp_avg": value.detach().clone(), "exp_avg_sq": value.detach().clone()}
        for place, value in enumerate(backbone.parameters())
    }
    content: dict[str, Any] = {entry: tensors, "epoch": 0}
    if from_suprem:
        content |= {"optimizer": {"state": moments, "param_groups": []}, "scheduler": {}}
    torch.save(content, path)
    return path


def resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measure(name: str, size: list[int], path: Path) -> None:
    """Print what one backbone takes, as JSON."""
    torch.set_num_threads(1)
    backbone = build_backbone(name).eval()
    memory, seconds = [resident()], [time.process_time()]

    def lap() -> None:
        memory.append(resident())
        seconds.append(time.process_time())

    report = load_backbone_weights(backbone, path, "suprem_weights")
    lap()
    with torch.no_grad():
        features = backbone.encode(torch.rand(1, 1, *size))
        lap()
        decoded = backbone.decode(features)
        lap()
    assert decoded.isfinite().all()
    found = {
        "parameters": sum(parameter.numel() for parameter in backbone.parameters()) / 1e6,
        "encoder": str(report.encoder),
        "computed": padded_size(size, backbone.size_multiple),
        "shapes": [list(features[-1].shape), list(decoded.shape)],
        "seconds": [later - earlier for earlier, later in pairwise(seconds)],
        "memory": [value - memory[0] for value in memory[1:]],
    }
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=[40, 224, 224])
    parser.add_argument("--backbones", nargs="+", choices=list(BACKBONES), default=list(BACKBONES))
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.weights:
        measure(arguments.backbones[0], arguments.size, arguments.weights)
        return
    print(f"{' x '.join(map(str, arguments.size))}, float32, one thread")
    print(f"{'':<44}{'CPU seconds':^24}{'MB more':^24}")
    print(f"{'backbone':<12}{'M':>6}{'file MB':>9}{'computed on':>16} {'    load  encode  decode' * 2}")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    for name in arguments.backbones:
        with tempfile.TemporaryDirectory() as folder:
            path = published_file(build_backbone(name), Path(folder) / f"{name}.pth")
            command = [sys.executable, sys.argv[0], "--backbones", name, "--weights", path, "--size", *map(str, arguments.size)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
            found, megabytes = json.loads(output.splitlines()[-1]), path.stat().st_size / 1e6
        seconds, memory = "".join(f"{one:>8.1f}" for one in found["seconds"]), "".join(f"{one:>8.0f}" for one in found["memory"])
        computed, shapes = ("x".join(map(str, one)) for one in (found["computed"], found["shapes"][0]))
        line = f"{name:<12}{found['parameters']:>6.1f}{megabytes:>9.0f}{computed:>16} {seconds}{memory}"
        print(f"{line}  encoder {found['encoder']} -> {shapes}", flush=True)


if __name__ == "__main__":
    main()
