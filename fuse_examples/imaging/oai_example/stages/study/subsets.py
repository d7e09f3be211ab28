"""The patients of each cell of a study: as many as its budget to learn from, as many at most to validate on."""

from collections.abc import Sequence
from dataclasses import dataclass

from fuse_examples.imaging.oai_example.configuration.label_efficiency_config import LabelEfficiencyConfig
from fuse_examples.imaging.oai_example.configuration.wording import shown
from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.label_budgets import Budget, budget_label, n_patients_of, patient_order, strata_of_patients
from fuse_examples.imaging.oai_example.data.splits import Splits
from fuse_examples.imaging.oai_example.errors import ConfigError, DataError
from fuse_examples.imaging.oai_example.stages.study.downstream import DownstreamConfig, check_subset, is_continuous

TRAINING, VALIDATION = 0, 1  # streams of the seed


@dataclass(frozen=True)
class Subset:
    """Whose labels a cell sees.

    Attributes:
        label: of the budget, as in names of files.
        train, val: the cases.
    """

    label: str
    train: tuple[Case, ...]
    val: tuple[Case, ...]

    @property
    def n_train(self) -> int:
        """Patients to learn from."""
        return len({case.patient for case in self.train})

    @property
    def n_val(self) -> int:
        """Patients to validate on."""
        return len({case.patient for case in self.val})


def draw_subsets(
    config: LabelEfficiencyConfig, base: DownstreamConfig, splits: Splits, target: str | None
) -> dict[tuple[Budget, int], Subset]:
    """Draw the subset of every budget and seed.

    Raises:
        ConfigError: budgets beyond the training folds, or two that come to the same number.
        DataError: a subset that cannot be learnt from, such as one without a class.
    """
    continuous = is_continuous(base, target)
    train, val = (strata_of_patients(cases, target, continuous=continuous) for cases in (splits.train, splits.val))
    numbers = _numbers(config.budgets, len(train))
    subsets: dict[tuple[Budget, int], Subset] = {}
    problems: list[str] = []
    for seed in config.seeds:
        order, val_order = patient_order(train, seed, TRAINING), patient_order(val, seed, VALIDATION)
        for budget, n_patients in numbers.items():
            chosen, chosen_val = set(order[:n_patients]), set(val_order[:n_patients])
            subset = Subset(
                budget_label(budget),
                tuple(case for case in splits.train if case.patient in chosen),
                tuple(case for case in splits.val if case.patient in chosen_val),
            )
            try:
                check_subset(base, subset.train, subset.val, splits.test)
            except DataError as error:
                problems += [f"budgets: {shown(budget)} with seed {seed}: {problem}" for problem in error.problems]
            subsets[budget, seed] = subset
    if problems:
        raise DataError([*problems, "A budget must be large enough for every class; leave the smallest out or choose other targets."])
    return subsets


def _numbers(budgets: Sequence[Budget], n_all: int) -> dict[Budget, int]:
    """Budget -> patients. Raises ConfigError."""
    numbers = {budget: n_patients_of(budget, n_all) for budget in budgets}
    problems = [
        f"budgets: {shown(budget)} are more patients than the {n_all} with labels in train_folds; write all instead"
        for budget, number in numbers.items()
        if number > n_all
    ]
    for place, budget in enumerate(budgets):
        same = [other for other in budgets[:place] if numbers[other] == numbers[budget]]
        if same:
            problems.append(f"budgets: {shown(same[0])} and {shown(budget)} are both {numbers[budget]} patients; keep one")
    if problems:
        raise ConfigError(problems)
    return numbers
