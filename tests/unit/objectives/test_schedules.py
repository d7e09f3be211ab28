"""Schedules step by step against whole arrays made the way DINO's reference describes them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.objectives.schedules import cosine_schedule, linear_warmup


def reference(start: float, end: float, n_steps: int, warmup_steps: int, warmup_start: float) -> NDArray[np.float64]:
    """The reference's array: a linspace with both ends, then a cosine that would reach `end` one step after its last."""
    steps = np.arange(n_steps - warmup_steps)
    cosine = end + 0.5 * (start - end) * (1 + np.cos(np.pi * steps / max(len(steps), 1)))
    return np.concatenate([np.linspace(warmup_start, start, warmup_steps), cosine])


@pytest.mark.parametrize(("start", "end"), [(5e-4, 1e-6), (0.04, 0.4), (0.996, 1.0), (0.3, 0.3)])
@pytest.mark.parametrize(("n_steps", "warmup_steps"), [(1, 0), (1, 1), (2, 1), (10, 0), (10, 3), (10, 9), (10, 10), (137, 20)])
@pytest.mark.parametrize("warmup_start", [0.0, 0.01])
def test_cosine_equals_the_reference_at_every_step(start: float, end: float, n_steps: int, warmup_steps: int, warmup_start: float) -> None:
    values = [cosine_schedule(step, start, end, n_steps, warmup_steps, warmup_start) for step in range(n_steps)]
    np.testing.assert_allclose(values, reference(start, end, n_steps, warmup_steps, warmup_start), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("step", "n_steps", "warmup_steps"), [(0, 0, 0), (0, 0, 5), (10, 10, 0), (11, 10, 3), (1000, 10, 10)])
def test_cosine_has_its_end_value_from_the_last_step_on(step: int, n_steps: int, warmup_steps: int) -> None:
    assert cosine_schedule(step, 1.0, 0.25, n_steps, warmup_steps) == 0.25


def test_a_warmup_longer_than_the_run_is_cut_off() -> None:
    assert [cosine_schedule(step, 1.0, 0.0, 3, 5) for step in range(3)] == [0.0, 0.25, 0.5]


@pytest.mark.parametrize("warmup_steps", [0, 1, 2, 30])
@pytest.mark.parametrize(("start", "end"), [(0.04, 0.07), (0.04, 0.04), (0.0, 1.0)])
def test_warmup_equals_the_reference_at_every_step(warmup_steps: int, start: float, end: float) -> None:
    values = [linear_warmup(step, start, end, warmup_steps) for step in range(warmup_steps + 5)]
    np.testing.assert_allclose(values, np.concatenate([np.linspace(start, end, warmup_steps), np.full(5, end)]), rtol=1e-12)


@pytest.mark.parametrize("bad", [{"step": -1}, {"n_steps": -1}, {"warmup_steps": -1}])
def test_negative_counts_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))} cannot be negative: -1"):
        cosine_schedule(**{"step": 0, "start": 1.0, "end": 0.0, "n_steps": 10, **bad})


def test_a_negative_step_of_the_warmup_is_refused() -> None:
    with pytest.raises(ValueError, match="step cannot be negative: -2"):
        linear_warmup(-2, 0.0, 1.0, 10)
