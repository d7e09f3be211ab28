"""A training step of DINO: ours beside the earlier example's way of the same work. `make bench`

    python benchmarks/dino_step.py [--rounds 5] [--threads 2] [--width 32]

Forward, backward, AdamW and the teacher's update on a batch of 2 with two global views of 24 x 64 x 64 and two local ones of 24 x 36 x
36, by the U-Net's encoder (7 million parameters at the default width) and a head of 512, 64 and 2048, as the earlier example has. The
earlier way takes view after view through the networks, in fp32 and PyTorch's usual order of axes; ours takes the views of one size as one
batch, channels last, in bf16 where the processor multiplies it in hardware, else in fp32. Both get the same views and start from the same
weights, and both normalise with batch statistics.

Each way runs in a process of its own, which makes a step whenever it is its turn, so that the ways are interleaved and share what else the
machine does. Shown are medians of seconds and CPU seconds a step, GFLOP/s (counted by PyTorch, the same for both ways), and the growth of
memory over that after imports and building.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fuse_examples.imaging.oai_example.models.backbone import build_backbone
from fuse_examples.imaging.oai_example.models.heads import DINOProjectionHead
from fuse_examples.imaging.oai_example.objectives.dino_loss import DINOLoss
from fuse_examples.imaging.oai_example.objectives.teacher import start_teacher, update_teacher
from fuse_examples.imaging.oai_example.tasks.dino_passes import student_outputs, teacher_outputs
from fuse_examples.imaging.oai_example.training.trainer import has_fast_bf16

SIZES = [(24, 64, 64)] * 2 + [(24, 36, 36)] * 2
BATCH, N_GLOBAL, N_PROTOTYPES = 2, 2, 2048
TEMPERATURE, MOMENTUM = 0.04, 0.996
WAYS = ("earlier", "ours")


class Step:
    """Both networks, their optimiser and one batch; calling it makes one training step."""

    def __init__(self, way: str, width: int) -> None:
        torch.manual_seed(0)
        self.way = way
        self.backbone = build_backbone("unet3d", width=width, with_decoder=False)
        if way == "earlier":
            self.backbone.to(memory_format=torch.contiguous_format)
        self.head = DINOProjectionHead(self.backbone.feature_dim, 512, 64, N_PROTOTYPES)
        self.teacher_backbone, self.teacher_head = start_teacher(self.backbone), start_teacher(self.head)
        self.criterion = DINOLoss(N_PROTOTYPES)
        self.optimiser = torch.optim.AdamW([*self.backbone.parameters(), *self.head.parameters()], 1e-4)
        views = [torch.randn(BATCH, 1, *size, generator=torch.Generator().manual_seed(number)) for number, size in enumerate(SIZES)]
        self.batch: dict[str, Any] = {"views": views, "n_global": N_GLOBAL}

    def __call__(self) -> float:
        student, teacher = self._one_by_one() if self.way == "earlier" else self._together()
        loss = self.criterion(student, teacher, TEMPERATURE)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        update_teacher(self.backbone, self.teacher_backbone, MOMENTUM)
        update_teacher(self.head, self.teacher_head, MOMENTUM)
        self.criterion.update_center(teacher)
        return float(loss.detach())

    def _one_by_one(self) -> tuple[Tensor, Tensor]:
        views = self.batch["views"]
        with torch.no_grad():
            teacher = [_logits(self.teacher_backbone, self.teacher_head, view) for view in views[:N_GLOBAL]]
        return torch.stack([_logits(self.backbone, self.head, view) for view in views]), torch.stack(teacher)

    def _together(self) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16("cpu")):
            _, teacher = teacher_outputs(self.teacher_backbone, self.teacher_head, self.batch)
            _, student = student_outputs(self.backbone, self.head, self.batch)
        return student, teacher


def _logits(backbone: nn.Module, head: nn.Module, view: Tensor) -> Tensor:
    logits: Tensor = head(backbone.embed(view))  # type: ignore[operator]  # a backbone's
    return logits


def serve(way: str, threads: int, width: int) -> None:
    """Make a step for each line of standard input and answer with what it took."""
    torch.set_num_threads(threads)
    step = Step(way, width)
    Path("/proc/self/clear_refs").write_text("5")  # the peak until here does not count
    before = _status("VmRSS")
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        loss = step()
        seconds, of_cpu = time.perf_counter() - start, time.process_time() - cpu
        print(json.dumps({"seconds": seconds, "cpu": of_cpu, "loss": loss, "growth": _status("VmHWM") - before}), flush=True)


def billions_of_operations(width: int) -> float:
    """Floating-point operations of a step, in 10^9, as PyTorch counts convolutions and matrix products."""
    step = Step("earlier", width)
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


def interleaved(rounds: int, threads: int, width: int) -> dict[str, list[dict[str, float]]]:
    """What each step of each way took; the first of each, which sets kernels up, is left out of all but memory."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--threads", str(threads), "--width", str(width), "--way"]
    processes = {
        way: subprocess.Popen([*command, way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) for way in WAYS
    }
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds + 1):
        for way, process in processes.items():
            assert process.stdin is not None
            assert process.stdout is not None
            print(file=process.stdin, flush=True)
            found[way].append(json.loads(process.stdout.readline()))
    for process in processes.values():
        process.communicate()
    return found


def _status(key: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return float(line.split()[1]) * 1.024 / 1000  # kB to MB


def print_table(found: dict[str, list[dict[str, float]]], operations: float, threads: int) -> None:
    median: Callable[[str, str], float] = lambda way, key: statistics.median(one[key] for one in found[way][1:])  # noqa: E731
    growth = {way: max(one["growth"] for one in found[way]) for way in WAYS}
    names = {"earlier": "view after view, fp32", "ours": f"ours, {'bf16' if has_fast_bf16('cpu') else 'fp32'}"}
    print(f"{platform.machine()}, {threads} threads, load {os.getloadavg()[0]:.1f}, {operations:.0f} GFLOP a step")
    print(f"{'way':<24}{'seconds':>9}{'CPU s':>8}{'GFLOP/s':>9}{'MB more':>9}{'first loss':>12}")
    for way in WAYS:
        seconds = median(way, "seconds")
        figures = f"{seconds:>9.2f}{median(way, 'cpu'):>8.2f}{operations / seconds:>9.0f}{growth[way]:>9.0f}"
        print(f"{names[way]:<24}{figures}{found[way][0]['loss']:>12.4f}")
    ratios = [earlier["seconds"] / ours["seconds"] for earlier, ours in zip(found["earlier"][1:], found["ours"][1:], strict=True)]
    print(f"ours is {statistics.median(ratios):.2f} times as fast, at {growth['ours'] / growth['earlier']:.2f} of the memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        serve(arguments.way, arguments.threads, arguments.width)
        return
    found = interleaved(arguments.rounds, arguments.threads, arguments.width)
    print_table(found, billions_of_operations(arguments.width), arguments.threads)


if __name__ == "__main__":
    main()
