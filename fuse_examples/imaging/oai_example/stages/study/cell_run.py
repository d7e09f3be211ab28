"""One cell of a study as an ordinary run: trained where it stands, then tested where it belongs to the grid."""

import time
from pathlib import Path

from fuse_examples.imaging.oai_example.stages.study.cell_state import is_finished, note_done, read_done, run_folder
from fuse_examples.imaging.oai_example.stages.study.downstream import DownstreamConfig, downstream_stage
from fuse_examples.imaging.oai_example.stages.study.grid import LOGS, RUNS, Cell
from fuse_examples.imaging.oai_example.stages.study.opening import Study
from fuse_examples.imaging.oai_example.training.checkpoint_writer import BEST, LAST
from fuse_examples.imaging.oai_example.training.interruption import Interruption
from fuse_examples.imaging.oai_example.training.safe_files import held


def cell_config(study: Study, cell: Cell) -> DownstreamConfig:
    """The configuration of a cell's run. Every cell has the same steps, validations and schedule, whatever its budget."""
    base, config = study.base, study.config
    n_epochs = config.steps // config.validate_every_n_steps
    warmup = base.warmup_epochs / base.n_epochs * n_epochs
    settings = {
        **base.dump(),
        "experiment": cell.name,
        "results_dir": str(study.folder / RUNS),
        "overwrite": False,
        "resume_training_from": "auto",
        "seed": cell.seed,
        "csv_path": str(study.table(cell.budget, cell.seed)),
        "train_folds": ["train"],
        "val_folds": ["val"],
        "test_folds": ["test"],
        "learning_rate": cell.learning_rate,
        "n_epochs": n_epochs,
        "batches_per_epoch": config.validate_every_n_steps * base.accumulate_grad_batches,
        "validate_every_n_epochs": 1,
        "warmup_epochs": max(1, round(warmup)) if warmup else 0,
        **config.initialisations[cell.initialisation],
    }
    settings["store"] = {**settings["store"], "path": str(base.store.path or config.results_dir / ".store")}
    return type(base).model_validate(settings)


def do_cell(study: Study, cell: Cell) -> None:
    """Train and, where it belongs to the grid, test a cell; what is done already stays. Raises what the stage raises."""
    with Interruption() as interruption, held(study.folder / LOGS / f"{cell.name}.lock"):
        if is_finished(study.folder, cell):
            return
        stage, config = downstream_stage(study.config.stage), cell_config(study, cell)
        done = read_done(study.folder, cell)
        if "trained" not in done:
            began = time.perf_counter()
            stage.train(config, interruption, False)
            done = {**done, "trained": round(time.perf_counter() - began, 1)}
            note_done(study.folder, cell, done)
        if cell.tested:
            began = time.perf_counter()
            stage.evaluate(_tested(config, run_folder(study.folder, cell)))
            note_done(study.folder, cell, {**done, "tested": round(time.perf_counter() - began, 1)})


def _tested(config: DownstreamConfig, folder: Path) -> DownstreamConfig:
    best, last = (folder / "checkpoints" / name for name in (BEST, LAST))
    tested = str(best if best.exists() else last)
    nothing = {"dino_weights": None, "suprem_weights": None, "resume_training_from": None}
    return type(config).model_validate({**config.dump(), **nothing, "test_ckpt": tested})
