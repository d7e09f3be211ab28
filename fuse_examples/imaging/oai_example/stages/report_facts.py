"""What the reports of all stages say about the run."""

from collections.abc import Mapping, Sequence
from typing import Any

from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.evaluation.run_facts import RunFacts


def run_facts(config: StageConfig, notes: Sequence[str], environment: Mapping[str, Any]) -> RunFacts:
    """Configuration, checkpoint, command and versions of a test run."""
    git = environment["git"]
    versions = {"python": environment["python"], **environment["versions"], "device": ", ".join(environment["device"]["names"])}
    if git:
        versions["commit"] = git["commit"] + (f" with {git['changed_files']} changed files" if git["changed_files"] else "")
    return RunFacts(
        experiment=config.experiment,
        command=environment["command"],
        checkpoint=", ".join(map(str, config.checkpoints)),
        csv_path=str(config.csv_path),
        test_folds=config.test_folds,
        versions={name: value for name, value in versions.items() if value},
        configuration=config.as_yaml(),
        notes=notes,
    )
