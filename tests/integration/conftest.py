"""One data set of tiny balls and one trained segmenter for all tests of the stage."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# For the processes that tests start: threads that compete for few cores make a run ten times slower.
os.environ["OMP_NUM_THREADS"] = "1"

sys.path.append(str(Path(__file__).parents[1] / "unit" / "data"))  # series_files, the writer of DICOM series

import ball_cases
import pytest
import torch

FORMS = [("RAS", 0.0), ("PIR", 0.0), ("LAS", 0.0), ("RAS", 0.3), ("ASL", -0.4)]
"""Axis orders and tilts in which the cases are stored, one after the other."""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def fork_server_finds_modules() -> Iterator[None]:
    """The server that children are forked from is a new process, which looks for modules in its environment's path."""
    here = Path(__file__)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (here.parent, here.parents[2]))), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `cases.csv`: 6 cases of fold 0, 3 of fold 1, 3 of fold 2, in five axis orders and tilts. Not to be written to."""
    folder = tmp_path_factory.mktemp("balls")
    rows = []
    for number in range(12):
        codes, turn = FORMS[number % len(FORMS)]
        image, mask = ball_cases.save_pair(folder / "scans", f"case_{number}", number, codes, turn)
        fold = 0 if number < 6 else 1 if number < 9 else 2
        rows.append([f"P{number:02d}", image.relative_to(folder), mask.relative_to(folder), fold])
    ball_cases.write_csv(folder / "cases.csv", rows)
    return folder


@pytest.fixture(scope="session")
def trained(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML file of a trained run, beside its results folder `results`. Not to be written to, but for other experiments."""
    folder = tmp_path_factory.mktemp("trained")
    settings = {"n_epochs": 12, "batch_size": 1, "log_images_every_n_epochs": 20, "augmentation": {"flip_axes": ["left_right"]}}
    settings["mirror_in_test"] = False  # so that a test repeats validation
    yaml_path = ball_cases.write_yaml(folder / "config.yaml", balls / "cases.csv", folder / "results", settings)
    with pytest.MonkeyPatch.context() as patch:
        assert ball_cases.run_segmentation(patch, yaml_path) == 0
    return yaml_path


@pytest.fixture(scope="session")
def tested(trained: Path) -> Path:
    """The folder `test` of the trained run, tested on the cases that it was validated on."""
    folder = trained.parent / "results" / "balls"
    words = [f"test_ckpt={folder / 'checkpoints' / 'best.ckpt'}", "test_folds=[1]", "val_folds=[2]", "report_by=[fold]"]
    with pytest.MonkeyPatch.context() as patch:
        assert ball_cases.run_segmentation(patch, trained, *words) == 0
    return folder / "test"
