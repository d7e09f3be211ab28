"""A run and its folder: what it may write where, and what it must not touch."""

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fuse_examples.imaging.oai_example.configuration.yaml_source import write_text as yaml_text
from fuse_examples.imaging.oai_example.errors import UserError
from fuse_examples.imaging.oai_example.training.environment import describe_environment
from fuse_examples.imaging.oai_example.training.run_log import logged_to, not_logged
from fuse_examples.imaging.oai_example.training.safe_files import TEMPORARY, write_json, write_text

log = logging.getLogger(__name__)

TEST_FILES = (
    "config.yaml", "environment.json", "log.txt", "*.json", "*.csv", "*.png", "*.html", "segmentations/*.nii.gz",
    "explanations/*.nii.gz", "events.out.tfevents.*",
)  # fmt: skip
TRAINING_FILES = (
    "config.yaml", "environment.json", "log.txt", "val_metrics.json", "load_report.json", "bad_cases.csv", "probes.csv",
    "history.csv", "backbone.safetensors", "events.out.tfevents.*", "projector_config.pbtxt", "projector/*",
    "checkpoints/last.ckpt", "checkpoints/best.ckpt", f"checkpoints/.*{TEMPORARY}", f".*{TEMPORARY}",
)  # fmt: skip
"""What runs write, as patterns in the run's folder and in its `test/`; `overwrite` removes these and nothing else."""
_OF_A_BROKEN_START = (
    "events.out.tfevents.*", "val_metrics.json", "bad_cases.csv", "history.csv", "probes.csv", "projector_config.pbtxt", "projector/*",
)  # fmt: skip


class Run:
    """The folder `<results_dir>/<experiment>/` in the hands of one run. Use `Run.for_training` or `Run.for_testing`.

    Making the object only checks, so that a configuration can be tried; opening it (`with run.opened(...)`) clears what is to be
    overwritten, writes `config.yaml` and `environment.json`, and sends the log to `log.txt` and standard error until it is left.

    Attributes:
        folder: the experiment's folder, also TensorBoard's.
        output: where this run writes: `folder`, or `folder/test` for a test run.
        checkpoints: `folder/checkpoints`.
    """

    def __init__(self, results_dir: Path, experiment: str, *, test: bool, resume: bool, overwrite: bool) -> None:
        _check_name(experiment)
        self.folder = results_dir / experiment
        self.checkpoints = self.folder / "checkpoints"
        self.output = self.folder / "test" if test else self.folder
        self._test, self._resume, self._overwrite = test, resume, overwrite
        if not test and not resume and not overwrite and self.has_checkpoints():
            raise UserError(
                f"{self.folder} already holds the checkpoints of a training run. Choose another experiment, go on with it "
                f"(resume_training_from={self.checkpoints / 'last.ckpt'}), test it (test_ckpt={self.checkpoints / 'best.ckpt'}), "
                "or train anew in its place (overwrite=true)."
            )
        _check_writable(self.output)

    @classmethod
    def for_training(cls, results_dir: Path, experiment: str, *, resume: bool = False, overwrite: bool = False) -> "Run":
        """Return the run that trains `experiment`.

        Args:
            results_dir: folder of all experiments.
            experiment: name of this one and of its folder.
            resume: go on with what is there.
            overwrite: replace what is there, the test results included.

        Raises:
            UserError: the experiment has checkpoints and neither `resume` nor `overwrite` is given, its name is no folder's name, or the
                folder cannot be written.
        """
        return cls(results_dir, experiment, test=False, resume=resume, overwrite=overwrite)

    @classmethod
    def for_testing(cls, results_dir: Path, experiment: str) -> "Run":
        """Return the run that tests: it writes under `test/` alone, in the place of an earlier test's results. Raises UserError."""
        return cls(results_dir, experiment, test=True, resume=False, overwrite=False)

    def has_checkpoints(self) -> bool:
        """Whether a training run has left checkpoints here."""
        return any(self.checkpoints.glob("*.ckpt"))

    @contextmanager
    def opened(self, config_dump: Mapping[str, Any], notes: Iterable[str] = ()) -> Iterator[dict[str, Any]]:
        """Clear what is to be overwritten, write `config.yaml` and `environment.json`, and log to `log.txt` until the block ends.

        Args:
            config_dump: the resolved configuration as plain values.
            notes: lines that the log begins with.

        Returns:
            A context that gives the environment as written.
        """
        environment = describe_environment(seed=config_dump.get("seed"))
        if not is_first_process():
            with not_logged():
                yield environment
            return
        self._clear()
        self.output.mkdir(parents=True, exist_ok=True)
        with logged_to(self.output / "log.txt"):
            write_text(self.output / "config.yaml", yaml_text(dict(config_dump)))
            write_json(self.output / "environment.json", environment)
            log.info("%s: %s", self.output, environment["command"])
            for note in notes:
                log.info("%s", note)
            try:
                yield environment
            except UserError as error:
                log.debug("stopped: %s", error)  # the entry script shows it; this is for the file
                raise
            except Exception as error:
                log.debug("stopped by an error", exc_info=error)
                raise

    def _clear(self) -> None:
        """Remove what this run replaces: an earlier test's results; with `overwrite` all that is ours; else a broken start's curves."""
        if self._test:
            self._remove(self.output, TEST_FILES)
        elif self._overwrite:
            self._remove(self.folder / "test", TEST_FILES)
            self._remove(self.folder, TRAINING_FILES)
        elif not self._resume:
            self._remove(self.folder, _OF_A_BROKEN_START)

    @staticmethod
    def _remove(folder: Path, patterns: tuple[str, ...]) -> None:
        for file in _matching(folder, patterns):
            file.unlink()
        for child in (*(folder / pattern for pattern in ("segmentations", "explanations", "checkpoints", "projector")), folder):
            if child.is_dir() and not child.is_symlink() and not any(child.iterdir()):
                child.rmdir()


def is_first_process() -> bool:
    """Whether this is the process of a distributed run that writes files."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def leave_to_the_first_process() -> None:
    """Where all processes of a run end for one reason: end those that the first does not wait for, so that it alone says why.

    With code 0: Lightning kills a run one of whose other processes ends with another code, and the first would not get to its own.

    Raises:
        SystemExit: in all processes but the first.
    """
    if not is_first_process():
        raise SystemExit(0)


def _matching(folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        yield from (file for file in sorted(folder.glob(pattern)) if file.is_file() or file.is_symlink())


def _check_name(experiment: str) -> None:
    if experiment != experiment.strip() or not experiment or experiment.startswith(".") or any(sign in experiment for sign in "/\\\0\n"):
        raise UserError(
            f"experiment: {experiment!r} cannot be the name of a folder in results_dir. Use letters, digits, '-', '_' and '.', not "
            "beginning with '.', and no path: results_dir says where experiments lie."
        )


def _check_writable(folder: Path) -> None:
    """Try it: permissions, quotas and read-only mounts do not show otherwise. A folder made for the trial is taken away again."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists() or parent == parent.parent)
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix=".trial"):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"results_dir: {folder} cannot be written ({there}: {reason}). Choose a folder you may write to.") from error
