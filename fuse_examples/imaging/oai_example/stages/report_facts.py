"""What the reports of all stages say about the run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.evaluation.learning_curves import plots_of_runs
from fuse_examples.imaging.oai_example.evaluation.run_facts import FoldCounts, RunFacts
from fuse_examples.imaging.oai_example.stages.beginning import Member
from fuse_examples.imaging.oai_example.stages.opening import FOLD_COUNTS
from fuse_examples.imaging.oai_example.stages.starting_weights import KEYS, LOAD_REPORT, ORIGINS


def run_facts(
    config: StageConfig,
    notes: Sequence[str],
    environment: Mapping[str, Any],
    members: Sequence[Member[Any]] = (),
    runs: Sequence[Path] = (),
) -> RunFacts:
    """Configuration, checkpoints, command and versions of a test run, and what the training runs behind it have left.

    Args:
        config: of the test.
        notes: lines for the reader.
        environment: of the test.
        members: the tested checkpoints.
        runs: folders of the training runs; by default those that the checkpoints lie in.
    """
    git = environment["git"]
    versions = {"python": environment["python"], **environment["versions"], "device": ", ".join(environment["device"]["names"])}
    if git:
        versions["commit"] = git["commit"] + (f" with {git['changed_files']} changed files" if git["changed_files"] else "")
    return RunFacts(
        experiment=config.experiment,
        command=environment["command"],
        started=environment["started"].replace("T", " ").replace("+00:00", " UTC"),
        checkpoint=", ".join(map(str, config.checkpoints)),
        csv_path=str(config.csv_path),
        test_folds=config.test_folds,
        training=_training(members[0]) if members else {},
        learnt_from=_learnt_from(members),
        seed=config.seed,
        versions={name: value for name, value in versions.items() if value},
        configuration=config.as_yaml(),
        notes=notes,
        curves=plots_of_runs([*runs] or [member.path.parent.parent for member in members]),
    )


def _training(member: Member[Any]) -> dict[str, str]:
    """What a reader must know of the run that wrote a checkpoint."""
    project, saved = member.project, member.project["config"]
    options = ", ".join(f"{name} {value}" for name, value in project["backbone_options"].items())
    started_from = ", ".join(f"{key} {saved[key]}" for key in KEYS if saved.get(key)) or "random numbers"
    sources = "; ".join(f"{entry['source']} ({entry['licence']})" for entry in project.get(ORIGINS, []) if "source" in entry)
    return {
        "Network": f"{project['backbone']} ({options})",
        "Started from": started_from + (f"; {sources}" if sources else ""),
        "Loaded of it": _loaded(member.path.parent.parent / LOAD_REPORT),
        "Trained for": f"{saved['n_epochs']} epochs, seed {saved['seed']}; the checkpoint is of epoch {member.epoch}",
    }


def _loaded(path: Path) -> str:
    """The verdict on the weights that a run started from, in a line; "" where its folder has none."""
    if not path.is_file():
        return ""
    try:
        report = json.loads(path.read_text())
        parts = [
            f"{half} {report[half]['loaded']} of {report[half]['total']} tensors"
            for half in ("encoder", "decoder")
            if report[half]["total"]
        ]
        parts += [f"adapted {len(names)} ({how})" for how, names in report["adapted"].items()]
        return "; ".join([*parts, *(f"note: {sentence.rstrip('.')}" for sentence in report["adaptations"])])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"not known: {path} cannot be read as the verdict that training wrote"


def _learnt_from(members: Sequence[Member[Any]]) -> FoldCounts:
    """The first checkpoint's counts; of several only where they are the same."""
    counts = [member.project.get(FOLD_COUNTS, {}) for member in members]
    return counts[0] if counts and all(one == counts[0] for one in counts) else {}
