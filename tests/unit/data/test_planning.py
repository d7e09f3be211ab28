"""Planned sizes: they fit, they follow the cases, and what is set stays."""

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.data.planning import MOST_VOXELS, Memory, plan_sizes

KNEES = [(112.0, 140.0, 140.0)] * 60
KNEE_SPACING = (0.7, 0.365, 0.365)
HIPPOCAMPI = [(34.0 + k % 3, 50.0 + k % 5, 36.0 - k % 4) for k in range(110)]
PLENTY = Memory(64e9, 1000.0, "a machine")


def test_small_volumes_are_taken_whole() -> None:
    plan = plan_sizes(HIPPOCAMPI, (1, 1, 1), 8, PLENTY)
    assert plan.patch_size == (40, 56, 40)
    # 5 % of 110 volumes are about 5.5 of them, and a patch is a little larger than a volume.
    assert plan.batch_size == 3
    assert plan.reasons[0].startswith(
        "patch_size [40, 56, 40]: a median volume has 35 x 52 x 35 voxels; up to 2,097,152 voxels, 2 of which"
    )
    assert plan.reasons[1].startswith("batch_size 3: at least 2, at most 5% of the training cases' voxels")


def test_large_volumes_are_cut_where_they_are_longest() -> None:
    plan = plan_sizes(KNEES, KNEE_SPACING, 8, PLENTY)
    assert prod(plan.patch_size) <= MOST_VOXELS
    edges = [length * step for length, step in zip(plan.patch_size, KNEE_SPACING, strict=True)]
    assert max(edges) - min(edges) < 8 * max(KNEE_SPACING) + 1e-9  # about as long in mm along every axis
    assert plan.batch_size == 2


def test_what_is_set_stays_and_needs_no_reason() -> None:
    plan = plan_sizes(KNEES, KNEE_SPACING, 8, PLENTY, patch_size=(33, 64, 65))
    assert (plan.patch_size, len(plan.reasons)) == ((33, 64, 65), 1)
    assert plan.batch_size == 2 * MOST_VOXELS // (33 * 64 * 65)
    assert plan_sizes(KNEES, KNEE_SPACING, 8, PLENTY, (8, 8, 8), 7).reasons == ()
    tight = Memory(8e8, 1000.0, "a small machine")
    assert prod(plan_sizes(KNEES, KNEE_SPACING, 8, tight, batch_size=8).patch_size) <= 1e5


@given(
    st.lists(st.tuples(*[st.floats(5, 400)] * 3), min_size=1, max_size=9),
    st.tuples(*[st.floats(0.3, 5)] * 3),
    st.sampled_from([8, 32]),
    st.floats(1e6, 1e11),
)
def test_a_plan_fits_or_is_the_least_there_is(extents, spacing, multiple, available) -> None:
    memory = Memory(available, 1000.0, "memory")
    plan = plan_sizes(extents, spacing, multiple, memory)
    least = plan.patch_size == (multiple,) * 3
    assert all(length % multiple == 0 and length > 0 for length in plan.patch_size)
    assert least or prod(plan.patch_size) <= min(MOST_VOXELS, memory.voxels // 2)
    assert plan.batch_size >= 2
    assert plan.batch_size == 2 or plan.batch_size * prod(plan.patch_size) <= min(memory.voxels, 2 * MOST_VOXELS)


def test_less_memory_never_gives_a_larger_patch() -> None:
    sizes = [prod(plan_sizes(KNEES, KNEE_SPACING, 8, Memory(available, 1000.0, "m")).patch_size) for available in (1e8, 1e9, 3e9, 1e11)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_memory_counts_voxels() -> None:
    assert Memory(1e9, 500.0, "m").voxels == pytest.approx(2_000_000)
