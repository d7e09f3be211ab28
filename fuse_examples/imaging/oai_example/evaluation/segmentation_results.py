"""Scores of segmented cases: the table of cases and the metrics with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.evaluation.bootstrap import estimate_mean
from fuse_examples.imaging.oai_example.evaluation.prediction_files import IDENTIFIERS
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.structure_scores import Pair, ScoreSettings, score_structures
from fuse_examples.imaging.oai_example.evaluation.subgroups import subgroup_metrics
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_json, write_table
from fuse_examples.imaging.oai_example.geometry.volume import Grid

MEAN = "mean"  # the entry beside the structures
WORST_SHOWN = 5  # cases that a report shows from the lower end
_ORDINALS = ("", "2nd", "3rd", "4th", "5th")
RULES = {
    "dice": "2 |T ∩ P| / (|T| + |P|) on the input's own grid",
    "surface_dice": "share of both surfaces' voxels that lie within the tolerance of the other surface",
    "hd95_mm": "larger of the two directed 95th percentiles of the distances between surface voxels",
    "assd_mm": "mean of all distances between surface voxels, both directions together",
    "volume_error_ml": "predicted minus true volume; absolute: without its sign",
    "thickness_error_mm": "predicted minus true mean thickness along surface normals; absolute: without its sign",
    "absent structure": "absent in truth and prediction: no score, the case is left out and counted as absent; absent in one: Dice and "
    "surface Dice 0, distances the diagonal of the scan, no thickness error",
    "mean": "mean over cases of each case's mean over its structures that have a score",
    "interval": "percentile bootstrap over patients: a patient's cases are drawn together",
}


@dataclass(frozen=True)
class CasePrediction:
    """What is known of one segmented case.

    Attributes:
        name: the case's name; names its outputs.
        patient: the patient it belongs to.
        fold: its fold in the CSV file.
        row: its line in the CSV file, the header being line 1.
        scores: metric -> structure -> value; NaN where the structure is absent in truth and prediction.
        volumes_ml: structure -> (true, predicted) volume in millilitres.
        thickness_mm: structure -> (true, predicted) mean thickness, for the structures that are sheets.
        mask: where the predicted mask was written, relative to the test folder; empty if nowhere.
        groups: column of `report_by` -> value; None where the cell is empty.
    """

    name: str
    patient: str
    fold: str
    row: int
    scores: Mapping[str, Mapping[str, float]]
    volumes_ml: Mapping[str, Pair] = field(default_factory=dict)
    thickness_mm: Mapping[str, Pair] = field(default_factory=dict)
    mask: str = ""
    groups: Mapping[str, str | None] = field(default_factory=dict)

    def mean(self, metric: str = "dice") -> float:
        """Return the mean over the structures that have a score; NaN if none has."""
        values = [value for value in self.scores[metric].values() if not np.isnan(value)]
        return float(np.mean(values)) if values else float("nan")


def score_case(
    truth: NDArray[Any],
    predicted: NDArray[Any],
    grid: Grid,
    structures: Sequence[str],
    *,
    name: str,
    patient: str,
    fold: str,
    row: int,
    mask: str = "",
    settings: ScoreSettings | None = None,
) -> CasePrediction:
    """Compare two label maps (D, H, W) on the input's own grid.

    Args:
        truth: true labels, 0 for background and 1 … for `structures` in their order.
        predicted: predicted labels.
        grid: the grid both lie on.
        structures: names of the labels from 1 on.
        name, patient, fold, row, mask: see `CasePrediction`.
        settings: tolerance of surface Dice, and whose thickness is measured.

    Raises:
        ValueError: a shape or label that does not fit.
    """
    found = score_structures(truth, predicted, grid, structures, settings or ScoreSettings())
    return CasePrediction(name, patient, fold, row, found.scores, found.volumes_ml, found.thickness_mm, mask)


def segmentation_metrics(
    cases: Sequence[CasePrediction], structures: Sequence[str], settings: Bootstrap | None = None, scoring: ScoreSettings | None = None
) -> dict[str, Any]:
    """Return the content of metrics.json: per metric its mean and each structure with interval, and what was counted.

    Raises:
        ValueError: no cases, or names of structures that repeat or read "mean".
    """
    if not cases:
        raise ValueError("no cases to evaluate")
    if len(set(structures)) < len(structures) or MEAN in structures:
        raise ValueError(f"structure names must differ from each other and from {MEAN!r}: {', '.join(structures)}")
    settings = settings or Bootstrap()
    metrics = _scores(cases, structures, settings)
    subgroups = subgroup_metrics(cases, lambda members: _scores(members, structures, settings))
    metrics |= {"subgroups": subgroups} if subgroups else {}
    metrics["absent"] = {structure: _absences(cases, structure) for structure in structures}
    metrics |= {"n_cases": len(cases), "n_patients": len({case.patient for case in cases}), "folds": _per_fold(cases)}
    metrics |= {"structures": list(structures), "surface_dice_tolerance_mm": (scoring or ScoreSettings()).tolerance_mm}
    if scoring is not None and scoring.regions:
        metrics |= {"labels": list(scoring.label_names), "regions": dict(zip(structures, map(list, scoring.regions), strict=True))}
    return metrics | {"bootstrap": settings.as_dict(), "rules": RULES}


def _absences(cases: Sequence[CasePrediction], structure: str) -> dict[str, int]:
    """In how many cases a structure is absent where the other mask has it; with n_absent of its Dice, all that absence decides."""
    there = [tuple(volume > 0 for volume in case.volumes_ml[structure]) for case in cases if structure in case.volumes_ml]
    return {"in_prediction_only": there.count((True, False)), "in_truth_only": there.count((False, True))}


def write_segmentation_results(
    folder: Path,
    cases: Sequence[CasePrediction],
    structures: Sequence[str],
    settings: Bootstrap | None = None,
    scoring: ScoreSettings | None = None,
) -> dict[str, Any]:
    """Write predictions.csv and metrics.json into `folder`; return the metrics as written."""
    metrics = segmentation_metrics(cases, structures, settings, scoring)
    names = list(cases[0].scores)
    groups = [name for name in cases[0].groups if name not in IDENTIFIERS]
    header = [*IDENTIFIERS, *groups]
    header += [f"{metric}_{column}" for metric in names for column in (MEAN, *cases[0].scores[metric])]
    header += [f"{what}_volume_ml_{structure}" for structure in structures for what in ("true", "predicted")]
    header += [f"{what}_thickness_mm_{structure}" for structure in cases[0].thickness_mm for what in ("true", "predicted")]
    write_table(folder / "predictions.csv", [*header, "mask"], (_table_row(case, names, structures, groups) for case in cases))
    write_json(folder / "metrics.json", metrics)
    return metrics


def shown_cases(cases: Sequence[CasePrediction], metric: str = "dice") -> list[tuple[str, CasePrediction]]:
    """Return the cases that the report shows with their ranks in words: the five of the lowest mean score, the median, the best."""
    ranked = _ranked(cases, metric)
    ranks = {place: "lowest" if place == 0 else f"{_ORDINALS[place]} lowest" for place in range(min(WORST_SHOWN, len(ranked)))}
    if ranked:
        for place, name in (((len(ranked) - 1) // 2, "median"), (len(ranked) - 1, "highest")):
            ranks[place] = f"{ranks[place]}, {name}" if place in ranks else name
    return [(rank, ranked[place]) for place, rank in ranks.items()]


def choose_examples(cases: Sequence[CasePrediction], metric: str = "dice") -> dict[str, CasePrediction]:
    """Return the worst, the median and the best case by mean score, for pictures; fewer if there are fewer cases."""
    ranked = _ranked(cases, metric)
    if not ranked:
        return {}
    chosen = {"worst": ranked[0], "median": ranked[(len(ranked) - 1) // 2], "best": ranked[-1]}
    return {role: case for role, case in chosen.items() if role == "worst" or case is not ranked[0]}


def _ranked(cases: Sequence[CasePrediction], metric: str) -> list[CasePrediction]:
    """The cases that have a score, the lowest first; of equal ones by name."""
    return sorted((case for case in cases if not np.isnan(case.mean(metric))), key=lambda case: (case.mean(metric), case.name))


def _scores(cases: Sequence[CasePrediction], structures: Sequence[str], settings: Bootstrap) -> dict[str, Any]:
    """Per metric: its mean over structures and each structure, with intervals over patients."""
    patients = [case.patient for case in cases]
    metrics: dict[str, Any] = {}
    for metric in cases[0].scores:
        columns = {MEAN: [case.mean(metric) for case in cases]}
        measured = [structure for structure in structures if structure in cases[0].scores[metric]]
        columns |= {structure: [case.scores[metric][structure] for case in cases] for structure in measured}
        metrics[metric] = {
            name: estimate_mean(values, patients, settings).as_dict() | {"n_absent": int(np.isnan(values).sum())}
            for name, values in columns.items()
        }
    return metrics


def _table_row(case: CasePrediction, metrics: Sequence[str], structures: Sequence[str], groups: Sequence[str]) -> list[Any]:
    row: list[Any] = [case.name, case.patient, case.fold, case.row, *(case.groups[name] for name in groups)]
    for metric in metrics:
        row += [case.mean(metric), *case.scores[metric].values()]
    for structure in structures:
        row += case.volumes_ml.get(structure, (None, None))
    for pair in case.thickness_mm.values():
        row += pair
    return [*row, case.mask]


def _per_fold(cases: Sequence[CasePrediction]) -> dict[str, dict[str, int]]:
    folds = sorted({case.fold for case in cases})
    members = {fold: [case for case in cases if case.fold == fold] for fold in folds}
    return {fold: {"n_cases": len(who), "n_patients": len({case.patient for case in who})} for fold, who in members.items()}
