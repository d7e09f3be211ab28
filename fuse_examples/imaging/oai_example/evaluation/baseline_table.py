"""`baseline_predictions.csv`: what each baseline predicts for the tested cases, a row per case in the order of `predictions.csv`.

Cross-validation pools these tables as it pools the network's, so that the baselines stand beside its score too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.evaluation.baseline_results import Rival
from fuse_examples.imaging.oai_example.evaluation.classified_cases import AnyTarget, ClassifiedCase, Target
from fuse_examples.imaging.oai_example.evaluation.prediction_files import IDENTIFIERS, read_metrics, read_table
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_table

TABLE = "baseline_predictions.csv"
Rivals = Mapping[str, Sequence[Rival]]
"""Target -> what its baselines predict."""


def write_baseline_table(folder: Path, cases: Sequence[ClassifiedCase], targets: Sequence[AnyTarget], rivals: Rivals) -> None:
    """Write the table into `folder`, or nothing where there are no baselines."""
    chosen = [(target, rival) for target in targets for rival in rivals.get(target.name, ())]
    if not chosen:
        return
    header = [*IDENTIFIERS, *(name for target, rival in chosen for name in _columns(target, rival.name))]
    columns = [_cells(target, rival) for target, rival in chosen]
    rows = [
        [case.name, case.patient, case.fold, case.row, *(cell for cells in columns for cell in cells[place])]
        for place, case in enumerate(cases)
    ]
    write_table(folder / TABLE, header, rows)


def read_baseline_table(folder: Path, targets: Sequence[AnyTarget]) -> dict[str, list[Rival]]:
    """Read the table of a test folder back, the calls as they stand there; empty where the test wrote none.

    Raises:
        DataError: a table that lacks columns of the baselines that metrics.json has.
    """
    if not (folder / TABLE).is_file():
        return {}
    metrics = read_metrics(folder)
    names = {target.name: list(metrics[target.name].get("baselines", {})) for target in targets}
    needed = [column for target in targets for name in names[target.name] for column in _columns(target, name)]
    rows = read_table(folder / TABLE, [*IDENTIFIERS, *needed])
    return {target.name: [_rival(target, name, rows) for name in names[target.name]] for target in targets}


def pooled_rivals(folds: Sequence[Rivals]) -> dict[str, list[Rival]]:
    """Return the baselines of several tests one after the other; none where a test has none.

    Raises:
        DataError: tests whose baselines differ.
    """
    if not all(folds):
        return {}
    pooled: dict[str, list[Rival]] = {}
    for target, first in folds[0].items():
        kinds = [[one.name for one in fold[target]] for fold in folds]
        if any(names != kinds[0] for names in kinds):
            raise DataError(f"{target}: the folds have different baselines ({', '.join(kinds[0])} and others). Train all folds anew.")
        pooled[target] = [_joined([fold[target][place] for fold in folds]) for place in range(len(first))]
    return pooled


def _columns(target: AnyTarget, baseline: str) -> list[str]:
    classes = target.classes if isinstance(target, Target) else ()
    return [f"{target.name}_{baseline}_predicted", *(f"{target.name}_{baseline}_probability_{name}" for name in classes)]


def _cells(target: AnyTarget, rival: Rival) -> list[list[Any]]:
    """The cells of each case, in the order of `_columns`."""
    if not isinstance(target, Target):
        return [[float(value)] for value in rival.predictions[:, 0]]
    calls = rival.called
    if calls is None:
        calls = tuple(target.classes[index] for index in replace(target, threshold=rival.threshold).decide(rival.predictions))
    return [[call, *map(float, values)] for call, values in zip(calls, rival.predictions, strict=True)]


def _rival(target: AnyTarget, name: str, rows: Sequence[Mapping[str, str]]) -> Rival:
    predicted, *probabilities = _columns(target, name)
    numbers = np.array([[float(row[column]) for column in probabilities or [predicted]] for row in rows], dtype=np.float64)
    return Rival(name, numbers, called=tuple(row[predicted] for row in rows) if probabilities else None)


def _joined(parts: Sequence[Rival]) -> Rival:
    calls = [part.called for part in parts]
    called = None if None in calls else tuple(name for call in calls if call is not None for name in call)
    return Rival(parts[0].name, np.concatenate([part.predictions for part in parts]), called=called)
