"""KoLeo against its definition, written once more in float64 with loops, and at the places where it could break."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.objectives.koleo import koleo_loss


def definition(features: np.ndarray) -> float:
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = [min(math.dist(row, other) for j, other in enumerate(rows) if j != i) for i, row in enumerate(rows)]
    return -math.fsum(math.log(distance) for distance in nearest) / len(rows)


@pytest.mark.parametrize(("n", "f"), [(2, 2), (2, 64), (7, 3), (33, 16), (8, 512)])
@pytest.mark.parametrize("spread", [1.0, 0.1, 1e-3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("autocast", [False, True])
def test_equals_its_definition(n: int, f: int, spread: float, dtype: torch.dtype, autocast: bool) -> None:
    """Also for features that hardly differ, as those of scans do at the start."""
    rng = np.random.default_rng(n * f)
    features = ((1 - spread) * rng.normal(size=f) + spread * rng.normal(size=(n, f))).astype(np.float32).astype(float)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        result = koleo_loss(torch.from_numpy(features).to(dtype))
    assert result.dtype == dtype
    assert result.item() == pytest.approx(definition(features), rel=1e-6 if dtype == torch.float32 else 1e-10, abs=1e-10)


@given(seed=st.integers(0, 10_000), n=st.integers(2, 12), scale=st.floats(1e-3, 1e3))
@settings(max_examples=30, deadline=None)
def test_the_length_of_features_does_not_count(seed: int, n: int, scale: float) -> None:
    features = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert koleo_loss(features * scale).item() == pytest.approx(koleo_loss(features).item(), abs=1e-9)


def test_a_step_along_the_gradient_spreads_features() -> None:
    features = torch.randn(16, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    before = koleo_loss(features)
    before.backward()
    assert features.grad is not None
    assert koleo_loss(features.detach() - 0.01 * features.grad).item() < before.item()


def test_gradient_equals_finite_differences() -> None:
    features = torch.randn(5, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(koleo_loss, (features,))


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_rows_give_nothing_to_keep_apart(n: int) -> None:
    features = torch.ones(n, 4, requires_grad=True)
    loss = koleo_loss(features)
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert (features.grad == 0).all()


def test_exact_twins_are_left_out_and_have_no_gradient() -> None:
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    loss = koleo_loss(rows)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(math.sqrt(2)))
    assert rows.grad is not None
    assert rows.grad.isfinite().all()
    assert koleo_loss(torch.ones(3, 4)).item() == 0
