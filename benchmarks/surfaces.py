"""What scoring a segmented case costs: everything in `docs/metrics.md` beside the usual ways. `make bench`

    python benchmarks/surfaces.py [--rounds 3]

A synthetic knee's six structures at 160 x 384 x 384 against the same moved by (1, 2, 1) voxels, on one thread. Each way runs in a process
of its own. Shown are medians of CPU seconds, the growth of memory over that after imports, and the mean HD95 of the structures: equal
definitions give equal figures. Ours has Dice, volumes, surface Dice, HD95, ASSD and the thickness of four cartilages; the others have
HD95 and ASSD alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import torch.nn.functional as F
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from scipy import ndimage

from fuse_examples.imaging.oai_example.evaluation.structure_scores import ScoreSettings, score_structures
from fuse_examples.imaging.oai_example.evaluation.surface_distances import SurfaceDistances, box_around, surface
from fuse_examples.imaging.oai_example.geometry.volume import Grid
from fuse_examples.imaging.oai_example.prepare.knee_phantom.shape import LABELS
from fuse_examples.imaging.oai_example.prepare.synthetic_knee import knee_arrays

SHAPE, SPACING = (160, 384, 384), (0.7, 0.365, 0.365)
N_CLASSES = len(LABELS)
Labels = np.ndarray


def labels_of_a_knee() -> tuple[Labels, Labels]:
    one_hot = F.one_hot(torch.from_numpy(knee_arrays(0).mask).long(), N_CLASSES).permute(3, 0, 1, 2)[None].float()
    truth = torch.empty(SHAPE, dtype=torch.uint8)
    # Class by class: the most probable so far.
    best = torch.full(SHAPE, -1.0)
    for label in range(N_CLASSES):
        share = F.interpolate(one_hot[:, label : label + 1], size=SHAPE, mode="trilinear")[0, 0]
        truth[share > best] = label
        best = torch.maximum(best, share)
    return truth.numpy(), np.roll(truth.numpy(), (1, 2, 1), (0, 1, 2))


def ours(truth: Labels, predicted: Labels) -> float:
    sheets = tuple(name for name in LABELS[1:] if "Cartilage" in name)
    found = score_structures(truth, predicted, Grid(SHAPE, np.diag([*SPACING, 1.0])), LABELS[1:], ScoreSettings(1.0, sheets))
    return float(np.mean(list(found.scores["hd95_mm"].values())))


def distance_maps(truth: Labels, predicted: Labels) -> float:
    """Euclidean distance maps of each structure's surfaces, inside its box."""
    values = []
    boxes = [ndimage.find_objects(one, N_CLASSES - 1) for one in (truth, predicted)]
    for label in range(1, N_CLASSES):
        box = box_around([found[label - 1] for found in boxes])
        surfaces = [surface(one[box] == label) for one in (truth, predicted)]
        maps = [ndimage.distance_transform_edt(~one, sampling=SPACING) for one in surfaces]
        values.append(SurfaceDistances(maps[1][surfaces[0]], maps[0][surfaces[1]]).hausdorff())
    return float(np.mean(values))


def monai(truth: Labels, predicted: Labels) -> float:
    one_hot = [F.one_hot(torch.from_numpy(one).long(), N_CLASSES).permute(3, 0, 1, 2)[None].to(torch.uint8) for one in (predicted, truth)]
    compute_average_surface_distance(*one_hot, symmetric=True, spacing=SPACING)
    return float(compute_hausdorff_distance(*one_hot, percentile=95, spacing=SPACING).mean())


WAYS: dict[str, tuple[str, Callable[[Labels, Labels], float]]] = {
    "ours": ("k-d trees, all metrics", ours),
    "maps": ("distance maps in boxes", distance_maps),
    "monai": ("MONAI on one-hot arrays", monai),
}


def run(way: str) -> None:
    torch.set_num_threads(1)
    truth, predicted = labels_of_a_knee()
    Path("/proc/self/clear_refs").write_text("5")  # the peak until here does not count
    before = _status("VmRSS")
    start = time.process_time()
    hd95 = WAYS[way][1](truth, predicted)
    print(json.dumps({"seconds": time.process_time() - start, "megabytes": _status("VmHWM") - before, "hd95": hd95}))


def _status(key: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return float(line.split()[1]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS)
    arguments = parser.parse_args()
    if arguments.way:
        run(arguments.way)
        return
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    results: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way, found in results.items():
            output = subprocess.run([sys.executable, __file__, "--way", way], check=True, capture_output=True, text=True, env=environment)
            found.append(json.loads(output.stdout.splitlines()[-1]))
    ours_seconds = statistics.median(one["seconds"] for one in results["ours"])
    print(f"{'scoring 160 x 384 x 384, 7 labels':<36}{'CPU s':>8}{'times ours':>12}{'MB':>8}{'HD95, mm':>10}")
    for way, found in results.items():
        seconds, megabytes = (statistics.median(one[key] for one in found) for key in ("seconds", "megabytes"))
        print(f"{WAYS[way][0]:<36}{seconds:>8.2f}{seconds / ours_seconds:>12.1f}{megabytes:>8.0f}{found[0]['hd95']:>10.3f}")


if __name__ == "__main__":
    main()
