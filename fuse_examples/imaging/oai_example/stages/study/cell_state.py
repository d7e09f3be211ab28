"""What has been done of a study: which cells are trained and tested, and the learning rates that the search found."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.stages.study.grid import DONE, RUNS, Cell, Grid
from fuse_examples.imaging.oai_example.training.checkpoint_writer import BEST, METRICS
from fuse_examples.imaging.oai_example.training.safe_files import write_json


def run_folder(study: Path, cell: Cell) -> Path:
    """The run folder of a cell."""
    return study / RUNS / cell.name


def read_done(study: Path, cell: Cell) -> dict[str, Any]:
    """What a cell has behind it: seconds by "trained" and "tested"; empty before."""
    try:
        done: dict[str, Any] = json.loads((run_folder(study, cell) / DONE).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(
            f"{run_folder(study, cell) / DONE}: cannot be read ({error}). Remove that run's folder; it is trained anew."
        ) from error
    return done


def note_done(study: Path, cell: Cell, done: Mapping[str, Any]) -> None:
    """Leave word of what a cell has behind it."""
    write_json(run_folder(study, cell) / DONE, done)


def is_finished(study: Path, cell: Cell) -> bool:
    """Whether nothing is left to do for a cell."""
    return cell.learning_rate is not None and ("tested" if cell.tested else "trained") in read_done(study, cell)


def validation_score(study: Path, cell: Cell) -> float:
    """The best validation score of a trained cell; NaN where no epoch could be scored.

    Raises:
        DataError: the score is lost. Without it the search would choose another learning rate.
    """
    folder = run_folder(study, cell)
    if not (folder / METRICS).exists() and not (folder / "checkpoints" / BEST).exists():
        return math.nan
    try:
        value = json.loads((folder / METRICS).read_text())["value"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / METRICS}: cannot be read ({error}). Remove that run's folder; it is done anew.") from error
    return math.nan if value is None else float(value)


def found_rates(study: Path, grid: Grid) -> dict[str, float]:
    """By initialisation the learning rate with the best validation score, the lower of equals; only where all of its search is done.

    Raises:
        DataError: no learning rate gave an initialisation a score.
    """
    rates: dict[str, float] = {}
    for name in grid.initialisations:
        own = [cell for cell in grid.search if cell.initialisation == name]
        if not own or not all(is_finished(study, cell) for cell in own):
            continue
        scores = {cell.learning_rate: validation_score(study, cell) for cell in own}
        sound = {rate: score for rate, score in scores.items() if rate is not None and not math.isnan(score)}
        if not sound:
            tried = ", ".join(f"{rate:g}" for rate in grid.learning_rates)
            raise DataError(
                f"{study}: {name} has no validation score with any of the learning rates {tried}. Try others, in a new experiment."
            )
        rates[name] = min(sound, key=lambda rate: (-sound[rate], rate))
    return rates
