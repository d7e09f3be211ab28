"""The settings of the study of label efficiency: whether pre-training helps, and from how many labels on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Len
from pydantic import AfterValidator, BeforeValidator, PlainSerializer

from fuse_examples.imaging.oai_example.configuration import label_efficiency_rules as rules
from fuse_examples.imaging.oai_example.configuration.kinds import (
    Count,
    Flag,
    Folder,
    FolderName,
    FrozenDict,
    InputFile,
    Positive,
    PositiveNumber,
    Text,
)
from fuse_examples.imaging.oai_example.configuration.script_config import ScriptConfig
from fuse_examples.imaging.oai_example.configuration.settings import REQUIRED, machine, run, study, training
from fuse_examples.imaging.oai_example.configuration.wording import Meaning, did_you_mean, listed, shown

OF_AN_INITIALISATION = ("dino_weights", "suprem_weights", "freeze_backbone", "reestimate_norm_statistics", "layer_decay")
"""Settings of the stage in which initialisations may differ; in all else they are alike."""


def _budget(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if whole or value == "all" or (isinstance(value, float) and 0 < value < 1):
        return value
    raise ValueError(f"must be a number of patients, a share between 0 and 1, or the word all, found {shown(value)}")


def _unique(value: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = [item for item in dict.fromkeys(value) if value.count(item) > 1]
    if twice:
        raise ValueError(f"must not name anything twice, found {shown(twice[0])} {value.count(twice[0])} times")
    return value


def _initialisations(value: Any) -> Any:
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"must be a block of 'name: {{dino_weights: FILE}}' with a line for each initialisation, found {shown(value)}")
    found = {}
    for name, block in value.items():
        if not str(name).replace("_", "").replace("-", "").isalnum():
            raise ValueError(f"the name {shown(name)} becomes part of folder names; use letters, digits, '-' and '_'")
        if not isinstance(block, Mapping | None):
            raise ValueError(f"{name} must be a block such as {{dino_weights: FILE}}, or {{}} for random numbers, found {shown(block)}")
        for key in block or {}:
            if key not in OF_AN_INITIALISATION:
                near = did_you_mean(key, OF_AN_INITIALISATION)
                raise ValueError(
                    f"{name} sets {key}, in which initialisations may not differ; they may in {listed(OF_AN_INITIALISATION)}{near}"
                )
        found[str(name)] = FrozenDict(block or {})
    return FrozenDict(found)


def _plain_block(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a block of 'key: value' lines, found {shown(value)}")
    return FrozenDict(value)


Budget = Annotated[int | float | str, BeforeValidator(_budget), Meaning("a number of patients, a share or the word all", "budgets")]
Budgets = Annotated[
    tuple[Budget, ...],
    Len(1),
    AfterValidator(_unique),
    Meaning("a list of numbers of patients, shares between 0 and 1, and the word all", ""),
]
Seeds = Annotated[tuple[Count, ...], Len(1), AfterValidator(_unique), Meaning("a list of whole numbers", "")]
LearningRates = Annotated[tuple[PositiveNumber, ...], Len(1), AfterValidator(_unique), Meaning("a list of numbers above 0", "")]
Initialisations = Annotated[
    Mapping[str, Any], BeforeValidator(_initialisations), PlainSerializer(dict), Meaning("a block of 'name: {dino_weights: FILE}'", "")
]
Overrides = Annotated[Mapping[str, Any], BeforeValidator(_plain_block), PlainSerializer(dict), Meaning("a block of 'key: value'", "")]


class LabelEfficiencyConfig(ScriptConfig):
    """Find out whether pre-training helps, and with how many labels: many ordinary runs and one answer."""

    script: ClassVar[str] = "fuse_examples/imaging/oai_example/downstream/label_efficiency.py"
    RULES: ClassVar[tuple[Any, ...]] = (
        rules.steps_are_whole_validations,
        rules.overrides_leave_the_cells_alone,
        rules.one_file_each,
        rules.the_search_is_of_the_grid,
        rules.targets_are_of_classification,
        rules.clearml_needs_a_project,
    )
    FLAGS: ClassVar[Mapping[str, str]] = {
        "--list": "Print the number, the name and the state of every run, and stop.",
        "--cell NUMBER": "Do this one run alone, as a job of a SLURM array does. Those of the search of the learning rate come first.",
    }

    experiment: FolderName = run(REQUIRED, "Name of the study; also of its folder in results_dir.")
    results_dir: Folder = run(Path("results"), "Folder of all experiments. The runs lie in <results_dir>/<experiment>/runs.")

    stage: Literal["segmentation", "classification"] = study(REQUIRED, "What is fine-tuned.")
    downstream_config: InputFile = study(REQUIRED, "YAML file of that stage, with the table and its folds.")
    overrides: Overrides = study({}, "Settings of the stage that are laid over its file for all runs, such as {width: 8}.")
    initialisations: Initialisations = study(
        REQUIRED,
        "What runs start from, by name: {} for random numbers, or dino_weights or suprem_weights with a file; with freeze_backbone: true "
        "the backbone stays as it is, and layer_decay below 1 changes it less. The first is what the others are compared with.",
    )
    target: Text | None = study(None, "Column of cls_targets whose score is compared. null: the first.")
    budgets: Budgets = study(
        (4, 16, "all"),
        "Labelled patients to train with: numbers, shares of those in train_folds, and all. As many are validated on, at most those of "
        "val_folds. A larger budget holds the smaller ones of the same seed.",
    )
    seeds: Seeds = study((0, 1, 2), "Seeds of the runs, each of which also draws the patients of every budget.")
    n_bootstrap: Positive = study(2000, "Resamplings of seeds and test patients for the 95 % confidence intervals.")

    steps: Positive = training(600, "Optimiser steps of every run, whatever its budget.")
    validate_every_n_steps: Positive = training(60, "Validate after every so many steps; the best of these states is tested.")
    learning_rates: LearningRates = training(
        (3e-4, 1e-3, 3e-3),
        "Learning rates that are tried for each initialisation; the best on the validation patients is used for all its runs.",
    )
    search_budget: Budget | None = training(
        None, "Budget that they are tried at, with the first of seeds. null: the middle one of budgets."
    )

    jobs: Positive = machine(1, "Runs at a time. The processor's cores are shared out among them.")
    clearml: Flag = machine(False, "Whether to report the table to ClearML as well as to TensorBoard.")
    clearml_project_name: Text | None = machine(None, "ClearML project; needed with clearml: true.")
