"""How every run begins: where it goes on or starts from, its folder, and what a checkpoint or weight file decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import nn

from fuse_examples.imaging.oai_example.configuration.experiment_files import checkpoint_files
from fuse_examples.imaging.oai_example.configuration.precedence import check_resume, from_checkpoint
from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.configuration.wording import shown
from fuse_examples.imaging.oai_example.errors import ConfigError, WeightsError
from fuse_examples.imaging.oai_example.stages.checkpoint_entry import check_fits, read_stage_checkpoint, saved_config
from fuse_examples.imaging.oai_example.stages.starting_weights import ORIGINS, StartingWeights, starting_weights
from fuse_examples.imaging.oai_example.training.checkpoint_writer import check_epochs, epochs_done
from fuse_examples.imaging.oai_example.training.checkpoints import PROJECT
from fuse_examples.imaging.oai_example.training.run import Run
from fuse_examples.imaging.oai_example.training.seeding import seed_run

Config = TypeVar("Config", bound=StageConfig)


@dataclass(frozen=True)
class TrainingStart(Generic[Config]):
    """Where a training run starts.

    Attributes:
        config: the configuration, with what a resumed run or a weight file decides.
        run: its folder, not yet open.
        checkpoint: content of the checkpoint it goes on from, or None.
        weights: the weight file it starts from, if any.
        notes: lines for the log.
    """

    config: Config
    run: Run
    checkpoint: Mapping[str, Any] | None
    weights: StartingWeights
    notes: tuple[str, ...]

    @property
    def seen_patients(self) -> list[str]:
        """Hashes of the patients that the weights have learnt from before this run, or before it was interrupted."""
        return list(self.checkpoint[PROJECT]["patients"]) if self.checkpoint else self.weights.patients

    @property
    def origins(self) -> list[dict[str, str]]:
        """Whose weights the network goes back to, with what is known of their licences."""
        known = self.checkpoint[PROJECT].get(ORIGINS, []) if self.checkpoint else self.weights.origins
        return [dict(entry) for entry in known]


OF_A_MEMBER = ("backbone", "width", "norm_statistics", "backbone_options", "pooling", "head")
"""What the checkpoints of a list may differ in: each is tested with its own network."""


@dataclass(frozen=True)
class Member(Generic[Config]):
    """One checkpoint that is tested.

    Attributes:
        path: the file.
        config: the configuration, with what this checkpoint decides.
        project: the project's entry of the checkpoint.
        state_dict: its weights.
        thresholds: by target, what its validation cases chose; empty where there is nothing to choose.
        epoch: the epoch after which it was written, from 1.
        key: what named the file, for messages.
    """

    path: Path
    config: Config
    project: Mapping[str, Any]
    state_dict: Mapping[str, Any]
    thresholds: Mapping[str, float]
    epoch: int | None = None
    key: str = "test_ckpt"

    def fill(self, task: nn.Module) -> None:
        """Give `task` the checkpoint's weights. Raises WeightsError for tensors that are not its own."""
        check_fits(task, self.state_dict, self.path, self.key)
        task.load_state_dict(self.state_dict)


@dataclass(frozen=True)
class TestStart(Generic[Config]):
    """What a test run tests.

    Attributes:
        config: the configuration, with what the first checkpoint decides.
        run: its folder, not yet open.
        members: the checkpoints; with several, what prediction repeats is the same in all.
        notes: lines for the log and the report.
    """

    config: Config
    run: Run
    members: tuple[Member[Config], ...]
    notes: tuple[str, ...]

    @property
    def project(self) -> Mapping[str, Any]:
        """The project's entry of the first checkpoint."""
        return self.members[0].project

    @property
    def patients(self) -> list[str]:
        """Hashes of the patients that any of them has learnt from."""
        return sorted({name for member in self.members for name in member.project["patients"]})

    @property
    def tested(self) -> str:
        """The files, for messages."""
        return ", ".join(str(member.path) for member in self.members)

    def fill(self, task: nn.Module) -> None:
        """Give `task` the first checkpoint's weights. Raises WeightsError for tensors that are not its own."""
        self.members[0].fill(task)


def begin_training(config: Config, stage: str) -> TrainingStart[Config]:
    """Look at what the run starts from, before anything is built, and seed the random numbers.

    Raises:
        UserError: the experiment exists, a file cannot be used, or a setting contradicts it.
    """
    checkpoint = None
    config, passed_over = _with_newest_checkpoint(config, stage)
    if config.resume_training_from is not None:
        checkpoint = read_stage_checkpoint(config.resume_training_from, "resume_training_from", stage)
        config = check_resume(config, saved_config(checkpoint))
        check_epochs(epochs_done(checkpoint), config.n_epochs, config.resume_training_from)  # before the run's folder is touched
    run = Run.for_training(config.results_dir, config.experiment, resume=checkpoint is not None, overwrite=config.overwrite)
    config, weights, notes = starting_weights(config)
    seed_run(config.seed)
    if checkpoint is not None:
        notes = (*notes, *passed_over, f"goes on from {config.resume_training_from}, after optimiser step {checkpoint['global_step']}")
    elif weights.key is None:
        notes = (*notes, "weights: none, the backbone starts from random numbers")
    return TrainingStart(config, run, checkpoint, weights, notes)


def _with_newest_checkpoint(config: Config, stage: str) -> tuple[Config, tuple[str, ...]]:
    """Put the experiment's newest whole checkpoint in the place of `auto`; without any the run starts as if the key were null.

    Returns:
        The configuration, and a line for each newer checkpoint that is passed over.

    Raises:
        WeightsError: there are checkpoints and none of them can be read; starting anew would lose them.
    """
    if config.resume_training_from != "auto":
        return config, ()
    found = checkpoint_files(config.results_dir, config.experiment)
    problems: list[str] = []
    for path in found:
        try:
            read_stage_checkpoint(path, "resume_training_from: auto", stage)
        except WeightsError as error:
            problems += error.problems
            continue
        update = {"resume_training_from": path, "dino_weights": None, "suprem_weights": None}
        return config.model_copy(update=update), tuple(f"passed over: {problem}" for problem in problems)
    if problems:
        raise WeightsError(problems)
    return config.model_copy(update={"resume_training_from": None}), ()


def begin_test(config: Config, stage: str, keys: Sequence[str]) -> TestStart[Config]:
    """Read the checkpoints of `test_ckpt`; `keys` of the configuration take their values.

    Raises:
        UserError: a file cannot be used, a word contradicts it, or several files differ in what prediction must repeat.
    """
    members, notes = read_members(config, stage, keys)
    run = Run.for_testing(config.results_dir, config.experiment)
    if len(members) > 1:
        notes = (*notes, f"mean of the probabilities of {len(members)} checkpoints")
    return TestStart(members[0].config, run, members, notes)


def read_members(
    config: Config, stage: str, keys: Sequence[str], key: str = "test_ckpt"
) -> tuple[tuple[Member[Config], ...], tuple[str, ...]]:
    """Read the checkpoints of `test_ckpt`, each with the configuration in which `keys` take its values.

    Returns:
        The checkpoints, and a line for each value of the configuration that the first one passes over.

    Raises:
        UserError: as `begin_test`; messages name the files by `key`.
    """
    members: list[Member[Config]] = []
    notes: tuple[str, ...] = ()
    for path in config.checkpoints:
        checkpoint = read_stage_checkpoint(path, key, stage)
        own, remarks = from_checkpoint(config, saved_config(checkpoint), keys)
        notes = notes or remarks
        epoch = checkpoint["epoch"] + 1 if "epoch" in checkpoint else None
        members.append(Member(path, own, checkpoint[PROJECT], checkpoint["state_dict"], checkpoint.get("thresholds", {}), epoch, key))
    _check_agreement(members, [name for name in keys if name not in OF_A_MEMBER])
    return tuple(members), notes


def _check_agreement(members: Sequence[Member[Any]], keys: Sequence[str]) -> None:
    """Refuse checkpoints whose probabilities are of different inputs or different classes."""
    first = members[0]
    problems = []
    for other in members[1:]:
        one, two = (_flat({**member.project["preprocessing"], **_targets(member.project)}) for member in (first, other))
        ours, theirs = (_flat({key: member.config.dump().get(key) for key in keys}) for member in (first, other))
        differing = [key for key in ours if ours[key] != theirs.get(key)] + [key for key in one if one[key] != two.get(key)]
        if differing:
            told = "; ".join(f"{key}: {shown((ours | one)[key])} and {shown((theirs | two).get(key))}" for key in dict.fromkeys(differing))
            problems.append(f"{first.key}: {first.path} and {other.path} cannot be averaged, they differ in {told}. Test them apart.")
    if problems:
        raise ConfigError(problems)


def _targets(project: Mapping[str, Any]) -> dict[str, Any]:
    """The classes that a classifier's probabilities stand for, by target."""
    told = ("type", "classes", "positive")
    return {f"classes of {one['target']}": {key: one[key] for key in told if key in one} for one in project.get("classes", [])}


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return found
