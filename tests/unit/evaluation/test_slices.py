"""Slices of the report: which ones, where they are, what lies over them, and what is given up for their size."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from fuse_examples.imaging.oai_example.evaluation.overlay import PLANES, cut
from fuse_examples.imaging.oai_example.evaluation.painting import (
    AREA,
    colour_of,
    is_dashed,
    outlines,
    painted_areas,
    painted_lines,
    painted_map,
)
from fuse_examples.imaging.oai_example.evaluation.slices import LayerOfSlices, SliceStack, stack_of, stacking_plane
from fuse_examples.imaging.oai_example.geometry.volume import Grid, Volume

SAGITTAL, CORONAL, AXIAL = PLANES


def volume(shape: tuple[int, int, int], spacing: tuple[float, float, float], origin: tuple[float, float, float] = (0, 0, 0)) -> Volume:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    array = np.random.default_rng(0).normal(100, 20, shape)
    return Volume(array, affine, Grid(shape, affine))


def pixels(image: bytes | None) -> np.ndarray:
    assert image is not None
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGBA"))


@pytest.mark.parametrize(
    ("spacing", "plane"),
    [
        ((3, 1, 1), SAGITTAL),
        ((1, 3, 1), CORONAL),
        ((1, 1, 3), AXIAL),
        ((1, 1, 1), AXIAL),
        ((0.7, 0.365, 0.365), SAGITTAL),
        ((1, 1, 0.9), CORONAL),
    ],
)
def test_slices_are_those_that_the_scan_was_stacked_from(spacing: tuple[float, float, float], plane: object) -> None:
    assert stacking_plane(volume((4, 5, 6), spacing)) is plane


def test_each_slice_is_that_of_the_scan_and_says_where_it_is() -> None:
    scan = volume((7, 20, 30), (3, 1, 1), (-9, 0, 0))
    stack = stack_of("case", scan, [], 2, 10**7, SAGITTAL)
    assert stack.start == 2
    assert len(stack.slices) == 7
    assert stack.slices[2].position == "sagittal, slice 3 of 7 from the patient's left, x = -3.0 mm"
    assert stack.aspect == pytest.approx(20 / 30)
    for index, one in enumerate(stack.slices):
        shown, meant = pixels(one.grey)[..., 0].astype(float), cut(scan.array, SAGITTAL, index)
        assert shown.shape == meant.shape  # never larger than the scan
        assert np.corrcoef(shown.ravel(), meant.ravel())[0, 1] > 0.97


def test_areas_lie_on_their_voxels_in_their_colours_and_lines_around_them() -> None:
    labels = np.zeros((7, 20, 30), dtype=np.uint8)
    labels[3, 4:9, 10:20], labels[3, 12:18, 3:6] = 1, 2
    areas, lines = (pixels(paint(labels, SAGITTAL)(3, (200, 300))) for paint in (painted_areas, painted_lines))
    assert areas.shape == lines.shape == (300, 200, 4)
    meant = np.kron(cut(labels, SAGITTAL, 3), np.ones((10, 10), dtype=int))
    assert np.array_equal(areas[..., 3] > 0, meant > 0)
    assert set(areas[meant > 0][:, 3]) == {AREA}
    for label in (1, 2):
        colour = tuple(int(colour_of(label)[i : i + 2], 16) for i in (1, 3, 5))
        assert {tuple(found) for found in areas[meant == label][:, :3]} == {colour}
        drawn = (lines[..., 3] == 255) & (meant == label)
        rows, columns = np.nonzero(meant == label)
        edge = np.array([drawn[rows.min()].sum(), drawn[rows.max()].sum()])
        assert (edge == columns.max() - columns.min() + 1).all()
        assert not drawn[rows.min() + 5 : rows.max() - 4, columns.min() + 5 : columns.max() - 4].any()
    assert painted_areas(labels, SAGITTAL)(0, (200, 300)) is None
    assert painted_lines(np.zeros_like(labels), SAGITTAL)(3, (200, 300)) is None


def test_a_line_closes_at_the_pictures_edge_and_more_structures_than_colours_are_dashed() -> None:
    full = outlines(np.full((100, 100), 2, dtype=np.uint8))
    assert full[0].all()
    assert full[:, -1].all()
    assert not full[5:-5, 5:-5].any()
    assert [is_dashed(label) for label in (1, 7, 8, 14, 15)] == [False, False, True, True, False]
    dashed = outlines(np.full((100, 100), 8, dtype=np.uint8))
    assert 20 < np.count_nonzero(dashed[0]) < 80


def test_a_map_glows_most_where_it_is_highest() -> None:
    values = np.zeros((8, 8, 8), dtype=np.float32)
    values[2, 5, 6], values[2, 1, 1] = 1.0, 0.4
    shown = pixels(painted_map(values, SAGITTAL)(2, (160, 160)))
    row, column = np.unravel_index(shown[..., 3].argmax(), shown.shape[:2])
    assert (row // 10, column // 10) == (1, 2)  # superior and anterior are at the top and the left
    assert shown[..., 3].max() > shown[60:, :, 3].max() > 0
    assert painted_map(values, SAGITTAL)(0, (160, 160)) is None


def test_a_stack_keeps_to_its_room_and_says_what_it_gave_up() -> None:
    scan = volume((60, 300, 300), (3, 1, 1))
    labels = np.zeros(scan.array.shape, dtype=np.uint8)
    labels[20:40, 100:200, 100:200] = 1
    stacks = {
        room: stack_of("case", scan, [LayerOfSlices("truth", painted_areas(labels, SAGITTAL))], 31, room, SAGITTAL)
        for room in (10**7, 400_000)
    }
    for room, stack in stacks.items():
        assert len(stack.html()) < room + 300 * len(stack.slices)
        assert stack.slices[stack.start].position.startswith("sagittal, slice 32 of 60 ")
    assert len(stacks[10**7].slices) == 60
    assert stacks[10**7].caption == ""
    few = stacks[400_000]
    assert len(few.html()) > 200_000  # not more is given up than must be
    found = re.fullmatch(r"Every (\d+)(nd|rd|th) of 60 slices is shown.", few.caption)
    assert found
    assert len(few.slices) == len(range(31 % int(found[1]), 60, int(found[1])))


def test_one_slice_stands_there_without_a_script_and_letters_say_which_side_is_which() -> None:
    scan = volume((5, 10, 10), (3, 1, 1))
    evil = "<b>\"'&"
    html = stack_of(
        evil, scan, [LayerOfSlices(evil, painted_areas((scan.array > 120).astype(np.uint8), SAGITTAL))], 4, 10**6, SAGITTAL, evil
    ).html()
    assert evil not in html
    slices = re.findall(r'<div class="slice" data-position="([^"]+)"( hidden)?>', html)
    assert [place.startswith(f"sagittal, slice {number} of 5") for number, (place, _) in enumerate(slices, start=1)] == [True] * 5
    assert [hidden for _, hidden in slices] == [" hidden"] * 4 + [""]
    assert re.findall(r'class="edge (\w+)">(\w)', html) == [("left", "A"), ("right", "P"), ("top", "S"), ("bottom", "I")]
    assert 'min="0" max="4" value="4"' in html
    for kind, content in re.findall(r"data:image/(\w+);base64,([\w+/=]+)", html):
        assert Image.open(io.BytesIO(base64.b64decode(content))).format == kind.upper()
    assert isinstance(stack_of("a", scan, [], 0, 10**6, SAGITTAL), SliceStack)
