"""Sliding windows over a volume: ours beside MONAI's `sliding_window_inference` in fp32 with the same windows. `make bench`

    python benchmarks/windows.py [--size 96 192 192] [--window 48 96 96] [--width 4] [--rounds 3]
    python benchmarks/windows.py --size 512 512 400 --window 64 128 128 --ways ours --rounds 1

From a float volume to labels, seven classes, windows that overlap by half with Gaussian weights, on one thread. Each run is a process of
its own. Ours computes in bf16 where the processor multiplies it in hardware, else in fp32; the table says which. Shown are medians of CPU
seconds, the growth of memory over that after imports and the volume, and how many labels agree with MONAI's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from monai.inferers import sliding_window_inference

from fuse_examples.imaging.oai_example.inference.restoration import labels_from_slabs
from fuse_examples.imaging.oai_example.inference.windows import predict_slabs
from fuse_examples.imaging.oai_example.models.backbone import build_backbone
from fuse_examples.imaging.oai_example.models.heads import SegmentationHead
from fuse_examples.imaging.oai_example.training.trainer import has_fast_bf16

N_CLASSES = 7


def network(width: int) -> torch.nn.Module:
    torch.manual_seed(0)
    backbone = build_backbone("unet3d", width=width).eval()
    head = SegmentationHead(backbone.decoder_dim, N_CLASSES)

    class Segmenter(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = backbone, head

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.backbone.decode(self.backbone.encode(x)))

    return Segmenter().eval()


def predict(way: str, net: torch.nn.Module, volume: torch.Tensor, window: tuple[int, int, int]) -> np.ndarray:
    if way == "monai":
        logits = sliding_window_inference(volume[None], window, 4, net, overlap=0.5, mode="gaussian")
        return logits[0].argmax(0).to(torch.uint8).numpy()
    with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16("cpu")):
        depth, height, width = volume.shape[1:]
        return labels_from_slabs(predict_slabs(net, volume, window, 0.5), depth, np.eye(4), (depth, height, width))


def run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    net = network(arguments.width)
    volume = torch.randn(1, *arguments.size, generator=torch.Generator().manual_seed(1))
    Path("/proc/self/clear_refs").write_text("5")  # the peak until here does not count
    before = _status("VmRSS")
    start = time.process_time()
    with torch.inference_mode():
        labels = predict(arguments.way, net, volume, tuple(arguments.window))
    seconds = time.process_time() - start
    np.save(arguments.output, labels)
    print(json.dumps({"seconds": seconds, "growth": _status("VmHWM") - before, "whole": _status("VmHWM")}))


def _status(key: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return float(line.split()[1]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=[96, 192, 192])
    parser.add_argument("--window", type=int, nargs=3, default=[48, 96, 96])
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=["ours", "monai"], default=["ours", "monai"])
    parser.add_argument("--way", choices=["ours", "monai"])
    parser.add_argument("--output")
    arguments = parser.parse_args()
    if arguments.way:
        run(arguments)
        return
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    results: dict[str, list[dict[str, float]]] = {way: [] for way in arguments.ways}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            for way, found in results.items():
                command = [sys.executable, *sys.argv, "--way", way, "--output", f"{folder}/{way}.npy"]
                output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
                found.append(json.loads(output.stdout.splitlines()[-1]))
        labels = {way: np.load(f"{folder}/{way}.npy") for way in results}
    print(f"{' x '.join(map(str, arguments.size))}, windows {' x '.join(map(str, arguments.window))}, width {arguments.width}")
    print(f"{'way':<22}{'CPU s':>8}{'MB more':>10}{'MB in all':>11}{'labels as MONAI':>17}")
    for way, found in results.items():
        seconds, growth, whole = (statistics.median(one[key] for one in found) for key in ("seconds", "growth", "whole"))
        name = "MONAI, fp32" if way == "monai" else f"ours, {'bf16' if has_fast_bf16('cpu') else 'fp32'}"
        same = f"{np.mean(labels[way] == labels['monai']):.4%}" if "monai" in labels else ""
        print(f"{name:<22}{seconds:>8.2f}{growth:>10.0f}{whole:>11.0f}{same:>17}")
    if len(results) == 2:
        ratios = [theirs["seconds"] / ours["seconds"] for ours, theirs in zip(results["ours"], results["monai"], strict=True)]
        growth = [ours["growth"] / theirs["growth"] for ours, theirs in zip(results["ours"], results["monai"], strict=True)]
        print(f"ours is {statistics.median(ratios):.2f} times as fast, at {statistics.median(growth):.2f} of the memory")


if __name__ == "__main__":
    main()
