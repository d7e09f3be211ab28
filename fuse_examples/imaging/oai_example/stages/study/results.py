"""From run folders to results: what every finished cell of a study found, read back from its own files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.evaluation.classified_cases import ContinuousTarget, Target, read_classified
from fuse_examples.imaging.oai_example.evaluation.prediction_files import number, read_predictions
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.study_cells import CellResult, StudyResults, TestedCase, write_cells
from fuse_examples.imaging.oai_example.evaluation.study_document import print_answer
from fuse_examples.imaging.oai_example.evaluation.study_report import write_study_report
from fuse_examples.imaging.oai_example.evaluation.study_statistics import analyse
from fuse_examples.imaging.oai_example.evaluation.study_table import COLUMNS, table_rows, write_study_table
from fuse_examples.imaging.oai_example.stages.study.cell_state import found_rates, is_finished, read_done, run_folder
from fuse_examples.imaging.oai_example.stages.study.grid import Cell
from fuse_examples.imaging.oai_example.stages.study.opening import Study
from fuse_examples.imaging.oai_example.training.clearml_tracker import clearml_tracker
from fuse_examples.imaging.oai_example.training.environment import describe_environment
from fuse_examples.imaging.oai_example.training.grid_board import write_grid
from fuse_examples.imaging.oai_example.training.history import HISTORY, read_history

CELLS, HPARAMS = "cells.jsonl", "hparams"


def write_study_results(study: Study) -> Path | None:
    """Write what the finished cells found: cells.jsonl, study.csv, study.html, TensorBoard's HParams and ClearML's table.

    Returns:
        The page; None where no cell is finished.
    """
    results = collect(study)
    if results is None:
        return None
    write_cells(results, study.folder / CELLS)
    write_study_table(results, study.folder)
    answer = analyse(results, Bootstrap(n_resamples=study.config.n_bootstrap))
    page = write_study_report(answer, study.folder)
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in table_rows(results)]
    write_grid(study.folder / HPARAMS, [_hparams(row, results.metric) for row in rows])
    if study.config.clearml:
        _send_table(study, [COLUMNS, *table_rows(results)])
    print_answer(answer)
    return page


def _hparams(row: Mapping[str, Any], metric: str) -> tuple[str, dict[str, Any], dict[str, float]]:
    settings = {name: row[name] for name in ("initialisation", "budget", "n_train_patients", "seed", "learning_rate")}
    figures = {f"test/{metric}": row["score"], "best validation": row["validation_score"]}
    return f"{row['initialisation']}_{row['budget']}_seed{row['seed']}", settings, figures


def _send_table(study: Study, rows: Sequence[Sequence[Any]]) -> None:
    config = study.config
    assert config.clearml_project_name is not None  # by the configuration's rules
    tracker = clearml_tracker(
        project=config.clearml_project_name,
        experiment=config.experiment,
        config_dump=config.dump(),
        environment=describe_environment(seed=config.seeds[0]),
    )
    tracker.log_table("runs", rows)
    tracker.close()


def collect(study: Study) -> StudyResults | None:
    """Read every finished cell's run folder; None where there is none.

    Raises:
        DataError: a run's results are damaged, or two cells were tested on different cases.
    """
    done = [cell for cell in study.grid.cells(found_rates(study.folder, study.grid)) if is_finished(study.folder, cell)]
    if not done:
        return None
    read = {cell: _tested(study, run_folder(study.folder, cell) / "test") for cell in done}
    cases, target, _ = read[done[0]]
    other = next((cell for cell in done if read[cell][0] != cases), None)
    if other is not None:
        raise DataError(
            f"{run_folder(study.folder, other)}: was tested on other cases than {done[0].name}. Remove that folder; it is done anew."
        )
    return StudyResults(
        name=study.config.experiment,
        stage=study.config.stage,
        steps=study.config.steps,
        initialisations=study.grid.initialisations,
        budgets=_budgets(study),
        target=target,
        cases=cases,
        protocol=study.protocol,
        notes=(*study.notes, *_at_the_end(study)),
        cells=tuple(_cell(study, cell, scores) for cell, (_, _, scores) in read.items()),
    )


def _at_the_end(study: Study) -> list[str]:
    """What a reader should know of a search whose best is the last that was tried."""
    rates = study.grid.learning_rates
    if len(rates) == 1:
        return []
    ends = {min(rates): "smallest", max(rates): "largest"}
    return [
        f"{name}: the search took {rate:g}, the {ends[rate]} of the learning rates tried; one beyond it may be better."
        for name, rate in found_rates(study.folder, study.grid).items()
        if rate in ends
    ]


def _budgets(study: Study) -> tuple[str, ...]:
    sizes = {subset.label: subset.n_train for subset in study.subsets.values()}
    return tuple(sorted(sizes, key=lambda label: (sizes[label], label)))


def _cell(study: Study, cell: Cell, scores: tuple[Any, ...]) -> CellResult:
    subset = study.subsets[cell.budget, cell.seed]
    folder = run_folder(study.folder, cell)
    assert cell.learning_rate is not None  # it is finished
    return CellResult(
        initialisation=cell.initialisation,
        budget=subset.label,
        seed=cell.seed,
        learning_rate=cell.learning_rate,
        n_train=subset.n_train,
        n_val=subset.n_val,
        n_train_cases=len(subset.train),
        n_val_cases=len(subset.val),
        curve=_curve(folder),
        scores=scores,
        seconds=read_done(study.folder, cell),
    )


def _curve(folder: Path) -> tuple[tuple[int, float], ...]:
    """(Optimiser steps done, score) of every validation, of the metric that chose the best epoch. Raises DataError where it is lost."""
    try:
        monitor = json.loads((folder / "val_metrics.json").read_text())["monitor"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder / 'val_metrics.json'}: cannot be read ({error}). Remove that run's folder; it is done anew.") from error
    curve = tuple((int(row["step"]), row[monitor]) for row in read_history(folder / HISTORY) if monitor in row)
    if not curve:
        raise DataError(f"{folder / HISTORY}: has no validation scores of {monitor}. Remove that run's folder; it is done anew.")
    return curve


def _tested(study: Study, folder: Path) -> tuple[tuple[TestedCase, ...], Mapping[str, Any] | None, tuple[Any, ...]]:
    """The cases of a test folder, facts of the compared target, and a score of each case."""
    try:
        return _read_test(study, folder)
    except DataError as error:
        remedy = f"Or remove {folder.parent}; the study does that run anew."
        raise DataError([*error.problems, remedy]) from error


def _read_test(study: Study, folder: Path) -> tuple[tuple[TestedCase, ...], Mapping[str, Any] | None, tuple[Any, ...]]:
    if study.target is None:
        rows = read_predictions(folder, ["case", "PatientID", "dice_mean"])
        dice = [number(row["dice_mean"]) for row in rows]
        cases = tuple(TestedCase(row["case"], row["PatientID"]) for row in rows)
        return cases, None, tuple(None if np.isnan(value) else round(value, 6) for value in dice)
    found, targets = read_classified(folder)
    target = next(one for one in targets if one.name == study.target)
    facts: dict[str, Any] = {"name": target.name, "kind": target.kind}
    if isinstance(target, Target):
        facts |= {"classes": list(target.classes), "positive": target.positive_class}
    cases = tuple(TestedCase(case.name, case.patient, case.truth[target.name]) for case in found)
    if isinstance(target, ContinuousTarget):
        return cases, facts, tuple(case.values[target.name] for case in found)
    return cases, facts, tuple([_single(value) for value in case.probabilities[target.name]] for case in found)


def _single(value: float) -> float:
    """The shortest number that is the same in single precision, in which networks compute: half as long, and no two become equal."""
    return float(str(np.float32(value)))
