"""Rules over several keys of a study of label efficiency."""

from collections.abc import Iterator

from fuse_examples.imaging.oai_example.configuration.draft import Draft
from fuse_examples.imaging.oai_example.configuration.origin import Problem
from fuse_examples.imaging.oai_example.configuration.wording import listed, shown

WEIGHTS = ("dino_weights", "suprem_weights")
OF_THE_STUDY = (
    "experiment", "results_dir", "overwrite", "test_ckpt", "resume_training_from", "seed", "cross_validation", "n_epochs",
    "batches_per_epoch", "validate_every_n_epochs", "early_stopping_patience", "learning_rate", "suprem_weights", "dino_weights",
    "freeze_backbone", "reestimate_norm_statistics",
)  # fmt: skip
"""Settings of the stage that the study sets for each cell; `overrides` may not name them."""


def steps_are_whole_validations(draft: Draft) -> Iterator[Problem]:
    """Every cell ends with a validation."""
    steps, every = draft["steps"], draft["validate_every_n_steps"]
    if steps % every:
        near = [steps // every * every, (steps // every + 1) * every]
        text = f"steps: {steps} is no multiple of validate_every_n_steps: {every}; write {listed(map(str, filter(None, near)), 'or')}"
        yield draft.problem(text, "steps", "validate_every_n_steps")


def overrides_leave_the_cells_alone(draft: Draft) -> Iterator[Problem]:
    """What differs between cells, and what makes them comparable, is the study's to set; a null takes away what the stage's file sets."""
    for key in sorted({key.split(".")[0] for key, value in draft["overrides"].items() if value is not None} & set(OF_THE_STUDY)):
        remedy = {"n_epochs": "steps", "learning_rate": "learning_rates", "seed": "seeds", "dino_weights": "initialisations"}.get(key)
        near = f"; set {remedy} of the study" if remedy else "; leave it out"
        yield Problem(draft.origin(("overrides", key)), f"overrides: {key} is set for every cell by the study{near}")


def one_file_each(draft: Draft) -> Iterator[Problem]:
    """Each initialisation names one weight file at most."""
    for name, block in draft["initialisations"].items():
        given = [key for key in WEIGHTS if (block or {}).get(key) is not None]
        if len(given) > 1:
            place = draft.origin(("initialisations", name, given[-1]))
            yield Problem(place, f"initialisations: {name} names {listed(given)}; keep one")


def the_search_is_of_the_grid(draft: Draft) -> Iterator[Problem]:
    """The learning rate is searched at one of the budgets."""
    budget = draft["search_budget"]
    if budget is not None and budget not in draft["budgets"]:
        told = f"search_budget: {shown(budget)} is not among budgets: {shown(draft['budgets'])}; choose one of them or null"
        yield draft.problem(told, "search_budget", "budgets")


def targets_are_of_classification(draft: Draft) -> Iterator[Problem]:
    """A target is a column that a classifier predicts."""
    if draft["target"] is not None and draft["stage"] != "classification":
        yield draft.problem(f"target is set, which stage: {draft['stage']} does not have; set it to null", "target", "stage")


def clearml_needs_a_project(draft: Draft) -> Iterator[Problem]:
    """clearml: true needs clearml_project_name."""
    if draft["clearml"] and draft["clearml_project_name"] is None:
        yield draft.problem("clearml is true, which needs clearml_project_name", "clearml")
