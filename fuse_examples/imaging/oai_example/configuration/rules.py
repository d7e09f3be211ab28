"""Rules over several keys. They read the values as written, so that they speak beside the mistakes of single keys.

A rule is a generator of problems. Asking the draft for a value that is itself a mistake ends the rule: it would have nothing to add.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from fuse_examples.imaging.oai_example.configuration.draft import Draft
from fuse_examples.imaging.oai_example.configuration.experiment_files import checkpoint_files
from fuse_examples.imaging.oai_example.configuration.fold_names import fold_name
from fuse_examples.imaging.oai_example.configuration.origin import Problem
from fuse_examples.imaging.oai_example.configuration.settings import settings_of
from fuse_examples.imaging.oai_example.configuration.wording import did_you_mean, listed
from fuse_examples.imaging.oai_example.errors import unreadable

Rule = Callable[[Draft], Iterator[Problem]]
STARTING_KEYS = ("suprem_weights", "dino_weights")
WEIGHT_KEYS = (*STARTING_KEYS, "resume_training_from", "test_ckpt")


def files_exist(draft: Draft) -> Iterator[Problem]:
    """Every file that is to be read is there."""
    goes_on = _goes_on(draft)
    for key, setting in settings_of(draft.schema).items():
        if not setting.is_input_file or not draft.is_usable(key) or draft[key] is None or draft[key] in setting.choices:
            continue
        if goes_on and key in STARTING_KEYS:
            continue
        for name in draft[key] if isinstance(draft[key], list) else [draft[key]]:
            path = Path(name).expanduser()
            try:
                missing = "" if path.is_file() else _what_is_missing(path)
            except OSError as error:  # a folder on the way that may not be entered
                missing = f"'{path}' {unreadable(error)}"
            if missing:
                yield draft.problem(f"{key}: {missing}", key)


def _goes_on(draft: Draft) -> bool:
    """Whether `auto` finds a run to go on with, which needs nothing of what it once started from."""
    keys, known = ("resume_training_from", "results_dir", "experiment"), settings_of(draft.schema)
    if not all(key in known and draft.is_usable(key) for key in keys) or draft["resume_training_from"] != "auto":
        return False
    return bool(checkpoint_files(Path(draft["results_dir"]).expanduser(), str(draft["experiment"])))


def _what_is_missing(path: Path) -> str:
    if path.is_dir():
        return f"must be a file, found the folder '{path}'"
    where = "" if path.is_absolute() else f"; paths are relative to the working directory, {Path.cwd()}"
    near = "" if path.parent == Path() else f"{path.parent}/"
    if not path.parent.is_dir():
        return f"no such file: '{path}', nor a folder '{path.parent}'{where}"
    return f"no such file: '{path}'{where}{did_you_mean(path.name, [other.name for other in path.parent.iterdir()], near)}"


def one_source_of_weights(draft: Draft) -> Iterator[Problem]:
    """At most one of the four keys that take a weight file or checkpoint; `auto` may stand beside what a new run starts from."""
    given = [key for key in WEIGHT_KEYS if draft.is_usable(key) and draft[key] is not None]
    if "resume_training_from" in given and draft["resume_training_from"] == "auto" and "test_ckpt" not in given:
        given.remove("resume_training_from")
    if len(given) > 1:
        yield draft.problem(
            f"{listed(given)} are set together{_lines(draft, given)}; set at most one of {listed(WEIGHT_KEYS)}, the others to null", *given
        )


def auto_or_overwrite(draft: Draft) -> Iterator[Problem]:
    """A run cannot both go on and be replaced."""
    if draft["resume_training_from"] == "auto" and draft["overwrite"]:
        text = "resume_training_from is auto and overwrite is true: one goes on with what is there, the other deletes it; set one of them"
        yield draft.problem(text, "resume_training_from", "overwrite")


def one_checkpoint_is_tested(draft: Draft) -> Iterator[Problem]:
    """Features of different networks have nothing in common that could be averaged."""
    if isinstance(draft["test_ckpt"], list):
        yield draft.problem("test_ckpt is a list; pre-training is tested one checkpoint at a time", "test_ckpt")


def folds_of_the_run(draft: Draft) -> Iterator[Problem]:
    """The folds that the run uses are named, and no fold is both trained and validated on."""
    if draft["test_ckpt"] is not None:
        if not draft["test_folds"]:
            yield draft.problem("test_folds is empty; name the folds to evaluate with test_ckpt", "test_folds")
        return
    if not draft["train_folds"]:
        yield draft.problem("train_folds is empty; name the folds to train on, or set test_ckpt to evaluate", "train_folds")
    shared = {fold_name(fold) for fold in draft["train_folds"]} & {fold_name(fold) for fold in draft["val_folds"]}
    if shared and not draft["allow_patient_overlap"]:
        names = listed(f"'{fold}'" for fold in sorted(shared))
        yield draft.problem(
            f"train_folds and val_folds share {names}; a case may stand in one of them",
            "train_folds",
            "val_folds",
        )


def validation_folds_are_named(draft: Draft) -> Iterator[Problem]:
    """Where the best epoch is chosen by a validation score there are validation folds."""
    if draft["test_ckpt"] is None and draft["cross_validation"] is None and not draft["val_folds"]:
        yield draft.problem("val_folds is empty; the best epoch is chosen by validation, so name at least one fold", "val_folds")


def cross_validation_trains(draft: Draft) -> Iterator[Problem]:
    """cross_validation trains and tests by itself, and goes on by itself."""
    for key in ("test_ckpt", "resume_training_from"):
        if draft["cross_validation"] is not None and draft[key] is not None:
            yield draft.problem(
                f"cross_validation and {key} are both set; set cross_validation to null to use a checkpoint, or {key} to null: the same "
                "command goes on where a cross-validation stopped",
                "cross_validation",
                key,
            )


def window_and_its_method(draft: Draft) -> Iterator[Problem]:
    """intensity.window and intensity.percentiles belong to the methods of their names."""
    method = draft["intensity.method"]
    if method == "window" and draft["intensity.window"] is None:
        yield draft.problem("intensity.method is 'window', which needs intensity.window: [low, high]", "intensity.method")
    if method != "window" and draft["intensity.window"] is not None:
        yield draft.problem("intensity.window is set, which needs intensity.method: window", "intensity.window")
    if method not in (None, "percentile") and draft["intensity.percentiles"] is not None:
        yield draft.problem(f"intensity.percentiles is set, which intensity.method '{method}' does not use", "intensity.percentiles")


def options_without_a_key_of_their_own(draft: Draft) -> Iterator[Problem]:
    """backbone_options repeats no key that a stage has or decides itself."""
    for option in draft["backbone_options"] or {}:
        if option in ("width", "norm_statistics", "pooling"):
            yield draft.problem(f"backbone_options names '{option}', which has a key of its own; set {option} instead", "backbone_options")
        elif option in ("in_channels", "with_decoder"):
            yield draft.problem(f"backbone_options names '{option}', which the stage decides; leave it out", "backbone_options")


def a_backbone_thaws_before_the_end(draft: Draft) -> Iterator[Problem]:
    """freeze_backbone as a number of epochs leaves some of them."""
    epochs = draft["freeze_backbone"]
    if not isinstance(epochs, bool) and draft["test_ckpt"] is None and epochs >= draft["n_epochs"]:
        text = f"freeze_backbone is {epochs} epochs of n_epochs: {draft['n_epochs']}; write true to freeze it for good, or fewer epochs"
        yield draft.problem(text, "freeze_backbone", "n_epochs")


def statistics_of_a_frozen_backbone(draft: Draft) -> Iterator[Problem]:
    """A backbone that learns moves its own statistics."""
    if draft["reestimate_norm_statistics"] == "always" and draft["freeze_backbone"] is False:
        text = "reestimate_norm_statistics is 'always', which needs freeze_backbone: a backbone that learns moves its own statistics"
        yield draft.problem(text, "reestimate_norm_statistics")


def synchronised_statistics_are_of_several(draft: Draft) -> Iterator[Problem]:
    """sync_batchnorm needs several devices, and statistics that are of the batch."""
    if not draft["sync_batchnorm"]:
        return
    if draft["devices"] == 1 and draft["num_nodes"] == 1:
        yield draft.problem("sync_batchnorm is true, which needs several devices; set devices or num_nodes", "sync_batchnorm")
    if draft["norm_statistics"] in ("batch", "instance"):
        text = f"sync_batchnorm is true, which norm_statistics '{draft['norm_statistics']}' does not allow; set it to running"
        yield draft.problem(text, "sync_batchnorm", "norm_statistics")


def clearml_needs_a_project(draft: Draft) -> Iterator[Problem]:
    """clearml: true needs clearml_project_name."""
    if draft["clearml"] and draft["clearml_project_name"] is None:
        yield draft.problem("clearml is true, which needs clearml_project_name", "clearml")


def _lines(draft: Draft, keys: list[str]) -> str:
    lines = [str(draft.source(key).position) for key in keys if draft.source(key).kind == "file"]
    return f" (lines {listed(lines)})" if len(lines) > 1 else ""
