"""Voxels and places against dcm2niix, on series of every kind; tests/golden/make_dcm2niix.py made the results."""

from pathlib import Path

import numpy as np
import pytest
from converter_cases import CASES

from fuse_examples.imaging.oai_example.data.scans import read_header, read_volume
from fuse_examples.imaging.oai_example.geometry.volume import Grid

GOLDEN = Path(__file__).parents[2] / "golden" / "dcm2niix.npz"
MM = 0.01


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


def test_every_series_has_its_result(golden: dict[str, np.ndarray]) -> None:
    assert {name.rsplit("/", 1)[0] for name in golden} == set(CASES)
    assert len(CASES) >= 50


@pytest.mark.parametrize("name", CASES)
def test_voxels_are_equal_and_corners_lie_within_a_hundredth_of_a_millimetre(
    name: str, golden: dict[str, np.ndarray], tmp_path: Path
) -> None:
    folder = CASES[name](tmp_path / "series")
    volume = read_volume(folder)
    expected = golden[f"{name}/values"]
    assert np.array_equal(volume.array, expected)
    first, second, third = expected.shape
    theirs = Grid((first, second, third), golden[f"{name}/affine"])
    assert np.abs(volume.grid.corners() - theirs.corners()).max() < MM
    assert np.array_equal(read_header(folder).source.oriented("RAS").affine, volume.affine)
