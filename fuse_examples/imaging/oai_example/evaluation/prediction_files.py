"""The tables that test runs leave: where `predictions.csv` of a run lies, and its rows as text."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.errors import DataError

IDENTIFIERS = ("case", "PatientID", "fold", "row")
"""The first columns of every predictions.csv."""
PLACES = ("test", "cross_validation", ".")
"""Where a run's results may lie in the folder that a user names, the first that has them."""


def results_folder(run: Path) -> Path:
    """Return the folder of `run` with predictions.csv and metrics.json.

    Args:
        run: an experiment's folder, or the folder of the results themselves.

    Raises:
        DataError: there are none.
    """
    for place in PLACES:
        if (run / place / "predictions.csv").is_file() and (run / place / "metrics.json").is_file():
            return run / place
    if not run.is_dir():
        raise DataError(f"{run}: no such folder. Give the folder of an experiment that was tested, such as results/<experiment>.")
    raise DataError(f"{run}: has no test/predictions.csv with its metrics.json. Test the run first: set test_ckpt to its best.ckpt.")


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read metrics.json. Raises DataError where it is not whole."""
    try:
        metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / 'metrics.json'}: cannot be read ({error}). Test the run again.") from error
    return metrics


def read_predictions(folder: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read the rows of predictions.csv, which has at least `columns`. Raises DataError."""
    return read_table(folder / "predictions.csv", columns)


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read the rows of a table that a test wrote, which has at least `columns`. Raises DataError."""
    try:
        file = path.open(newline="", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}). Test the run again.") from error
    with file:
        reader = csv.DictReader(file)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{path}: lacks the columns {', '.join(missing)}, which its metrics.json speaks of. Test the run again.")
        return list(reader)


def number(cell: str) -> float:
    """Return the number of a cell; NaN for an empty one."""
    return float(cell) if cell else float("nan")
