"""What reading costs: a DICOM series against pydicom without any check, and a table of a million rows.

    python benchmarks/reading.py [ROUNDS]

The series has 160 slices of 384 x 384, 16 bits. The baseline is what the earlier example did: pydicom on every file in the order of file
names, pixels stacked, nothing looked at. Both sides run in turn in one process on warm files; a ratio is the median of the rounds' ratios.
"Through pydicom" is the same series with a description beyond ASCII, which the quick parser leaves to pydicom.
"""

import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests" / "unit" / "data"))

from series_files import series_in

from fuse_examples.imaging.oai_example.data.cases import read_cases
from fuse_examples.imaging.oai_example.data.scans import read_header, read_volume

N_ROWS = 1_000_000


def write_series(folder: Path, description: str) -> Path:
    values = (np.random.default_rng(0).integers(0, 50, (160, 384, 384)).cumsum(1) % 3000).astype(np.int16)

    def as_a_scanner_does(dataset: Dataset, index: int) -> None:
        dataset.SpecificCharacterSet, dataset.SeriesDescription = "ISO_IR 100", description
        dataset.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")
        dataset.add_new(0x00291010, "OB", b"x" * 12_000)
        dataset.add_new(0x00291020, "OB", b"y" * 24_000)

    return series_in(folder, values, change=as_a_scanner_does, file_name=lambda index: f"{index * 7 % 160:03d}")


def without_checks(folder: Path) -> np.ndarray:
    return np.stack([dcmread(file).pixel_array for file in sorted(folder.iterdir())])


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def write_table(path: Path) -> Path:
    with open(path, "w") as file:
        file.write("PatientID,path,fold,V00COHORT,side\n")
        for row in range(N_ROWS):
            patient = 9_000_000 + row // 4
            file.write(
                f"{patient},00m/0.C.2/{patient}/20050928/{10_000_000 + row},{row // 4 % 5},{row % 3},{'LEFT' if row % 2 else 'RIGHT'}\n"
            )
    return path


def main() -> None:
    logging.disable(logging.WARNING)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory() as folder:
        plain = write_series(Path(folder) / "plain", "SAG_3D_DESS_LEFT")
        other = write_series(Path(folder) / "other", "Schädel")
        ways: dict[str, Callable[[], object]] = {
            "pydicom, file-name order, no checks": lambda: without_checks(plain),
            "read_volume, all checks": lambda: read_volume(plain),
            "read_volume, all checks, through pydicom": lambda: read_volume(other),
            "read_header, all checks": lambda: read_header(plain),
        }
        taken = [{name: seconds(work) for name, work in ways.items()} for _ in range(rounds)]
        base = next(iter(ways))
        print(f"{'one series, CPU time':42s} {'ms':>7s} {'of the baseline':>16s}")
        for name in ways:
            ratio = statistics.median(one[name] / one[base] for one in taken)
            print(f"{name:42s} {1000 * statistics.median(one[name] for one in taken):7.1f} {ratio:16.2f}")
        table = write_table(Path(folder) / "cases.csv")
        start, cpu = time.perf_counter(), time.process_time()
        n_cases = len(read_cases(table, masks=False, targets=["V00COHORT", "side"]))
        print(f"a table of {n_cases:,} rows: {time.perf_counter() - start:.1f} s, {time.process_time() - cpu:.1f} s of CPU time")


if __name__ == "__main__":
    main()
