"""How a study begins, or goes on: its configuration, its patients and its weights are looked at before anything is trained."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.configuration.label_efficiency_config import LabelEfficiencyConfig
from fuse_examples.imaging.oai_example.configuration.label_efficiency_rules import OF_THE_STUDY
from fuse_examples.imaging.oai_example.configuration.settings import REQUIRED, settings_of
from fuse_examples.imaging.oai_example.configuration.wording import shown
from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.cross_folds import table_text
from fuse_examples.imaging.oai_example.data.label_budgets import Budget
from fuse_examples.imaging.oai_example.data.splits import Splits, split_cases
from fuse_examples.imaging.oai_example.errors import ConfigError, DataError
from fuse_examples.imaging.oai_example.stages.study.downstream import (
    DownstreamConfig,
    compared_target,
    read_all_cases,
    read_downstream_config,
    same_in_all_cells,
)
from fuse_examples.imaging.oai_example.stages.study.grid import Grid, grid_of, study_folder
from fuse_examples.imaging.oai_example.stages.study.initial_weights import look_at_initialisations
from fuse_examples.imaging.oai_example.stages.study.subsets import Subset, draw_subsets
from fuse_examples.imaging.oai_example.training.safe_files import TEMPORARY, held, write_text

SETTINGS, DOWNSTREAM, PROTOCOL, TABLES, LOCK = "study.yaml", "downstream.yaml", "protocol.json", "subsets", ".lock"
OF_THE_MACHINE = (
    "n_workers",
    "store",
    "log_images_every_n_epochs",
    "save_every_n_steps",
    "clearml",
    "clearml_project_name",
    "clearml_upload_images",
)
"""Settings of the stage that change no result: they may change while a study goes on."""
_FOLDS = ("train", "val", "test")
_NEEDED = ("search_budget", "search_seed", "initialisations")  # of a protocol that was written whole
_NAMES = {
    "cases": "csv_path: the cases or their values (by checksum)",
    "search_seed": "seeds: that of the search of the learning rate, which must stay among them",
    "warmup": "warmup_epochs by n_epochs",
}


@dataclass(frozen=True)
class Study:
    """A study that can be worked on.

    Attributes:
        config: its configuration.
        base: that of its runs, but for what each has of its own.
        folder: where everything lies.
        grid: its cells.
        splits: the cases of the three folds.
        subsets: by budget and seed the patients of a cell.
        target: the column that is compared; None for a segmenter.
        protocol: what may not change while it goes on; also what its results are only comparable with.
        notes: lines that its reader should know.
    """

    config: LabelEfficiencyConfig
    base: DownstreamConfig
    folder: Path
    grid: Grid
    splits: Splits
    subsets: Mapping[tuple[Budget, int], Subset]
    target: str | None
    protocol: Mapping[str, Any]
    notes: tuple[str, ...]

    def table(self, budget: Budget, seed: int) -> Path:
        """The table of a budget and a seed."""
        return self.folder / TABLES / f"{self.subsets[budget, seed].label}_seed{seed}.csv"

    def write(self) -> None:
        """Leave the settings and the tables in the study's folder. Processes that begin at once write the same, one after the other."""
        settings = self.config.model_copy(update={"downstream_config": self.folder / DOWNSTREAM, "overrides": {}})
        # The protocol first: a folder that has it is this study's, whatever else a kill has kept from being written.
        files = {self.folder / PROTOCOL: json.dumps(self.protocol, indent=2) + "\n"}
        files |= {self.table(budget, seed): _table(self, subset) for (budget, seed), subset in self.subsets.items()}
        files |= {self.folder / DOWNSTREAM: self.base.as_yaml(), self.folder / SETTINGS: settings.as_yaml()}
        with held(self.folder / LOCK):
            for path, text in files.items():
                if not path.is_file() or path.read_text() != text:
                    write_text(path, text)


def look_at_study(config: LabelEfficiencyConfig) -> Study:
    """Read and check everything that a study needs; write nothing.

    Raises:
        UserError: mistakes in the settings or the table; a test patient that is trained on, or that weights have learnt from; a folder
            with a study that was begun otherwise.
    """
    base = read_downstream_config(config)
    target = compared_target(config, base)
    splits = split_cases(read_all_cases(base), base.train_folds, base.val_folds, base.test_folds, or_else="", csv_path=base.csv_path)
    base = base.model_copy(update=same_in_all_cells(base, splits.train))
    subsets = draw_subsets(config, base, splits, target)
    weights, notes = look_at_initialisations(config, base, splits)
    folder = study_folder(config)
    saved = _read_protocol(folder)
    grid = grid_of(config, saved)
    protocol = _protocol(config, base, grid, splits, target, weights)
    if saved is not None:
        protocol = _going_on(saved, protocol, folder, type(base))
    return Study(config, base, folder, grid, splits, subsets, target, protocol, notes)


def _read_protocol(folder: Path) -> dict[str, Any] | None:
    if not folder.exists():
        return None
    if not (folder / PROTOCOL).is_file():
        if any(path.name not in (LOCK, f".{PROTOCOL}{TEMPORARY}") for path in folder.iterdir()):
            raise ConfigError(f"experiment: {folder} exists and is no study (it has no {PROTOCOL}). Choose another experiment.")
        return None
    try:
        protocol: dict[str, Any] = json.loads((folder / PROTOCOL).read_text())
        if missing := [key for key in _NEEDED if key not in protocol]:
            raise ValueError(f"it has no {', '.join(missing)}")
    except (OSError, ValueError, TypeError) as error:
        remedy = "Put a copy of the file back, or choose another experiment."
        raise DataError(f"{folder / PROTOCOL}: cannot be read as what the study was begun with ({error}). {remedy}") from error
    return protocol


def _protocol(
    config: LabelEfficiencyConfig, base: DownstreamConfig, grid: Grid, splits: Splits, target: str | None, weights: Mapping[str, Any]
) -> dict[str, Any]:
    own = ("csv_path", *OF_THE_STUDY, *OF_THE_MACHINE)
    return {
        "stage": config.stage,
        "target": target,
        "steps": config.steps,
        "validate_every_n_steps": config.validate_every_n_steps,
        "learning_rates": list(config.learning_rates),
        "search_budget": grid.search_budget,
        "search_seed": grid.search_seed,
        "warmup": base.warmup_epochs / base.n_epochs,
        "downstream": {key: value for key, value in base.dump().items() if key not in own},
        "cases": _digest(splits),
        "initialisations": dict(weights),
    }


def _digest(splits: Splits) -> str:
    """Of who stands in which fold with which values; files may be moved."""
    rows = [
        [fold, case.patient, case.name, *case.targets.items(), *case.extra.items()] for fold in _FOLDS for case in getattr(splits, fold)
    ]
    return hashlib.sha256(json.dumps(sorted(rows, key=str)).encode()).hexdigest()[:16]


def _going_on(saved: Mapping[str, Any], now: Mapping[str, Any], folder: Path, schema: type[DownstreamConfig]) -> dict[str, Any]:
    """Hold a study that was begun against its settings now. Initialisations may be added, as budgets and seeds may.

    A setting that the stage did not have when the study was begun had what is now its default.
    """
    defaults = {f"downstream.{key}": one.default for key, one in settings_of(schema).items() if one.default is not REQUIRED}
    before, after = defaults | _flat(saved), _flat(now)
    before = {key: value for key, value in before.items() if key not in defaults or key in after}
    added = {name: entry for name, entry in saved["initialisations"].items() if name not in now["initialisations"]}
    differing = [
        key
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
        and not (key.startswith("initialisations.") and (key.split(".")[1] not in saved["initialisations"] or key.split(".")[1] in added))
    ]
    if differing:
        begun = f"with which the study in {folder} was begun"
        told = [f"{_key(key)}: {shown(after.get(key))} differs from {shown(before.get(key))}, {begun}" for key in differing]
        remedy = "Choose another experiment for another study. Budgets, seeds and initialisations may be added to this one."
        raise ConfigError([*told, remedy])
    return {**now, "initialisations": {**added, **now["initialisations"]}}


def _key(key: str) -> str:
    return _NAMES.get(key) or key.removeprefix("downstream.").replace(".sha256", " (checksum of the file)")


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return found


def _table(study: Study, subset: Subset) -> str:
    cases: dict[str, tuple[Case, ...]] = {"train": subset.train, "val": subset.val, "test": study.splits.test}
    folds = {case.name: fold for fold, members in cases.items() for case in members}
    return table_text([case for members in cases.values() for case in members], folds, study.base.channels or ())
