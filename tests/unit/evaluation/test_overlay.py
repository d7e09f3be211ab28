import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fuse_examples.imaging.oai_example.evaluation.figures import png_bytes
from fuse_examples.imaging.oai_example.evaluation.overlay import PLANES, cut, most_telling_index, overlay_figure
from fuse_examples.imaging.oai_example.geometry.volume import Grid, Volume

SHAPE = (6, 8, 10)
AXES = {"L": (0, 0), "R": (0, -1), "P": (1, 0), "A": (1, -1), "I": (2, 0), "S": (2, -1)}  # in RAS order: axis and end of each direction


@pytest.mark.parametrize("plane", PLANES, ids=lambda plane: plane.name)
def test_each_edge_of_a_picture_is_the_patient_direction_it_says(plane) -> None:
    views = {0: lambda p: p[:, 0], 1: lambda p: p[:, -1], 2: lambda p: p[0], 3: lambda p: p[-1]}  # left, right, top, bottom
    for edge, direction in enumerate(plane.edges):
        axis, end = AXES[direction]
        bright = np.zeros(SHAPE)
        np.moveaxis(bright, axis, 0)[end] = 1
        picture = cut(bright, plane, SHAPE[plane.axis] // 2)
        assert picture.shape == (SHAPE[plane.vertical], SHAPE[plane.horizontal])
        assert views[edge](picture).all()
        assert picture.sum() == views[edge](picture).size


def test_radiological_convention() -> None:
    edges = {plane.name: "".join(plane.edges) for plane in PLANES}
    assert edges == {"sagittal": "APSI", "coronal": "RLSI", "axial": "RLAP"}  # left, right, top, bottom


def test_the_slice_that_shows_most_structures_is_chosen() -> None:
    labels = np.zeros((9, 4, 4), dtype=np.uint8)
    labels[1] = 1  # large, alone
    labels[6, 0, 0], labels[6, 1, 1] = 1, 2  # both
    labels[7, 0, :2], labels[7, 1, 1] = 1, 2  # both and more
    assert most_telling_index(labels, 0) == 7
    assert most_telling_index(np.zeros((9, 4, 4), dtype=np.uint8), 0) == 4


def phantom(codes: str) -> tuple[np.ndarray, np.ndarray, Grid]:
    affine = np.diag([3.0, 1.0, 2.0, 1.0])
    truth = np.zeros((10, 30, 20), dtype=np.uint8)
    truth[5:8, 12:22, 4:9] = 1
    truth[2:4, 5:9, 10:16] = 2
    image = np.random.default_rng(0).normal(size=truth.shape) + truth
    base = Grid((10, 30, 20), affine)
    image, labels = (Volume(array, affine, base).oriented(codes) for array in (image, truth))
    return image.array, labels.array, labels.grid


def drawn(figure: Figure) -> list[np.ndarray]:
    """Everything of a picture that depends on the data, as arrays."""
    found = []
    for axes in figure.axes:
        found += [np.asarray(image.get_array()) for image in axes.images]
        found += [path.vertices for collection in axes.collections for path in collection.get_paths()]
    return found


@pytest.mark.parametrize("codes", ["PIR", "LAS"])
def test_the_picture_does_not_depend_on_the_axis_order(codes: str) -> None:
    first, second = (drawn(overlay_figure(image, truth, truth, grid, ["a", "b"])) for image, truth, grid in map(phantom, ("RAS", codes)))
    assert len(first) == len(second) == 12
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_pictures_keep_millimetres_and_masks_fall_on_the_image() -> None:
    image, truth, grid = phantom("RAS")
    figure = overlay_figure(image, truth, truth, grid, ["a", "b"], "title")
    figure.draw_without_rendering()
    for axes, plane in zip(figure.axes, [*PLANES, *PLANES], strict=True):
        box = axes.get_window_extent()
        millimetres = np.array(grid.shape) * grid.spacing
        assert box.height / box.width == pytest.approx(millimetres[plane.vertical] / millimetres[plane.horizontal], rel=1e-3)
        assert axes.get_xlim() == (-0.5, grid.shape[plane.horizontal] - 0.5)
        assert axes.get_ylim() == (grid.shape[plane.vertical] - 0.5, -0.5)
    sagittal = figure.axes[3]
    index = most_telling_index(truth, 0)
    rows, columns = np.nonzero(cut(truth, PLANES[0], index))
    extents = sagittal.collections[-1].get_paths()[0].get_extents()
    assert (extents.x0, extents.x1) == (columns.min() - 0.5, columns.max() + 0.5)
    assert (extents.y0, extents.y1) == (rows.min() - 0.5, rows.max() + 0.5)


def test_pictures_can_be_drawn_whatever_the_masks_hold() -> None:
    image, truth, grid = phantom("RAS")
    empty = np.zeros_like(truth)
    for true_mask, predicted in ((truth, empty), (empty, truth), (empty, empty), (None, truth), (None, empty)):
        figure = overlay_figure(image, true_mask, predicted, grid, ["a", "b"])
        contours = [len(axes.collections) for axes in figure.axes]
        assert contours[:3] == [0, 0, 0]  # the upper row is the scan alone
        assert any(contours[3:]) == bool(predicted.any() or (true_mask is not None and true_mask.any()))
    constant = overlay_figure(np.zeros_like(image), truth, truth, grid, ["a", "b"])
    assert Image.open(io.BytesIO(png_bytes(constant))).size == (1440, 1110)


def test_the_legend_names_the_structures_that_occur_and_what_area_and_line_are() -> None:
    image, truth, grid = phantom("RAS")
    figure = overlay_figure(image, np.where(truth == 2, 0, truth), np.where(truth == 2, 3, 0), grid, ["first_one", "second", "third"])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["area: truth", "line: prediction", "first one", "third"]
    without = overlay_figure(image, None, truth, grid, ["first_one", "second"])
    assert without.legends[0].get_texts()[0].get_text() == "line: prediction"


def test_titles_give_the_position_in_millimetres() -> None:
    image, truth, grid = phantom("RAS")
    moved = replace(grid, affine=grid.affine + np.array([[0, 0, 0, 100.0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]))
    figure = overlay_figure(image, truth, truth, moved, ["a", "b"])
    index = most_telling_index(truth, 0)
    assert figure.axes[0].get_title() == f"sagittal, x = {100 + 3 * index:.1f} mm"
