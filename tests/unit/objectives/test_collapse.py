"""Collapse figures against definitions written out in float64."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fuse_examples.imaging.oai_example.objectives.collapse import (
    dimension_std,
    divergence_of_rows,
    effective_rank,
    mean_entropy,
    prototypes_used,
    teacher_student_divergence,
)

Array = NDArray[np.float64]


def distributions(rng: np.random.Generator, *shape: int) -> Array:
    return rng.dirichlet(np.full(shape[-1], 0.3), size=shape[:-1]).clip(1e-12)


@pytest.mark.parametrize(("n", "f", "rank"), [(40, 16, 16), (16, 40, 5), (100, 8, 1), (3, 3, 3)])
def test_effective_rank_is_rankme(n: int, f: int, rank: int) -> None:
    rng = np.random.default_rng(n)
    features = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, f)) + 0.5
    eigenvalues = np.linalg.eigvalsh(features.T @ features).clip(0)
    shares = np.sqrt(eigenvalues) / np.sqrt(eigenvalues).sum()
    expected = math.exp(-sum(p * math.log(p) for p in shares if p > 0))
    # Squaring for the eigenvalues leaves the reference itself 1e-7 of noise per missing direction.
    assert effective_rank(torch.from_numpy(features)).item() == pytest.approx(expected, rel=1e-4 if rank < f else 1e-9)
    assert effective_rank(torch.from_numpy(features).float()).item() == pytest.approx(expected, rel=1e-4)


def test_effective_rank_of_known_cases() -> None:
    assert effective_rank(torch.eye(12)).item() == pytest.approx(12, rel=1e-6)
    assert effective_rank(torch.ones(30, 12)).item() == pytest.approx(1, abs=1e-4)
    assert effective_rank(torch.zeros(30, 12)).item() == pytest.approx(1, abs=1e-4)
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))).item() == pytest.approx(
        math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    )


def test_rows_that_are_not_finite_do_not_count() -> None:
    features = torch.randn(20, 6)
    spoilt = torch.cat([features[:5], torch.full((1, 6), math.nan), features[5:], torch.tensor([[math.inf, 1, 1, 1, 1, 1]])])
    assert effective_rank(spoilt) == effective_rank(features)
    assert effective_rank(torch.full((3, 6), math.nan)).isnan()


@pytest.mark.parametrize("shape", [(5,), (4, 7), (2, 3, 9)])
def test_entropy(shape: tuple[int, ...]) -> None:
    probabilities = distributions(np.random.default_rng(3), *shape)
    rows = probabilities.reshape(-1, shape[-1])
    expected = sum(-p * math.log(p) for row in rows for p in row) / len(rows)
    assert mean_entropy(torch.from_numpy(probabilities)).item() == pytest.approx(expected, rel=1e-12)
    assert mean_entropy(torch.from_numpy(probabilities).float()).item() == pytest.approx(expected, rel=1e-6)


def test_entropy_of_known_cases() -> None:
    assert mean_entropy(torch.full((3, 8), 1 / 8)).item() == pytest.approx(math.log(8))
    assert mean_entropy(torch.eye(4)).item() == 0


@pytest.mark.parametrize(("n_teacher", "n_student"), [(2, 2), (2, 6), (1, 3), (2, 1)])
def test_divergence_between_different_views(n_teacher: int, n_student: int) -> None:
    rng = np.random.default_rng(4)
    teacher, student = distributions(rng, n_teacher, 3, 7), distributions(rng, n_student, 3, 7)
    terms = [
        sum(p * math.log(p / q) for p, q in zip(teacher[t, b], student[s, b], strict=True))
        for t in range(n_teacher)
        for s in range(n_student)
        for b in range(3)
        if t != s
    ]
    result = teacher_student_divergence(torch.from_numpy(teacher), torch.from_numpy(student).log())
    assert result.item() == pytest.approx(sum(terms) / len(terms), rel=1e-9)


def test_divergence_of_equal_distributions_is_zero_even_where_they_are_zero() -> None:
    one_hot = torch.eye(3).repeat(2, 1, 1)
    assert teacher_student_divergence(one_hot, (one_hot + 1e-38).log()).item() == pytest.approx(0, abs=1e-6)


def test_prototypes_used() -> None:
    logits = torch.tensor([[[0.0, 5, 1, 0], [9, 5, 1, 0]], [[0, 1, 0.5, 0], [3, 2, 1, 0]]])
    assert prototypes_used(logits).tolist() == [True, True, False, False]
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(50, 40))
    assert prototypes_used(torch.from_numpy(rows)).sum() == len({int(np.argmax(row)) for row in rows})


def test_dimension_std() -> None:
    rng = np.random.default_rng(6)
    features = rng.normal(2, 1, (30, 6))
    rows = np.array([row / math.sqrt(sum(value**2 for value in row)) for row in features])
    expected = [math.sqrt(sum((value - column.mean()) ** 2 for value in column) / 30) for column in rows.T]
    np.testing.assert_allclose(dimension_std(torch.from_numpy(features)).numpy(), expected, rtol=1e-9)
    assert dimension_std(torch.full((10, 4), 3.0)).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    features = torch.randn(20, 6).to(dtype)
    assert effective_rank(features).dtype == dimension_std(features).dtype == mean_entropy(features.softmax(-1)).dtype == torch.float32
    torch.testing.assert_close(effective_rank(features), effective_rank(features.float()))


@pytest.mark.parametrize("shape", [(1, 5), (2, 2), (3, 4, 9), (2, 3, 8, 64)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_divergence_of_rows(shape: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
    """The mean over rows of their Kullback-Leibler divergence from the mean row, which is the same number by another formula."""
    probabilities = distributions(np.random.default_rng(sum(shape)), *shape)
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    found = []
    for rows in probabilities.reshape(-1, *shape[-2:]):
        mean = rows.mean(axis=0)
        found.append(math.fsum(p * math.log(p / m) for row in rows for p, m in zip(row, mean, strict=True)) / len(rows))
    result = divergence_of_rows(torch.from_numpy(probabilities).to(dtype))
    assert result.item() == pytest.approx(math.fsum(found) / len(found), rel=tolerance, abs=tolerance)


def test_divergence_of_known_rows() -> None:
    assert divergence_of_rows(torch.eye(4)).item() == pytest.approx(math.log(4))
    assert divergence_of_rows(torch.tensor([0.7, 0.2, 0.1]).expand(5, 3)).item() == pytest.approx(0, abs=1e-6)
