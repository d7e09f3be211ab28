"""Rules over several keys of classification."""

from collections.abc import Iterator

from fuse_examples.imaging.oai_example.configuration.draft import Draft
from fuse_examples.imaging.oai_example.configuration.origin import Problem
from fuse_examples.imaging.oai_example.configuration.sides import TARGET_WORDS, names_a_side
from fuse_examples.imaging.oai_example.configuration.wording import did_you_mean, listed

COLUMNS_WITH_A_MEANING = ("PatientID", "path", "fold")


def targets_are_columns_of_their_own(draft: Draft) -> Iterator[Problem]:
    """A target is none of the columns that say which case it is."""
    for target in draft["cls_targets"]:
        if target in COLUMNS_WITH_A_MEANING:
            yield draft.problem(
                f"cls_targets names '{target}', a column that says which case it is; name a column to predict", "cls_targets"
            )


def types_belong_to_targets(draft: Draft) -> Iterator[Problem]:
    """target_types speaks of columns in cls_targets only."""
    targets = draft["cls_targets"]
    for target in draft["target_types"] or {}:
        if target not in targets:
            yield draft.problem(
                f"target_types names '{target}', which is not among cls_targets{did_you_mean(target, targets)}", "target_types"
            )


def positive_classes_belong_to_targets(draft: Draft) -> Iterator[Problem]:
    """positive_class speaks of columns in cls_targets only."""
    targets = draft["cls_targets"]
    for target in draft["positive_class"] or {}:
        if target not in targets:
            yield draft.problem(
                f"positive_class names '{target}', which is not among cls_targets{did_you_mean(target, targets)}", "positive_class"
            )
        elif _type(draft, target) != "categorical":
            yield draft.problem(
                f"positive_class names '{target}', which target_types says is {_type(draft, target)}; only categorical targets have one",
                "positive_class",
                "target_types",
            )


def covariates_are_no_targets(draft: Draft) -> Iterator[Problem]:
    """A covariate is a column of its own: a target would tell the answer, an identifier the case."""
    for name in draft["covariates"] or {}:
        if name in draft["cls_targets"]:
            yield draft.problem(f"covariates names '{name}', which is to be predicted", "covariates", "cls_targets")
        elif name in COLUMNS_WITH_A_MEANING:
            yield draft.problem(f"covariates names '{name}', a column that says which case it is", "covariates")


def sampling_is_by_a_target_with_classes(draft: Draft) -> Iterator[Problem]:
    """sample_by is a target, and not a number."""
    target, targets = draft["sample_by"], draft["cls_targets"]
    if target is not None and target not in targets:
        yield draft.problem(f"sample_by is '{target}', which is not among cls_targets{did_you_mean(target, targets)}", "sample_by")
    elif target is not None and _type(draft, target) == "continuous":
        yield draft.problem(f"sample_by is '{target}', a continuous target, which has no classes to draw equally often", "sample_by")


def losses_of_classes_need_classes(draft: Draft) -> Iterator[Problem]:
    """focal_gamma and label_smoothing do nothing without a categorical target."""
    if any(_type(draft, target) == "categorical" for target in draft["cls_targets"]):
        return
    for key in ("focal_gamma", "label_smoothing"):
        if draft[key]:
            yield draft.problem(f"{key} is set, but no target is categorical; set it to 0", key, "target_types")


def _type(draft: Draft, target: str) -> str:
    kind: str = (draft["target_types"] or {}).get(target, "categorical")
    return kind


def no_flips_where_the_side_is_the_target(draft: Draft) -> Iterator[Problem]:
    """A mirrored left knee is a right knee: where the side is what is predicted, left-right flips teach the wrong answer."""
    sided = [f"'{target}'" for target in draft["cls_targets"] if names_a_side(target, TARGET_WORDS)]
    if sided and "left_right" in draft["augmentation.flip_axes"]:
        yield draft.problem(
            f"augmentation.flip_axes has left_right, but the name of {listed(sided)} in cls_targets says a side, which such a flip "
            "changes; leave left_right out",
            "augmentation.flip_axes",
        )
