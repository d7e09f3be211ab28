"""Twenty pre-training runs killed with SIGKILL at random places and resumed with `auto` end with the bits of runs that were not."""

import multiprocessing
import random
import signal
from pathlib import Path
from typing import Any

import killed_stage
import pytest
import small_stages
from killed_stage import Place
from safetensors.torch import load_file
from test_dino_resumption import differences

from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint

# Children are forked from a server that has imported torch and Lightning once.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["killed_stage"])
EPOCHS, BATCHES = 3, 3  # of 5 cases two by two
SETTINGS: dict[str, Any] = {
    "n_epochs": EPOCHS,
    "momentum_start": 0.9,
    "warmup_epochs": 1,
    "backbone": "resnet3d",
    "backbone_options": {"depth": 10},
    "drop_path": 0.5,  # draws from the process's random state, which a checkpoint must bring back
    "masking": {"patch_weight": 1.0},
}

pytestmark = pytest.mark.usefixtures("fork_server_finds_modules")


def draw(number: int) -> tuple[Place, int, int, int]:
    """Place, accumulated batches, workers, and steps between checkpoints of the number-th run."""
    rng = random.Random(number)
    accumulate, workers = ((1, 0), (2, 0), (1, 2), (2, 2))[number % 4]
    steps = EPOCHS * -(-BATCHES // accumulate)
    # Checkpoints are written at the end of each epoch at least.
    what, most = rng.choice([("batch", EPOCHS * BATCHES), ("step", steps), ("checkpoint", EPOCHS)])
    return Place(what, rng.randrange(most)), accumulate, workers, rng.choice([1, 2, 3])


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"), 5)


def run(cases: Path, results: Path, place: Place | None, *words: str, **changes: Any) -> int | None:
    errors = results.parent / f"{results.name}.txt"
    process = FORK.Process(target=killed_stage.be_run, args=(cases, results, place, errors, list(words), {**SETTINGS, **changes}))
    process.start()
    process.join(240)
    if process.exitcode is None:
        process.kill()
    assert process.exitcode in (0, -signal.SIGKILL), errors.read_text()
    return process.exitcode


@pytest.fixture(scope="module")
def whole(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Accumulated batches -> the folder of a run that nothing disturbed."""
    folders = {accumulate: tmp_path_factory.mktemp(f"whole{accumulate}") for accumulate in (1, 2)}
    for accumulate, results in folders.items():
        assert run(cases, results, None, accumulate_grad_batches=accumulate) == 0
    return {accumulate: results / "dino" for accumulate, results in folders.items()}


def test_the_draws_have_every_kind_of_place_and_run() -> None:
    draws = [draw(number) for number in range(20)]
    assert {place.what for place, *_ in draws} == {"batch", "step", "checkpoint"}
    assert {tuple(rest[:2]) for _, *rest in draws} == {(1, 0), (2, 0), (1, 2), (2, 2)}
    assert len({place for place, *_ in draws}) > 10


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_killed_at_a_random_place_it_ends_with_the_same_bits(number: int, cases: Path, whole: dict[int, Path], tmp_path: Path) -> None:
    place, accumulate, workers, save_every = draw(number)
    changes = {"accumulate_grad_batches": accumulate, "n_workers": workers, "save_every_n_steps": save_every}
    assert run(cases, tmp_path / "results", place, **changes) == -signal.SIGKILL, place
    folder = tmp_path / "results" / "dino"
    assert not (folder / "backbone.safetensors").exists()
    assert run(cases, tmp_path / "results", None, "resume_training_from=auto", **changes) == 0
    ours, theirs = (read_checkpoint(one / "checkpoints" / "last.ckpt", "") for one in (folder, whole[accumulate]))
    for entry in ("state_dict", "optimizer_states", "global_step", "epoch", "random_state"):
        assert differences(ours[entry], theirs[entry], entry) == [], place
    assert differences(*(load_file(one / "backbone.safetensors") for one in (folder, whole[accumulate]))) == []
    metrics, expected = (small_stages.read_json(one / "val_metrics.json")["metrics"] for one in (folder, whole[accumulate]))
    assert "dino/effective_rank" in metrics
    assert {name: value for name, value in metrics.items() if "wait" not in name} == {
        name: value for name, value in expected.items() if "wait" not in name
    }
