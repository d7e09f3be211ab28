"""Learning curves of a run, from the records that it left: `history.csv`, `probes.csv` and the best epoch of `val_metrics.json`."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuse_examples.imaging.oai_example.evaluation.probe_watch import TABLE
from fuse_examples.imaging.oai_example.training.checkpoint_writer import METRICS
from fuse_examples.imaging.oai_example.training.history import HISTORY, read_history

TITLES = {
    "loss": "Loss",
    "auc": "AUC on the validation folds",
    "kappa": "Quadratic kappa on the validation folds",
    "mae": "Mean absolute error on the validation folds",
    "r2": "R² on the validation folds",
    "score": "Score that chooses the best epoch",
    "dice": "Dice on the validation folds",
    "entropy": "Entropy of the outputs, in nats",
    "effective_rank": "Effective rank of the features",
    "prototypes_used": "Share of prototypes in use",
    "patch": "Loss of masked cells",
    "reconstruction": "Loss of masked reconstruction",
    "koleo": "KoLeo loss",
    "probe": "AUC of probes on the validation folds",
}
"""What is drawn, in this order: group -> title."""
_GROUP_OF = {"dino/teacher_entropy": "entropy", "dino/student_entropy": "entropy"}
_PROBES = {"knn_auc": "k-NN", "linear_auc": "linear"}


@dataclass(frozen=True)
class Curve:
    """Values over epochs (from 1), with an interval where there is one for each value."""

    epochs: Sequence[float]
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class CurvePlot:
    """Curves that share an axis: legend text -> curve; `best` is the epoch of `best.ckpt`, if it is known."""

    title: str
    curves: Mapping[str, Curve]
    best: int | None = None


def plots_of_run(folder: Path) -> list[CurvePlot]:
    """Return the plots of a run's folder; none where it has no records."""
    groups: dict[str, dict[str, Curve]] = {name: {} for name in TITLES}
    for name, curve in _curves(read_history(folder / HISTORY)).items():
        group, legend = _place(name)
        if group in groups and group != "probe":
            groups[group][legend] = curve
    groups["probe"] |= _probe_curves(folder / TABLE)
    best = _best_epoch(folder / METRICS)
    return [CurvePlot(TITLES[group], curves, best) for group, curves in groups.items() if curves]


def plots_of_runs(folders: Sequence[Path]) -> list[CurvePlot]:
    """Return the plots of several runs: loss and means together, a curve for each run by its number; of a single run all that it has."""
    if len(folders) == 1:
        return plots_of_run(folders[0])
    together: dict[str, dict[str, Curve]] = {}
    for number, folder in enumerate(folders, start=1):
        for plot in plots_of_run(folder):
            main = {legend: curve for legend, curve in plot.curves.items() if legend in ("training", "validation", "mean")}
            together.setdefault(plot.title, {}).update({f"run {number}: {legend}": curve for legend, curve in main.items()})
    return [CurvePlot(title, curves) for title, curves in together.items() if curves]


def _curves(rows: Iterable[Mapping[str, float]]) -> dict[str, Curve]:
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, []).append((row["epoch"], value))
    return {name: Curve(*zip(*pairs, strict=True)) for name, pairs in found.items()}


def _place(name: str) -> tuple[str, str]:
    """Logged name -> the plot it belongs to and its text in the legend."""
    if name in _GROUP_OF:
        return _GROUP_OF[name], name.removeprefix("dino/").removesuffix("_entropy")
    kind, _, rest = name.partition("/")
    what, _, whose = rest.partition("/")
    if what == "loss":
        return what, {"train": "training", "val": "validation"}.get(kind, kind)
    return what, whose or ("mean" if kind == "val" else what.replace("_", " "))


def _probe_curves(path: Path) -> dict[str, Curve]:
    if not path.is_file():
        return {}
    found: dict[str, list[tuple[float, ...]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["value"]:
                value = float(row["value"])
                ends = (float(row["low"] or value), float(row["high"] or value))
                found.setdefault(f"{row['target']}, {_PROBES.get(row['probe'], row['probe'])}", []).append(
                    (float(row["epoch"]), value, *ends)
                )
    return {legend: Curve(*zip(*points, strict=True)) for legend, points in found.items()}


def _best_epoch(path: Path) -> int | None:
    """The epoch of the best checkpoint, where it was chosen by a metric."""
    if not path.is_file():
        return None
    best = json.loads(path.read_text(encoding="utf-8"))
    return int(best["epoch"]) if best.get("monitor") else None
