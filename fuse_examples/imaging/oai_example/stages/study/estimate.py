"""`--check` of a study: try its largest run for real, and say how long everything that is left takes."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.stages.feasibility import Trial, duration
from fuse_examples.imaging.oai_example.stages.study.cell_run import cell_config
from fuse_examples.imaging.oai_example.stages.study.cell_state import found_rates, is_finished
from fuse_examples.imaging.oai_example.stages.study.downstream import downstream_stage
from fuse_examples.imaging.oai_example.stages.study.grid import Cell
from fuse_examples.imaging.oai_example.stages.study.opening import Study
from fuse_examples.imaging.oai_example.training.interruption import Interruption

START = 15.0
"""Seconds that a process takes before the first step and after the last."""


def print_estimate(study: Study) -> None:
    """Try a run with the largest budget, in a folder that is thrown away; print what it would do, and the time of every budget's runs."""
    trial = _tried(study)
    grid = study.grid
    size = f"{len(grid.initialisations)} initialisations x {len(grid.budgets)} budgets x {len(grid.seeds)} seeds"
    print(f"\nstudy         {study.folder}: {size}, and {len(grid.search)} runs that search for the learning rate")
    cells = grid.cells(found_rates(study.folder, grid))
    groups = {"search": grid.search}
    groups |= {study.subsets[one, grid.seeds[0]].label: tuple(cell for cell in cells if cell.budget == one) for one in grid.budgets}
    total = 0.0, 0.0
    for label, members in groups.items():
        left = [cell for cell in members if not is_finished(study.folder, cell)]
        if members:
            subset, (clock, processor) = study.subsets[members[0].budget, members[0].seed], _seconds(study, members[0], trial)
            costs = [(_seconds(study, cell, trial), _spared(study, cell, trial)) for cell in left]
            total = total[0] + sum(one[0] - less[0] for one, less in costs), total[1] + sum(one[1] - less[1] for one, less in costs)
            patients = f"{subset.n_train} patients to learn from, {subset.n_val} to validate on"
            each = f"{duration(clock)} each, {duration(processor)} of it on the processor"
            print(f"{label:<14}{patients}: {len(left)} of {len(members)} runs left, about {each}")
    jobs = study.config.jobs
    print(f"time          about {duration(total[0] / jobs)} with jobs: {jobs}, at the speed of this moment")
    print(f"processor     about {duration(total[1])} of this process's time; more with n_workers above 0")
    for note in study.notes:
        print(f"note          {note}")


def _spared(study: Study, cell: Cell, trial: Trial) -> tuple[float, float]:
    """Seconds that a cell of the grid is spared, because the search trains it."""
    grid = study.grid
    spared = cell.tested and bool(grid.search) and (cell.budget, cell.seed) == (grid.search_budget, grid.search_seed)
    return _seconds(study, replace(cell, tested=False), trial) if spared else (0.0, 0.0)


def _tried(study: Study) -> Trial:
    largest = max(study.subsets, key=lambda key: study.subsets[key].n_train)
    name = study.grid.initialisations[-1]
    cell = Cell(name, *largest, study.grid.learning_rates[0], tested=True)
    with TemporaryDirectory() as folder:
        tried = replace(study, folder=Path(folder))
        tried.write()
        with Interruption() as interruption:
            trial = downstream_stage(study.config.stage).train(cell_config(tried, cell), interruption, True)
    assert trial is not None  # it was a trial
    return trial


def _seconds(study: Study, cell: Cell, trial: Trial) -> tuple[float, float]:
    """What a run takes, on the clock and of the processor: its steps, its validations, and the test of a cell of the grid."""
    base, subset = study.base, study.subsets[cell.budget, cell.seed]
    together = 1 if isinstance(base, SegmentationConfig) else base.batch_size or 1
    mirrored = 2 ** len(base.augmentation.flip_axes) if isinstance(base, SegmentationConfig) and base.mirror_in_test else 1
    n_validations = study.config.steps // study.config.validate_every_n_steps
    n_evaluated = n_validations * -(-len(subset.val) // together)
    n_evaluated += -(-len(study.splits.test) // together) * mirrored if cell.tested else 0
    n_batches = study.config.steps * base.accumulate_grad_batches
    clock = START + n_batches * trial.training + n_evaluated * trial.evaluation
    return clock, START + n_batches * trial.training_cpu + n_evaluated * trial.evaluation_cpu
