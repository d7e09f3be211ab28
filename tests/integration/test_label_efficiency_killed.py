"""A study that is killed with SIGKILL again and again, and started again, ends with the table of one that nothing stopped."""

import multiprocessing
import signal
from pathlib import Path

import killed_study
import pytest
import small_stages
import torch
from test_label_efficiency import untimed

from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint

# Children are forked from a server that has imported torch and Lightning once.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["killed_study"])
# In the first run's training, in a second's, before a test's files, in between: each start goes on where the one before was killed.
PLACES = (("file", 0), ("batch", 3), ("file", 4), ("batch", 1), ("file", 9), ("batch", 8), ("file", 16), ("file", 2), ("batch", 5))

pytestmark = pytest.mark.usefixtures("fork_server_finds_modules")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder beside scans of 18 patients and a backbone pre-trained on the training fold."""
    folder = tmp_path_factory.mktemp("study")
    table = small_stages.write_cases(folder / "scans", 6)
    small_stages.write_yaml("segmentation", table, folder / "results")
    small_stages.run("dino", table, folder / "results")
    return folder / "results"


def study(results: Path, experiment: str, place: tuple[str, int] | None = None) -> int | None:
    """Exit code of a study that kills itself at a place, where it comes to it."""
    errors = results.parent / f"{experiment}.txt"
    process = FORK.Process(target=killed_study.be_study, args=(results, experiment, place, errors))
    process.start()
    process.join(300)
    if process.exitcode is None:
        process.kill()
    assert process.exitcode in (0, -signal.SIGKILL), errors.read_text()
    return process.exitcode


@pytest.mark.slow
def test_killed_again_and_again_it_gives_the_same_table(results: Path) -> None:
    assert [study(results, "killed", place) for place in PLACES] == [-signal.SIGKILL] * len(PLACES)
    assert [study(results, name) for name in ("killed", "whole")] == [0, 0]
    killed, whole = results / "killed", results / "whole"
    assert {path.name for path in (killed / "runs").iterdir()} == {path.name for path in (whole / "runs").iterdir()}
    (rows, (head, *cells)), (rows_of_whole, (head_of_whole, *cells_of_whole)) = untimed(killed), untimed(whole)
    assert (rows, cells) == (rows_of_whole, cells_of_whole)
    assert head == {**head_of_whole, "name": "killed"}
    for run in (whole / "runs").iterdir():  # scores of such short runs would hardly tell
        files = (folder / "runs" / run.name / "checkpoints" / "last.ckpt" for folder in (killed, whole))
        ours, theirs = (read_checkpoint(file, "test")["state_dict"] for file in files)
        assert [name for name, tensor in theirs.items() if not torch.equal(tensor, ours[name])] == []
