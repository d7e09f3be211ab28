"""The last step of `make demo`: one table of what the three stages reached, and an error where a figure is below what it should be.

    python -m fuse_examples.imaging.oai_example.prepare.demo_verdict demo

The bounds are those of a pipeline that works. The trivial predictors are held to chance, so that the classifier's figure means something.
"""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fuse_examples.imaging.oai_example.objectives.ranking import binary_auc

TARGET, POSITIVE = "V00COHORT", "1: Progression"
TRIVIAL = {"foreground_mm3": "volume", "side": "side", "mean_intensity": "mean intensity"}


@dataclass(frozen=True)
class Line:
    """One figure of the table and the bound it is held to."""

    what: str
    found: float
    bound: float
    at_least: bool = True
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether the figure keeps its bound; a missing one does not."""
        return self.found >= self.bound if self.at_least else self.found <= self.bound

    def __str__(self) -> str:
        sign = "at least" if self.at_least else "at most"
        return f"{'ok    ' if self.passed else 'FAILED'} {self.what:<44} {self.found:8.3f}   ({sign} {self.bound:g}) {self.detail}"


def verdict(folder: Path) -> list[Line]:
    """Read the demo's results and return the table."""
    results = folder / "results"
    segmentation, classification, dino = (
        _read(results / stage / "test" / "metrics.json") for stage in ("segmentation", "classification", "dino")
    )
    reports = [results / stage / "test" / "report.html" for stage in ("segmentation", "classification")]
    ended = _read(results / "dino" / "val_metrics.json")["metrics"]
    embedded = f"{dino['effective_rank']:.1f} over whole test scans"
    lines = [Line("DINO: effective rank at the end of training", _number(ended["dino/effective_rank"]), 8, detail=embedded)]
    for name, entry in segmentation["dice"].items():
        lines.append(Line(f"segmentation: Dice, {name}", _number(entry["value"]), 0.7 if name == "mean" else 0.5, detail=_interval(entry)))
    lines.append(Line("segmentation: test patients", segmentation["n_patients"], 20))
    auc = classification[TARGET]["auc"]
    lines.append(Line(f"classification: AUC of {TARGET}, lower bound", _number(auc["low"]), 0.6, detail=f"AUC {_number(auc['value']):.3f}"))
    lines.append(Line("classification: test patients", auc["n_patients"], 40))
    lines += [
        Line(f"trivial predictor: AUC of {name}", value, 0.6, at_least=False) for name, value in trivial_aucs(folder / "data").items()
    ]
    return [*lines, Line("reports written", sum(report.is_file() for report in reports), len(reports))]


def trivial_aucs(data: Path, fold: str = "4") -> dict[str, float]:
    """AUC on the test fold of what needs no network, in the direction that it has on the other folds."""
    with (data / "knees.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    aucs = {}
    for column, name in TRIVIAL.items():
        values = np.array([float(row[column] == "RIGHT") if column == "side" else float(row[column]) for row in rows])
        positive = np.array([row[TARGET] == POSITIVE for row in rows])
        test = np.array([row["fold"] == fold for row in rows])
        direction = 1 if binary_auc(positive[~test], values[~test]) >= 0.5 else -1
        aucs[name] = binary_auc(positive[test], direction * values[test])
    return aucs


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; exit code 1 where a figure misses its bound."""
    folder = Path((sys.argv[1:] if argv is None else list(argv))[0])
    lines = verdict(folder)
    print("\n".join(str(line) for line in lines))
    print(f"reports: {folder / 'results' / 'segmentation' / 'test' / 'report.html'}")
    print(f"         {folder / 'results' / 'classification' / 'test' / 'report.html'}")
    print(f"curves:  tensorboard --logdir {folder / 'results'}")
    return 0 if all(line.passed for line in lines) else 1


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _interval(entry: dict[str, Any]) -> str:
    return "" if entry["low"] is None else f"95 % interval {entry['low']:.3f} to {entry['high']:.3f}"


if __name__ == "__main__":
    sys.exit(main())
