"""Rules over several keys of pre-training."""

from collections.abc import Iterator

from fuse_examples.imaging.oai_example.configuration.draft import Draft
from fuse_examples.imaging.oai_example.configuration.origin import Problem


def enough_views(draft: Draft) -> Iterator[Problem]:
    """The loss compares each view of the student with each other view of the teacher: one view alone has nothing to be compared with."""
    if draft["crops.n_global"] + draft["crops.n_local"] < 2:
        yield draft.problem(
            "crops.n_global is 1 and crops.n_local is 0, but DINO compares views with each other; ask for two or more",
            "crops.n_global",
            "crops.n_local",
        )


def learning_rate_falls(draft: Draft) -> Iterator[Problem]:
    """learning_rate is the highest value of its schedule."""
    highest, end = draft["learning_rate"], draft["learning_rate_end"]
    if highest != "auto" and end > highest:
        yield draft.problem(f"learning_rate_end {end} is above learning_rate {highest}", "learning_rate", "learning_rate_end")


def momentum_rises(draft: Draft) -> Iterator[Problem]:
    """The teacher settles down as training goes on, and not the other way round."""
    start, end = draft["momentum_start"], draft["momentum_end"]
    if start != "auto" and start > end:
        yield draft.problem(f"momentum_start {start} is above momentum_end {end}", "momentum_start", "momentum_end")


def probes_need_both_folds(draft: Draft) -> Iterator[Problem]:
    """A probe learns from training cases and is scored on others."""
    if draft["probe_targets"] is None:
        return
    testing = draft["test_ckpt"] is not None
    if testing and not draft["train_folds"]:
        yield draft.problem("probe_targets is set, and a probe learns from train_folds, which is empty; name them", "train_folds")
    if not testing and not draft["val_folds"]:
        yield draft.problem("probe_targets is set, and probes are scored on val_folds, which is empty; name at least one fold", "val_folds")


def masks_for_masked_objectives(draft: Draft) -> Iterator[Problem]:
    """Masked objectives learn from masked views."""
    on = [key for key in ("masking.patch_weight", "masking.reconstruction_weight") if draft[key] > 0]
    if on and draft["masking.share_of_views"] == 0:
        yield draft.problem(
            f"masking.share_of_views is 0, so no view is masked and {on[0]} has nothing to weigh; give a share such as 0.5, or set "
            "the weight to 0",
            "masking.share_of_views",
            *on,
        )
