"""Does a classifier beat counting voxels? AUC of both on the test cases, and their paired difference over patients.

    python benchmarks/voxel_count_baseline.py CSV TARGET RUN_FOLDER

CSV is the run's table, TARGET one of its `cls_targets`, RUN_FOLDER the experiment's folder with `test/predictions.csv`. The foreground of a
scan is what lies above the middle of its range: exact for binary shapes. The count predicts the class that has more voxels in the cases
outside the test.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuse_examples.imaging.oai_example.data.cases import read_cases
from fuse_examples.imaging.oai_example.data.scans import read_volume
from fuse_examples.imaging.oai_example.evaluation.bootstrap import estimate, paired_difference
from fuse_examples.imaging.oai_example.evaluation.classification_metrics import auc


def voxel_count(path: Path) -> int:
    array = read_volume(path).array
    return int((array > (float(array.min()) + float(array.max())) / 2).sum())


def main() -> None:
    table, target, run = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    positive = json.loads((run / "test" / "metrics.json").read_text())[target]["positive_class"]
    with (run / "test" / "predictions.csv").open(newline="") as file:
        predicted = {int(row["row"]): float(row[f"{target}_probability_{positive}"]) for row in csv.DictReader(file)}
    cases = [case for case in read_cases(table, masks=False, targets=[target]) if case.targets[target] is not None]
    counts = {case.row: voxel_count(case.image) for case in cases}
    others = [case for case in cases if case.row not in predicted]
    means = [np.mean([counts[case.row] for case in others if (case.targets[target] == positive) == side]) for side in (True, False)]
    tested = [case for case in cases if case.row in predicted]
    truth = np.array([case.targets[target] == positive for case in tested])
    patients = [case.patient for case in tested]
    classes = [str(case.targets[target]) for case in tested]
    network = auc(truth, np.array([predicted[case.row] for case in tested]))
    count = auc(truth, np.array([counts[case.row] for case in tested]) * (1.0 if means[0] > means[1] else -1.0))
    for name, statistic in (("network", network), ("voxel count", count)):
        found = estimate(statistic, patients, classes=classes)
        print(f"{name:<12} AUC {found.value:.3f}   95 % interval {found.low:.3f} to {found.high:.3f}   ({len(tested)} cases)")
    difference = paired_difference(count, network, patients, classes=classes)
    found = difference.estimate
    print(f"difference       {found.value:.3f}   95 % interval {found.low:.3f} to {found.high:.3f}   p = {difference.p_value:.4f}")


if __name__ == "__main__":
    main()
