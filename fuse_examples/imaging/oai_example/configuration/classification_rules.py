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


def positive_classes_belong_to_targets(draft: Draft) -> Iterator[Problem]:
    """positive_class speaks of columns in cls_targets only."""
    targets = draft["cls_targets"]
    for target in draft["positive_class"] or {}:
        if target not in targets:
            yield draft.problem(
                f"positive_class names '{target}', which is not among cls_targets{did_you_mean(target, targets)}", "positive_class"
            )


def no_flips_where_the_side_is_the_target(draft: Draft) -> Iterator[Problem]:
    """A mirrored left knee is a right knee: where the side is what is predicted, left-right flips teach the wrong answer."""
    sided = [f"'{target}'" for target in draft["cls_targets"] if names_a_side(target, TARGET_WORDS)]
    if sided and "left_right" in draft["augmentation.flip_axes"]:
        yield draft.problem(
            f"augmentation.flip_axes has left_right, but the name of {listed(sided)} in cls_targets says a side, which such a flip "
            "changes; leave left_right out",
            "augmentation.flip_axes",
        )
