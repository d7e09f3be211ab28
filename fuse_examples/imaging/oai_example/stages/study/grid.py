"""The cells of a study: which runs there are, what they are called, and in which order they are done."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.configuration.label_efficiency_config import LabelEfficiencyConfig
from fuse_examples.imaging.oai_example.data.label_budgets import Budget, budget_label

RUNS, LOGS, DONE = "runs", "logs", "cell.json"


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        initialisation: name of what it starts from.
        budget, seed: which patients it learns from; the seed is also the run's.
        learning_rate: None as long as the search has not found it.
        tested: whether the cell belongs to the grid; those of the search alone are never tested.
    """

    initialisation: str
    budget: Budget
    seed: int
    learning_rate: float | None
    tested: bool

    @property
    def name(self) -> str:
        """Of its run folder. The grid's cell at the budget and seed of the search is the search's run, which is then tested."""
        rate = "?" if self.learning_rate is None else f"{self.learning_rate:g}"
        return f"{self.initialisation}_{budget_label(self.budget)}_seed{self.seed}_lr{rate}"


@dataclass(frozen=True)
class Grid:
    """All cells of a study by their numbers: those of the search first, then seed by seed the budgets and, within them, initialisations.

    So a study that is cut short has whole pairs, and seeds that are added later come last.
    """

    initialisations: tuple[str, ...]
    budgets: tuple[Budget, ...]
    seeds: tuple[int, ...]
    learning_rates: tuple[float, ...]
    search_budget: Budget
    search_seed: int

    @property
    def search(self) -> tuple[Cell, ...]:
        """The cells that choose the learning rate; none where there is but one."""
        if len(self.learning_rates) == 1:
            return ()
        return tuple(
            Cell(name, self.search_budget, self.search_seed, rate, tested=False)
            for name in self.initialisations
            for rate in self.learning_rates
        )

    def cells(self, rates: Mapping[str, float]) -> tuple[Cell, ...]:
        """The cells of the answer; `rates` are those found so far, by initialisation."""
        only = self.learning_rates[0] if len(self.learning_rates) == 1 else None
        return tuple(
            Cell(name, budget, seed, rates.get(name, only), tested=True)
            for seed in self.seeds
            for budget in self.budgets
            for name in self.initialisations
        )


def grid_of(config: LabelEfficiencyConfig, saved: Mapping[str, Any] | None = None) -> Grid:
    """The grid that a configuration describes; where it leaves the search open, that of the study that was begun (`saved`) counts."""
    budget, seed = config.search_budget, config.seeds[0]
    if saved is not None:
        budget = saved["search_budget"] if budget is None and saved["search_budget"] in config.budgets else budget
        seed = saved["search_seed"] if saved["search_seed"] in config.seeds else seed
    return Grid(
        tuple(config.initialisations),
        config.budgets,
        config.seeds,
        config.learning_rates,
        config.budgets[len(config.budgets) // 2] if budget is None else budget,
        seed,
    )


def study_folder(config: LabelEfficiencyConfig) -> Path:
    """The folder of a study."""
    return config.results_dir / config.experiment
