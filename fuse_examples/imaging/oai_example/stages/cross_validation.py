"""Cross-validation: every case is tested once, by a run that has neither learnt from it nor chosen its epoch by it.

Each fold is an ordinary run in the experiment's folder. It tests one fold, validates on the next and learns from the others. What is done
stays done: the same command goes on where it stopped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, TypeVar

import yaml

from fuse_examples.imaging.oai_example.configuration.fold_names import fold_name
from fuse_examples.imaging.oai_example.configuration.precedence import check_resume
from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.cross_folds import deal_folds, table_text
from fuse_examples.imaging.oai_example.errors import ConfigError, DataError
from fuse_examples.imaging.oai_example.training.interruption import Interrupted, Interruption
from fuse_examples.imaging.oai_example.training.run import Run
from fuse_examples.imaging.oai_example.training.safe_files import write_text

Config = TypeVar("Config", bound=StageConfig)
TABLE, SETTINGS, POOLED = "cases.csv", "cross_validation.yaml", "cross_validation"
FEWEST = 3


@dataclass(frozen=True)
class CrossValidated(Generic[Config]):
    """What a stage gives to be cross-validated.

    Attributes:
        read: the cases of its table.
        train: trains a run; with a true last argument it only tries it.
        evaluate: tests a run.
        pool: writes the pooled results of the folds' `test` folders into a folder.
        target: column whose classes are spread evenly over dealt folds, and whether it is continuous; None where there is none.
        fixed: settings that must be the same in all folds, found out from all cases.
    """

    read: Callable[[Config], Sequence[Case]]
    train: Callable[[Config, Interruption, bool], object]
    evaluate: Callable[[Config], None]
    pool: Callable[[Config, Sequence[Path], Path], None]
    target: Callable[[Config], tuple[str, bool] | None]
    fixed: Callable[[Config, Sequence[Case]], dict[str, Any]]


def cross_validate(
    config: Config, n_folds: int | str, stage: CrossValidated[Config], interruption: Interruption, *, check: bool = False
) -> None:
    """Train and test the run of every fold, and pool what they predict for the cases that they tested.

    Args:
        config: as loaded.
        n_folds: its `cross_validation`.
        stage: what is cross-validated.
        interruption: owner of the signals.
        check: only try the first fold.

    Raises:
        UserError: the experiment exists with other settings or other cases; a fold cannot be trained.
    """
    root = config.results_dir / config.experiment
    if not (root / SETTINGS).exists() or config.overwrite:
        Run.for_training(config.results_dir, config.experiment, overwrite=config.overwrite)  # refuses the folder of an ordinary run
    cases = _chosen(config, stage)
    folds = _folds(config, n_folds, stage, cases)
    names = sorted(set(folds.values()), key=_natural)
    text = table_text(cases, folds)
    runs = [_of_fold(config, root, names, place, stage.fixed(config, cases)) for place in range(len(names))]
    for place, name in enumerate(names):
        members = [case for case in cases if folds[case.name] == name]
        print(f"fold_{place + 1}: tests fold {name}, {len(members)} cases of {len({case.patient for case in members})} patients")
    if check:
        with TemporaryDirectory() as trial:
            first = _of_fold(config, Path(trial), names, 0, stage.fixed(config, cases))
            write_text(Path(trial) / TABLE, text)
            print(f"folds         {len(names)}, each a run like this one")
            stage.train(first, interruption, True)
        return
    _open(config, root, text)
    try:
        for run in runs:
            _train_and_test(run, stage, interruption, anew=config.overwrite)
    except Interrupted as stop:
        message = f"Stopped by {Interrupted(stop.signum).signum.name}; the same command goes on where it stopped."
        raise Interrupted(stop.signum, message) from stop
    stage.pool(config, [run.results_dir / run.experiment / "test" for run in runs], root / POOLED)


def _chosen(config: Config, stage: CrossValidated[Config]) -> list[Case]:
    wanted = {fold_name(fold) for fold in (*config.train_folds, *config.val_folds)}
    cases = [case for case in stage.read(config) if case.fold in wanted]
    if not cases:
        raise DataError(f"{config.csv_path}: has no rows of the folds {', '.join(sorted(wanted))}, which train_folds and val_folds name.")
    return cases


def _folds(config: Config, n_folds: int | str, stage: CrossValidated[Config], cases: Sequence[Case]) -> dict[str, str]:
    """Case's name -> fold."""
    if isinstance(n_folds, int):
        target, continuous = stage.target(config) or (None, False)
        return deal_folds(cases, n_folds, config.seed, target, continuous=continuous)
    folds = {case.name: case.fold for case in cases}
    found = len(set(folds.values()))
    if found < FEWEST:
        raise ConfigError(
            f"cross_validation: folds: train_folds and val_folds name {found} fold(s) of {config.csv_path}; {FEWEST} are needed, one to "
            "test, one to validate on and the others to learn from. Name more folds, or let patients be dealt out: cross_validation: 5."
        )
    return folds


def _of_fold(config: Config, root: Path, names: Sequence[str], place: int, fixed: dict[str, Any]) -> Config:
    """The configuration of the run that tests one fold; its `config.yaml` can be started by hand."""
    validation = names[(place + 1) % len(names)]
    own = {
        "experiment": f"fold_{place + 1}",
        "results_dir": str(root),
        "csv_path": str(root / TABLE),
        "train_folds": [name for name in names if name not in (names[place], validation)],
        "val_folds": [validation],
        "test_folds": [names[place]],
        "cross_validation": None,
    }
    values = {**config.dump(), **own, **fixed}
    values["store"] = {**values["store"], "path": str(config.store.path or config.results_dir / ".store")}
    return type(config).model_validate(values)


def _open(config: StageConfig, root: Path, table: str) -> None:
    """Write the settings and the table of a new cross-validation; hold an old one against them."""
    if config.overwrite or not (root / SETTINGS).exists():
        write_text(root / TABLE, table)
        write_text(root / SETTINGS, config.as_yaml())
        return
    saved = yaml.safe_load((root / SETTINGS).read_text())
    check_resume(config, saved)
    if saved["n_epochs"] != config.n_epochs:
        raise ConfigError(f"n_epochs: {config.n_epochs} differs from {saved['n_epochs']} of the folds that are trained already in {root}.")
    if (root / TABLE).read_text() != table:
        raise DataError(
            f"{config.csv_path}: the cases or their values are not those that {root} began with (its {TABLE}). "
            "Choose another experiment, or train all folds anew with overwrite=true."
        )


def _train_and_test(run: Config, stage: CrossValidated[Config], interruption: Interruption, *, anew: bool) -> None:
    folder = run.results_dir / run.experiment
    last, best = (folder / "checkpoints" / name for name in ("last.ckpt", "best.ckpt"))
    if (folder / "test" / "report.html").exists() and not anew:
        print(f"{run.experiment}: trained and tested already")
        return
    values = run.dump()
    if last.exists() and not anew:
        values |= {"resume_training_from": str(last), "dino_weights": None, "suprem_weights": None}
    stage.train(type(run).model_validate(values), interruption, False)
    tested = best if best.exists() else last
    weights = {"dino_weights": None, "suprem_weights": None, "resume_training_from": None}
    stage.evaluate(type(run).model_validate({**run.dump(), **weights, "test_ckpt": str(tested)}))


def _natural(name: str) -> tuple[float, str]:
    """Folds that are numbers in their order, then the others."""
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name
