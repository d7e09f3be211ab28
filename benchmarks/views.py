"""How fast views are made, beside the earlier example's way of the same work. `make bench`

    python benchmarks/views.py [--rounds 7]

One 160 x 384 x 384 int16 DICOM series to two views of 40 x 224 x 224 and two of 40 x 128 x 128, on one thread. The ways are interleaved and
make the same views from the same draws: crops in the slice, rotations about each axis with a chance of one half, flips, noise. Shown are
medians of CPU seconds, the growth of memory over that after imports (each way in a process of its own), and the largest difference of our
views from `scipy.ndimage.affine_transform` with the same affine (of the averaged volume where an axis is reduced beyond 2x), before noise.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from earlier_way import Shape, ViewDraw, views_from_dicom
from scipy import ndimage

from fuse_examples.imaging.oai_example.data.augmentation import IntensityDraw, apply_intensity
from fuse_examples.imaging.oai_example.data.intensity import IntensityStatistics, measure, normalisation
from fuse_examples.imaging.oai_example.data.scans import read_header, read_volume
from fuse_examples.imaging.oai_example.data.store import VolumeStore
from fuse_examples.imaging.oai_example.geometry.kernels import compiled_kernels
from fuse_examples.imaging.oai_example.geometry.maps import Matrix, rotation_matrix, view_map
from fuse_examples.imaging.oai_example.geometry.resampling import averaging_cells, compile_for, resample
from fuse_examples.imaging.oai_example.prepare.knee_phantom.dicom_series import SeriesNames, write_dicom_series
from fuse_examples.imaging.oai_example.prepare.knee_phantom.scanner import SCANNERS, Scan

SHAPE, SPACING = (160, 384, 384), (0.7, 0.365, 0.365)
VIEWS: list[tuple[Shape, tuple[float, float]]] = [((40, 224, 224), (0.8, 1.0))] * 2 + [((40, 128, 128), (0.1, 0.5))] * 2
PERCENTILES = (0.5, 99.5)
WAYS = ("earlier", "dicom", "store")


def draw_views(seed: int) -> list[ViewDraw]:
    """Two large and two small crops of whole stacks of slices, as the earlier example draws them."""
    rng = np.random.default_rng(seed)
    draws = []
    for size, (least, largest) in VIEWS:
        edge = int(rng.uniform(least, largest) * SHAPE[1])
        row, column = (int(rng.integers(0, n - edge + 1)) for n in SHAPE[1:])
        angles = np.where(rng.random(3) < 0.5, rng.uniform(-15, 15, 3), 0.0).tolist()
        flips = (rng.random(3) < 0.5).tolist()
        noise = float(rng.uniform(0, 0.1)) if rng.random() < 0.5 else 0.0
        draws.append(ViewDraw(size, (0, row, column), (SHAPE[0], edge, edge), tuple(angles), tuple(flips), noise, int(rng.integers(2**31))))
    return draws


def matrix_of(draw: ViewDraw) -> Matrix:
    edge = np.array(draw.edge)
    return view_map(
        np.array(draw.start) + edge / 2, edge * SPACING, draw.size, SPACING, rotation_matrix(np.deg2rad(draw.angles)), flips=draw.flips
    )


def our_views(array: np.ndarray, statistics_of_all: IntensityStatistics, draws: list[ViewDraw]) -> list[torch.Tensor]:
    normalise = normalisation(statistics_of_all, "percentile")
    views = []
    for draw in draws:
        view = normalise(resample(array, matrix_of(draw), draw.size, outside=normalise.background))
        views.append(apply_intensity(view, IntensityDraw(1.0, draw.noise_std, draw.seed)))
    return views


def ways(folder: Path) -> dict[str, Callable[[list[ViewDraw]], object]]:
    """Each way as a function of the draws. The store holds the whole volume, so any view can be made from it."""
    series, store = folder / "series", VolumeStore(folder / "store", "RAS", PERCENTILES)

    def from_dicom(draws: list[ViewDraw]) -> object:
        array = np.ascontiguousarray(read_volume(series).array)
        return our_views(array, measure(array, PERCENTILES), draws)

    def from_store(draws: list[ViewDraw]) -> object:
        image = store.image(series, stamp)
        return our_views(image.array, image.statistics, draws)

    stamp = read_header(series).fingerprint
    return {"earlier": lambda draws: views_from_dicom(series, draws), "dicom": from_dicom, "store": from_store}


def largest_difference(folder: Path, draws: list[ViewDraw]) -> float:
    """Of our views from SciPy's, as a share of the volume's range, over the voxels whose centre lies in the volume."""
    array = read_volume(folder / "series").array
    worst = 0.0
    for draw in draws:
        matrix = matrix_of(draw)
        cells = averaging_cells(matrix)
        padded = np.pad(array, [(0, -n % c) for n, c in zip(SHAPE, cells, strict=True)], mode="edge")
        depth, height, width = (n // c for n, c in zip(padded.shape, cells, strict=True))
        averaged = padded.reshape(depth, cells[0], height, cells[1], width, cells[2]).mean(axis=(1, 3, 5))
        offset = (matrix[:3, 3] - (cells - 1) / 2) / cells
        expected = ndimage.affine_transform(averaged, matrix[:3, :3] / cells[:, None], offset, draw.size, order=1, mode="nearest")
        view = resample(array, matrix, draw.size, outside=np.nan).numpy()
        worst = max(worst, float(np.nanmax(np.abs(view - expected))) / float(np.ptp(array)))
    return worst


def write_series(folder: Path) -> None:
    """A smooth volume with noise, as compressible as a knee, in 160 files."""
    rng = np.random.default_rng(0)
    smooth = ndimage.zoom(rng.normal(size=(20, 24, 24)), np.array(SHAPE) / (20, 24, 24), order=1)
    stored = np.clip(smooth * 200 + 500 + rng.normal(size=SHAPE) * 30, 0, 2000).astype(np.int16)
    affine = np.diag([*SPACING, 1.0])
    ones, zeros = np.ones(SHAPE[0]), np.zeros(SHAPE[0])
    scan = Scan(SCANNERS[0], stored, ones, zeros, affine, np.zeros_like(stored, np.uint8))
    write_dicom_series(folder, scan, SeriesNames("1", "V00", "RIGHT", "20200101", "00000001"), rng)


def memory_growth(way: str, folder: Path) -> float:
    """Megabytes, in a process of its own."""
    command = [sys.executable, __file__, "--memory", way, str(folder)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_memory_growth(way: str, folder: Path) -> None:
    make = ways(folder)[way]
    compiled_kernels()  # imports numba, which waits for the first view otherwise
    Path("/proc/self/clear_refs").write_text("5")  # the peak of the imports does not count
    before = _status("VmRSS")
    make(draw_views(1))
    print((_status("VmHWM") - before) / 1000)


def _status(key: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return float(line.split()[1]) * 1.024  # kB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory:
        print_memory_growth(arguments.memory[0], Path(arguments.memory[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_series(folder / "series")
        make = ways(folder)
        compile_for([np.dtype(np.int16)])
        difference = largest_difference(folder, draw_views(0))
        make["store"](draw_views(0))
        growth = {way: memory_growth(way, folder) for way in WAYS}
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for each in range(arguments.rounds):
            for way in WAYS:
                start = time.process_time()
                make[way](draw_views(each))
                seconds[way].append(time.process_time() - start)
    median = {way: statistics.median(times) for way, times in seconds.items()}
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, medians of {arguments.rounds} rounds, one thread")
    print(f"{'way':<10}{'CPU seconds':>12}{'times faster':>14}{'MB more':>10}")
    for way in WAYS:
        print(f"{way:<10}{median[way]:>12.3f}{median['earlier'] / median[way]:>14.1f}{growth[way]:>10.0f}")
    print(f"largest difference from SciPy: {difference:.1e} of the range")


if __name__ == "__main__":
    main()
