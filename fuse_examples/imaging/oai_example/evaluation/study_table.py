"""The table of a study's cells, one row each."""

from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.evaluation.study_cells import StudyResults
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_table

COLUMNS = (
    "initialisation", "budget", "n_train_patients", "n_train_cases", "n_val_patients", "n_val_cases", "seed", "learning_rate", "metric",
    "score", "validation_score", "best_step", "steps", "training_seconds", "test_seconds",
)  # fmt: skip


def write_study_table(results: StudyResults, folder: Path) -> Path:
    """Write `study.csv`: what each cell is and its score on the test cases."""
    path = folder / "study.csv"
    write_table(path, COLUMNS, table_rows(results))
    return path


def table_rows(results: StudyResults) -> list[list[Any]]:
    """The rows of the table, budget by budget."""
    order = {name: place for place, name in enumerate((*results.budgets, *results.initialisations))}
    rows = []
    for cell in sorted(results.cells, key=lambda one: (order[one.budget], order[one.initialisation], one.seed)):
        step, validation = cell.best
        sizes = [cell.n_train, cell.n_train_cases, cell.n_val, cell.n_val_cases]
        found = [results.metric, results.score(cell), validation, step, results.steps]
        times = [cell.seconds.get("trained"), cell.seconds.get("tested")]
        rows.append([cell.initialisation, cell.budget, *sizes, cell.seed, cell.learning_rate, *found, *times])
    return rows
