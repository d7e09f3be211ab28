"""The pre-training recipe of configs/dino_config.yaml as it is shipped, sound and sabotaged: the alarms that a user would read.

All settings are the file's but for the sizes in `SMALLER`, which two cores need; head, temperatures, momenta, centring and all that is
`auto` are as shipped, the latter for few volumes and a short run. fp32, so that the figures are the same on all machines.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from fuse_examples.imaging.oai_example.configuration.command_line import run_entry
from fuse_examples.imaging.oai_example.data.multi_crop import PretrainingViews
from fuse_examples.imaging.oai_example.prepare import synthetic_knee
from fuse_examples.imaging.oai_example.self_supervised import dino as dino_entry

pytestmark = pytest.mark.slow
SHIPPED = Path(__file__).parents[2] / "configs" / "dino_config.yaml"
FEW_VOLUMES = SHIPPED.with_name("dino_few_volumes.yaml")
SMALLER = ("width=4", "crops.local_size=[16,16,16]", "n_workers=0", "precision=fp32", "log_images_every_n_epochs=0")
KNEE_VIEWS, HIPPOCAMPUS_VIEWS = "crops.global_size=[16,32,32]", "crops.global_size=[24,32,24]"
RATE = 1.25e-4
"""What `learning_rate: auto` is at the shipped batch of 4."""
Alarms = dict[int, set[str]]
"""The names of an epoch's alarms, for epochs that have any."""


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 patients: 39 scans in the folds that the file trains on."""
    folder = tmp_path_factory.mktemp("knees") / "data"
    assert synthetic_knee.main([str(folder), "--patients", "40", "--labelled", "0"]) == 0
    return folder / "self_supervised.csv"


def alarms(table: Path, results: Path, *words: str, shipped: Path = SHIPPED) -> Alarms:
    """Pre-train as a user would, and read the log."""
    where = ["experiment=knee_dino", f"csv_path={table}", f"results_dir={results}", f"store.path={results.parent / 'store'}"]
    with mock.patch.object(sys, "argv", ["dino.py", "--config", str(shipped), *where, *SMALLER, *words]):
        assert run_entry(dino_entry.main) == 0
    log = (results / "knee_dino" / "log.txt").read_text()
    assert f"auto: learning_rate: {RATE}" in log or any(word.startswith("learning_rate=") for word in words)
    assert "auto: head.n_prototypes: 1024" in log
    assert ("training volumes are few for views that share as little" in log) == (shipped == SHIPPED)
    found: Alarms = {}
    for epoch, name in re.findall(r"WARNING epoch (\d+): ([a-z -]+): ", log):
        found.setdefault(int(epoch), set()).add(name)
    return found


def spoilt(change: Callable[[list[Any], int], list[Any]]) -> Any:
    """Training and validation with changed views of a volume."""
    as_they_are = PretrainingViews.__getitem__
    return mock.patch.object(PretrainingViews, "__getitem__", lambda self, key: change(as_they_are(self, key), key.row))


def with_nan(views: list[Any], row: int) -> list[Any]:
    if row == 3:
        views[0][..., 0, 0, 0] = torch.nan
    return views


def constant(views: list[Any], row: int) -> list[Any]:
    return [torch.ones_like(view) for view in views]


def test_the_synthetic_knees_train_without_an_alarm(knees: Path, tmp_path: Path) -> None:
    assert alarms(knees, tmp_path, KNEE_VIEWS, "n_epochs=12") == {}


def test_few_knees_train_without_an_alarm_by_the_settings_for_few_volumes(knees: Path, tmp_path: Path) -> None:
    assert alarms(knees, tmp_path, KNEE_VIEWS, "n_epochs=6", shipped=FEW_VOLUMES) == {}


@pytest.mark.real_data
def test_real_scans_train_without_an_alarm(real_data: Path, tmp_path: Path) -> None:
    assert alarms(real_data / "hippocampus" / "self_supervised.csv", tmp_path, HIPPOCAMPUS_VIEWS, "n_epochs=6") == {}


@pytest.mark.real_data
def test_few_real_scans_train_without_an_alarm_by_the_settings_for_few_volumes(real_data: Path, tmp_path: Path) -> None:
    table = real_data / "hippocampus" / "self_supervised.csv"
    assert alarms(table, tmp_path, HIPPOCAMPUS_VIEWS, "n_epochs=6", shipped=FEW_VOLUMES) == {}


def test_without_centring_one_prototype_takes_all(knees: Path, tmp_path: Path) -> None:
    found = alarms(knees, tmp_path, KNEE_VIEWS, "n_epochs=6", "center_momentum=1.0")
    assert found[6] == {"one-prototype collapse"}
    assert set.union(*found.values()) == {"one-prototype collapse"}


def test_a_teacher_with_momentum_1_stands_still(knees: Path, tmp_path: Path) -> None:
    assert alarms(knees, tmp_path, KNEE_VIEWS, "n_epochs=2", "momentum_start=1.0") == {1: {"still teacher"}, 2: {"still teacher"}}


def test_a_teacher_at_temperature_1_is_uniform(knees: Path, tmp_path: Path) -> None:
    found = alarms(knees, tmp_path, KNEE_VIEWS, "n_epochs=5", "teacher_temperature=1.0")
    assert found == {epoch: {"uniform collapse"} for epoch in range(2, 6)}  # the first epoch is the warm-up


def test_a_learning_rate_a_thousand_times_too_high_diverges(knees: Path, tmp_path: Path) -> None:
    """The weights explode within the warm-up; what is left then says the same of every scan, and no epoch after that passes for sound."""
    found = alarms(knees, tmp_path, KNEE_VIEWS, "n_epochs=8", f"learning_rate={1000 * RATE}")
    assert "diverging" in found[1]
    assert set(found) == set(range(1, 9))


def test_constant_views_leave_one_direction(knees: Path, tmp_path: Path) -> None:
    with spoilt(constant):
        found = alarms(knees, tmp_path, KNEE_VIEWS, "n_epochs=4")
    assert all("dimensional collapse" in found[epoch] for epoch in range(2, 5))


def test_a_nan_in_one_volume_is_told(knees: Path, tmp_path: Path) -> None:
    with spoilt(with_nan):
        assert alarms(knees, tmp_path, KNEE_VIEWS, "n_epochs=3") == {epoch: {"not finite"} for epoch in range(1, 4)}
