"""Thickness of sheets drawn with a known one: flat, oblique and curved, with cubic and with long voxels."""

from collections.abc import Callable

import numpy as np
import pytest

from fuse_examples.imaging.oai_example.evaluation.thickness import mean_thickness

Field = np.ndarray
SPACINGS = [(0.5, 0.5, 0.5), (0.7, 0.365, 0.365), (0.4, 0.8, 0.4)]


def drawn(inside: Callable[[Field, Field, Field], Field], spacing: tuple[float, float, float], extent: float = 26.0) -> np.ndarray:
    axes = [(np.arange(round(extent / step)) - round(extent / step) / 2 + 0.27) * step for step in spacing]
    return inside(*np.meshgrid(*axes, indexing="ij"))


def shell(thickness: float, radius: float = 10.0, above: float = -np.inf) -> Callable[[Field, Field, Field], Field]:
    return lambda x, y, z: (np.abs(np.sqrt(x**2 + y**2 + z**2) - radius) < thickness / 2) & (z > above)


def disc(thickness: float, normal: tuple[float, float, float]) -> Callable[[Field, Field, Field], Field]:
    n = np.array(normal) / np.linalg.norm(normal)
    return lambda x, y, z: (np.abs(n[0] * x + n[1] * y + n[2] * z) < thickness / 2) & (x**2 + y**2 + z**2 < 11**2)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("thickness", [2.0, 3.3])
def test_shells_caps_and_oblique_discs(spacing: tuple[float, float, float], thickness: float) -> None:
    measured = [
        mean_thickness(drawn(shape, spacing), np.diag(spacing))
        for shape in (shell(thickness), shell(thickness, above=3.0), disc(thickness, (1, 2, 3)), disc(thickness, (3, -1, 1)))
    ]
    assert measured[0] == pytest.approx(thickness, rel=0.04)
    assert measured[1] == pytest.approx(thickness, rel=0.04)  # with a rim
    assert measured[2:] == pytest.approx([thickness] * 2, rel=0.11)  # the stairs of one direction do not average out


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("n_voxels", [1, 2, 3, 6])
def test_a_flat_sheet_is_as_thick_as_its_voxels(axis: int, n_voxels: int) -> None:
    spacing = (0.7, 0.365, 0.5)
    mask = np.zeros((50, 50, 50), dtype=bool)
    np.moveaxis(mask, axis, 0)[20 : 20 + n_voxels, 5:45, 5:45] = True
    assert mean_thickness(mask, np.diag(spacing)) == pytest.approx(n_voxels * spacing[axis], rel=0.02)


def test_sheets_count_by_their_area_in_millimetres() -> None:
    spacing = (2.0, 0.5, 0.5)
    mask = np.zeros((20, 100, 60), dtype=bool)
    mask[14:16, 8:56, 6:54] = True  # 4 mm thick, 24 x 24 mm, in small faces
    mask[2:14, 80:84, 6:54] = True  # 2 mm thick, 24 x 24 mm, in faces four times as large
    assert mean_thickness(mask, np.diag(spacing)) == pytest.approx(3.0, rel=0.02)


def test_it_does_not_depend_on_the_order_of_axes_or_a_rotated_affine() -> None:
    spacing = (0.7, 0.365, 0.365)
    mask = drawn(shell(2.5, above=0.0), spacing)
    straight = mean_thickness(mask, np.diag(spacing))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    assert mean_thickness(mask, turn @ np.diag(spacing)) == pytest.approx(straight, rel=1e-6)
    assert mean_thickness(mask.transpose(2, 0, 1), np.diag(spacing)[:, [2, 0, 1]]) == pytest.approx(straight, rel=0.01)


def test_nothing_a_lone_voxel_and_a_chequerboard() -> None:
    assert np.isnan(mean_thickness(np.zeros((3, 3, 3), dtype=bool), np.eye(3)))
    assert mean_thickness(np.ones((1, 1, 1), dtype=bool), np.eye(3)) == pytest.approx(1.0)
    board = np.indices((6, 6, 6)).sum(axis=0) % 2 == 0
    assert np.isnan(value := mean_thickness(board, np.eye(3))) or 0 < value < 6
