"""The study of label efficiency: a frozen configuration in, a folder with every run, the tables and the answer out."""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fuse_examples.imaging.oai_example.configuration.label_efficiency_config import LabelEfficiencyConfig
from fuse_examples.imaging.oai_example.errors import ConfigError, UserError
from fuse_examples.imaging.oai_example.stages.study.cell_run import do_cell
from fuse_examples.imaging.oai_example.stages.study.cell_state import found_rates, is_finished, read_done, validation_score
from fuse_examples.imaging.oai_example.stages.study.estimate import print_estimate
from fuse_examples.imaging.oai_example.stages.study.grid import Cell
from fuse_examples.imaging.oai_example.stages.study.opening import SETTINGS, Study, look_at_study
from fuse_examples.imaging.oai_example.stages.study.parent_watch import stop_with_parent
from fuse_examples.imaging.oai_example.stages.study.results import write_study_results
from fuse_examples.imaging.oai_example.stages.study.scheduling import Broken, do_cells
from fuse_examples.imaging.oai_example.training.interruption import NAMES, Interrupted, Interruption
from fuse_examples.imaging.oai_example.training.run import Run


def label_efficiency(config: LabelEfficiencyConfig, *, check: bool = False, listed: bool = False, number: int | None = None) -> None:
    """Do what is left of a study and write its answer; or look at it only.

    Args:
        config: the study.
        check: try a run, say how long the study takes, and stop.
        listed: print the runs and what has been done of them, and stop.
        number: do this one run alone.

    Raises:
        UserError: whatever keeps the study from being begun or gone on with; runs that broke, after all others are done.
        Interrupted: a signal came; the same command goes on.
    """
    Run.for_testing(config.results_dir, config.experiment)  # a folder that cannot be written is told first
    study = look_at_study(config)
    if listed:
        _print_list(study)
    elif check:
        print_estimate(study)
    elif number is not None:
        _do_one(study, number)
    else:
        _do_all(study)


def all_cells(study: Study) -> tuple[Cell, ...]:
    """Every cell by its number."""
    return (*study.grid.search, *study.grid.cells(found_rates(study.folder, study.grid)))


def _print_list(study: Study) -> None:
    for number, cell in enumerate(all_cells(study)):
        done = read_done(study.folder, cell) if cell.learning_rate is not None else {}
        state = "done" if is_finished(study.folder, cell) else "trained" if done else "to do"
        print(f"{number:>4}  {'grid' if cell.tested else 'search'}  {state:<8}{cell.name}")


def _do_one(study: Study, number: int) -> None:
    cells = all_cells(study)
    if not 0 <= number < len(cells):
        raise ConfigError(f"command line: --cell {number}: this study has the runs 0 to {len(cells) - 1}; --list shows them")
    cell = cells[number]
    if cell.learning_rate is None:
        raise ConfigError(
            f"command line: --cell {number}: {cell.initialisation} has no learning rate yet; do the search first, runs 0 to "
            f"{len(study.grid.search) - 1}"
        )
    stop_with_parent()
    study.write()
    do_cell(study, cell)


def _do_all(study: Study) -> None:
    study.write()
    for note in study.notes:
        print(f"note: {note}")
    try:
        with Interruption() as interruption:
            interruption.defer()
            broken = _do(study, study.grid.search, interruption)
            cells = study.grid.cells(found_rates(study.folder, study.grid))
            ready = [cell for cell in cells if cell.learning_rate is not None]  # where a run of the search broke the others go on
            broken += _do(study, ready, interruption)
    except Interrupted:
        with suppress(UserError):  # what it has found so far; the signal is what is told
            write_study_results(study)
        raise
    written = write_study_results(study)
    if broken:
        raise UserError([*map(str, broken), _what_broke(len(broken), len(cells) - len(ready))])
    if written is not None:
        print(f"report: {written}")


def _what_broke(n_broken: int, n_waiting: int) -> str:
    broke = f"{n_broken} run{'s' * (n_broken != 1)} broke"
    if n_waiting:
        broke += f", so that the learning rate of {n_waiting} others is not known yet; they have not begun"
    return f"{broke}; the others are done. Mend the cause and give the same command."


def _do(study: Study, cells: Sequence[Cell], interruption: Interruption) -> list[Broken]:
    """Do those of the cells that are not done."""
    numbers = {cell.name: number for number, cell in reversed(list(enumerate(all_cells(study))))}
    if cells and cells[0].tested:  # a number of the grid also tests what the search has trained
        numbers = {cell.name: number for number, cell in enumerate(all_cells(study)) if cell.tested}
    left = [cell for cell in cells if not is_finished(study.folder, cell)]
    began, done = time.perf_counter(), 0

    def told(cell: Cell, seconds: float) -> None:
        nonlocal done
        done += 1
        rest = (len(left) - done) * (time.perf_counter() - began) / done
        score = validation_score(study.folder, cell)
        print(f"{done}/{len(left)}  {cell.name}: validation {score:.3f}, {seconds:.0f} s; about {rest / 60:.0f} min left", flush=True)

    commands = [(cell, _command(study, numbers[cell.name])) for cell in left]
    try:
        return do_cells(study.folder, commands, study.config.jobs, interruption, told)
    except Interrupted as stop:
        message = f"Stopped by {NAMES.get(stop.signum, stop.signum.name)}; the same command goes on where it stopped."
        raise Interrupted(stop.signum, message) from stop


def _command(study: Study, number: int) -> list[str]:
    script = Path(__file__).parents[1] / "downstream" / "label_efficiency.py"
    return [sys.executable, str(script), "--config", str(study.folder / SETTINGS), "--cell", str(number)]
