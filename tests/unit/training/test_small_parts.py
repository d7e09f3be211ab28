"""Patient hashes, random state, optimiser and schedule."""

import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from fuse_examples.imaging.oai_example.training.checkpoints import check_plain
from fuse_examples.imaging.oai_example.training.optimisation import (
    adamw_with_schedule,
    is_frozen,
    layered_parameter_groups,
    parameter_groups,
    warmup_cosine,
)
from fuse_examples.imaging.oai_example.training.patient_hashes import add_patients, hash_patients, overlap
from fuse_examples.imaging.oai_example.training.seeding import determinism_status, random_state, restore_random_state, seed_run


def test_patients_are_found_again_through_their_hashes_and_not_named_by_them() -> None:
    seen = hash_patients(["9000001", 9000002, " 9000003 ", "9000001"])
    assert len(seen) == 3
    assert all("900000" not in entry for entry in seen)
    assert overlap([9000003, "9000009", "9000001", "9000001"], seen) == ["9000003", "9000001"]
    assert overlap(["9000009"], seen) == overlap(["9000001"], []) == []


def test_lists_cannot_be_matched_with_each_other_but_can_be_joined() -> None:
    first, second = hash_patients(["a", "b"]), hash_patients(["b", "c"])
    assert {entry.split(":")[1] for entry in first}.isdisjoint(entry.split(":")[1] for entry in second)
    assert overlap(["c", "d", "a"], first + second) == ["c", "a"]
    assert hash_patients(["a", "b"], salt="00") == hash_patients(["b", "a"], salt="00")


def test_patients_that_are_known_are_not_added_again() -> None:
    first = hash_patients(["a", "b"])
    both = add_patients(first, ["b", "c", "c"])
    assert set(first) < set(both)
    assert len(both) == 3
    assert overlap(["a", "b", "c", "d"], both) == ["a", "b", "c"]
    assert add_patients(both, ["c", "a"]) == both


def draws() -> list[float]:
    return [random.random(), float(np.random.random()), float(np.random.standard_normal()), float(torch.rand(())), random.gauss(0, 1)]


def test_the_random_state_is_plain_and_gives_the_same_draws_again() -> None:
    seed_run(5)
    draws()  # leaves a second normal value in NumPy's and Python's caches
    state = random_state()
    check_plain(state)
    expected = draws()
    assert draws() != expected
    restore_random_state(state)
    assert draws() == expected


def test_seeds_and_ranks_draw_differently() -> None:
    def first(seed: int, rank: int) -> list[float]:
        seed_run(seed, rank)
        return draws()

    assert first(1, 0) == first(1, 0)
    assert len({tuple(first(seed, rank)) for seed in (0, 1) for rank in (0, 1)}) == 4


def test_determinism_is_said_in_words() -> None:
    assert "same weights" in determinism_status("cpu")
    assert "last digits" in determinism_status("cuda")


def test_one_dimensional_parameters_do_not_decay_and_frozen_ones_are_left_out() -> None:
    net = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.Linear(2, 2))
    net[2].requires_grad_(False)
    decaying, others = parameter_groups(net.named_parameters(), 1e-3, 0.05)
    assert [p.ndim for p in decaying["params"]] == [5]
    assert [p.ndim for p in others["params"]] == [1, 1, 1]
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    assert parameter_groups(net[2].named_parameters(), 1e-3, 0.05) == []


def reference_factor(step: int, n_steps: int, n_warmup: int, floor: float) -> float:
    """Written down anew: tables of both parts, joined."""
    warmup = [float(x) for x in np.linspace(0, 1, n_warmup + 1)[1:]]
    angles = np.linspace(0, math.pi, max(n_steps - n_warmup, 2))
    curve = warmup + [floor + (1 - floor) * float(np.cos(angle / 2)) ** 2 for angle in angles]
    return curve[min(step, len(curve) - 1)]


@pytest.mark.parametrize("n_steps", [2, 3, 10, 101])
@pytest.mark.parametrize("n_warmup", [0, 1, 5])
@pytest.mark.parametrize("floor", [0.0, 0.01])
def test_the_schedule_is_the_formula(n_steps: int, n_warmup: int, floor: float) -> None:
    if n_warmup > n_steps - 2:
        n_warmup = 0
    for step in range(n_steps + 3):
        assert warmup_cosine(step, n_steps, n_warmup, floor) == pytest.approx(reference_factor(step, n_steps, n_warmup, floor), abs=1e-12)


def test_the_schedule_reaches_the_optimiser_step_by_step_and_each_group_by_its_own_rate() -> None:
    layer, head = nn.Linear(2, 2), nn.Linear(2, 2)
    groups = parameter_groups(layer.named_parameters(), 1.0, 0.1) + parameter_groups(head.named_parameters(), 0.5, 0.1)
    made = adamw_with_schedule(groups, n_steps=6, n_warmup=2)
    optimiser, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    rates = []
    for _ in range(6):
        rates.append([group["lr"] for group in optimiser.param_groups])
        optimiser.step()
        schedule.step()
    expected = [0.5, 1.0, 1.0, 0.75, 0.25, 0.0]
    assert [row[0] for row in rates] == pytest.approx(expected, abs=1e-12)
    assert [row[2] for row in rates] == pytest.approx([0.5 * value for value in expected], abs=1e-12)
    check_plain(schedule.state_dict())


def test_the_learning_rate_falls_with_the_distance_from_the_output() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2))
    distances = {"0.weight": 2, "0.bias": 2, "1.weight": 2, "1.bias": 2, "2.weight": 1, "2.bias": 1}
    groups = layered_parameter_groups(net.named_parameters(), distances, 0.8, 0.1, 0.5)
    rates = {id(parameter): (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    found = {name: rates[id(parameter)] for name, parameter in net.named_parameters()}
    assert found == {
        "0.weight": (0.2, 0.1), "0.bias": (0.2, 0.0), "1.weight": (0.2, 0.0), "1.bias": (0.2, 0.0),
        "2.weight": (0.4, 0.1), "2.bias": (0.4, 0.0),
    }  # fmt: skip
    assert groups[0]["lr"] == 0.4
    flat = layered_parameter_groups(net.named_parameters(), {}, 0.8, 0.1, 1.0)
    assert [(group["lr"], len(group["params"])) for group in flat] == [(0.8, 2), (0.8, 4)]


@pytest.mark.parametrize(
    ("freeze", "frozen"), [(False, [False] * 3), (True, [True] * 3), (1, [True, False, False]), (2, [True, True, False])]
)
def test_frozen_epochs(freeze: bool | int, frozen: list[bool]) -> None:
    assert [is_frozen(freeze, epoch) for epoch in range(3)] == frozen
