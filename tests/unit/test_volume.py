import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.geometry.volume import Grid, from_file_order, to_source_order

CODES = ["".join(c) for p in itertools.permutations(("RL", "AP", "SI")) for c in itertools.product(*p)]


def affine_of(codes: str, spacing: tuple[float, float, float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, code in enumerate(codes):
        world = "RAS".index({"L": "R", "P": "A", "I": "S"}.get(code, code))
        affine[world, axis] = spacing[axis] * (1 if code in "RAS" else -1)
    affine[:3, 3] = (11, -7, 3)
    return affine


@pytest.mark.parametrize("codes", CODES)
def test_every_voxel_keeps_its_place_in_ras(codes: str) -> None:
    array = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    affine = affine_of(codes, (0.5, 2, 3))
    volume = from_file_order(array, affine)
    assert volume.grid.orientation == "RAS"
    assert np.all(np.diag(volume.affine)[:3] > 0)
    for index in np.ndindex(array.shape):
        world = affine @ [*index, 1]
        there = np.linalg.solve(volume.affine, world)[:3].round().astype(int)
        assert volume.array[tuple(there)] == array[index]


@given(st.sampled_from(CODES), st.sampled_from(CODES))
def test_orientation_and_back_is_the_identity(file_codes: str, network_codes: str) -> None:
    array = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    affine = affine_of(file_codes, (1, 2, 3))
    volume = from_file_order(array, affine).oriented(network_codes)
    assert volume.grid.orientation == network_codes
    assert volume.source.shape == array.shape
    back = to_source_order(volume.array, volume.grid, volume.source)
    assert np.array_equal(back, array)
    assert back.dtype == np.int16


def test_spacing_and_corners_are_millimetres() -> None:
    grid = Grid((3, 4, 5), affine_of("PIR", (0.5, 0.25, 2)))
    assert grid.spacing == (0.5, 0.25, 2)
    corners = grid.corners()
    assert corners.shape == (8, 3)
    assert np.allclose(np.ptp(corners, axis=0), [2 * 4, 0.5 * 2, 0.25 * 3])
