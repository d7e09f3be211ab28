import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.inference.components import keep_largest, outside_the_largest


def flooded(labels: np.ndarray, structure: int) -> list[set[tuple[int, ...]]]:
    """Components by flooding, neighbours over faces, edges and corners."""
    left = {tuple(index) for index in np.argwhere(labels == structure).tolist()}
    parts = []
    while left:
        part, front = set(), {min(left)}
        while front:
            part |= front
            left -= front
            front = {other for other in left if any(max(abs(a - b) for a, b in zip(other, one, strict=True)) <= 1 for one in front)}
        parts.append(part)
    return parts


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.04, 0.1]))
def test_what_stays_is_the_largest_part(seed: int, share: float) -> None:
    labels = np.random.default_rng(seed).choice(3, (6, 7, 8), p=[1 - 2 * share, share, share]).astype(np.uint8)
    parts, before = flooded(labels, 2), labels.copy()
    keep_largest(labels, 2)
    kept = {tuple(index) for index in np.argwhere(labels == 2).tolist()}
    assert kept in parts or not parts
    assert len(kept) == max(map(len, parts), default=0)
    assert np.array_equal(labels == 1, before == 1)
    assert np.array_equal(labels[labels > 0], before[labels > 0])


@pytest.mark.parametrize("voxels", [[], [(0, 0, 0)], [(0, 0, 0), (1, 1, 1)]])
def test_one_part_or_none_is_left_alone(voxels: list[tuple[int, int, int]]) -> None:
    labels = np.zeros((3, 3, 3), np.uint8)
    for voxel in voxels:
        labels[voxel] = 2
    assert outside_the_largest(labels, 2) is None
