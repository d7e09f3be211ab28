"""Training views: what moves the image moves the mask; where patches lie; and whole cases for evaluation."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.configuration.segmentation_augmentation import SegmentationAugmentation
from fuse_examples.imaging.oai_example.data.augmentation import draw_pose, generator, mirrors_sides
from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.data.header_check import CaseHeaders
from fuse_examples.imaging.oai_example.data.preparation import CaseVolumes
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.data.sampler import SampleKey
from fuse_examples.imaging.oai_example.data.scans import read_header
from fuse_examples.imaging.oai_example.data.segmentation_views import EvaluationCases, SegmentationTrainingViews
from fuse_examples.imaging.oai_example.data.store import VolumeStore
from fuse_examples.imaging.oai_example.inference.restoration import labels_on_grid

SHAPE = (14, 20, 18)
AFFINE = np.array([[0, 0, 1.25, -9], [-2.0, 0, 0, 4], [0, 1, 0, 30], [0, 0, 0, 1]])  # the file's axes are posterior, superior, right
FLIPS = ("left_right", "posterior_anterior", "inferior_superior")
STILL: dict[str, Any] = {
    "rotation_degrees": 0,
    "flip_axes": (),
    "gamma_range": (1, 1),
    "noise_std": 0,
    "probability": 0,
    "scale_range": (1, 1),
    "elastic_mm": 0,
    "blur_std": 0,
    "brightness_range": (1, 1),
    "contrast_range": (1, 1),
    "lowest_resolution": 1,
}


def case_volumes(folder: Path, image: np.ndarray, mask: np.ndarray, name: str = "case", orientation: str = "RAS") -> CaseVolumes:
    paths = []
    for what, array in (("image", image), ("mask", mask)):
        paths.append(folder / f"{name}_{orientation}_{what}.nii")
        nibabel.save(nibabel.Nifti1Image(array, AFFINE), paths[-1])
    case = Case(2, name, "P", *paths, fold="0", targets={})
    headers = CaseHeaders(*(read_header(path) for path in paths))
    return CaseVolumes(case, VolumeStore(folder / "store", orientation, (0, 100)), headers)


def whole(size: tuple[int, int, int], orientation: str = "RAS") -> Preprocessing:
    return Preprocessing(orientation, "percentile", (0.0, 100.0), None, size)


def patches(size: tuple[int, int, int], spacing: tuple[float, float, float], orientation: str = "RAS") -> Preprocessing:
    return Preprocessing(orientation, "percentile", (0.0, 100.0), None, None, size, spacing)


@pytest.fixture(scope="module")
def ramps(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], CaseVolumes]:
    """Cases whose image and mask both hold the index of the voxel along one axis of the file, by (axis, orientation)."""
    folder, indices = tmp_path_factory.mktemp("ramps"), np.indices(SHAPE).astype(np.uint8)
    return {
        (axis, orientation): case_volumes(
            folder, indices[axis].astype(np.int16), indices[axis].astype(np.uint8), f"axis_{axis}", orientation
        )
        for axis in range(3)
        for orientation in ("RAS", "LIP")
    }


# Interpolation keeps a ramp exactly, so a view's grey value is the place it shows, and its label must be the voxel nearest to that place.
@settings(max_examples=80, deadline=None)
@given(
    axis=st.integers(0, 2),
    orientation=st.sampled_from(["RAS", "LIP"]),
    reduced=st.booleans(),
    resized=st.booleans(),
    data=st.data(),
    flips=st.sets(st.sampled_from(FLIPS)),
    degrees=st.sampled_from([0.0, 30.0, 180.0]),
    elastic=st.sampled_from([0.0, 1.5]),
    seed=st.integers(0, 2**31),
)
def test_image_and_mask_show_the_same_place(ramps, axis, orientation, reduced, resized, data, flips, degrees, elastic, seed) -> None:
    size = data.draw(st.tuples(*[st.integers(8, 12) if reduced else st.integers(18, 24)] * 3))
    spacing = data.draw(st.tuples(*[st.floats(1.5, 3) if reduced else st.floats(0.4, 1.2)] * 3))
    preprocessing = whole(size, orientation) if resized else patches(size, spacing, orientation)
    changes = STILL | {"rotation_degrees": degrees, "flip_axes": tuple(sorted(flips)), "probability": 1, "scale_range": (0.9, 1.15)}
    changes |= {"elastic_mm": elastic, "elastic_spacing_mm": 9.0}
    views = SegmentationTrainingViews([ramps[axis, orientation]], preprocessing, SegmentationAugmentation(**changes), (), 1, seed)
    view = views[SampleKey(0, 0)]
    place, label = view["image"][0].numpy() * (SHAPE[axis] - 1), view["mask"].numpy()
    clear = np.abs(place - np.floor(place) - 0.5) > 1e-2  # not halfway between two voxels
    if reduced:  # an image that is reduced beyond 2x is averaged over cells of voxels, which end at its borders
        clear &= (place > 6) & (place < SHAPE[axis] - 7)
    assert np.array_equal(np.rint(place[clear]), label[clear])


def test_views_depend_on_the_key_alone(ramps) -> None:
    one, two = (SegmentationTrainingViews([ramps[0, "RAS"]], whole((8, 8, 8)), SegmentationAugmentation(), (), 1, 3) for _ in range(2))
    first = one[SampleKey(4, 0)]
    _ = two[SampleKey(0, 0)]
    again = two[SampleKey(4, 0)]
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["mask"], again["mask"])
    assert not torch.equal(first["image"], one[SampleKey(5, 0)]["image"])
    other_seed = SegmentationTrainingViews([ramps[0, "RAS"]], whole((8, 8, 8)), SegmentationAugmentation(), (), 1, 4)
    assert not torch.equal(first["image"], other_seed[SampleKey(4, 0)]["image"])
    assert (first["image"].dtype, first["image"].shape) == (torch.float32, (1, 8, 8, 8))
    assert (first["mask"].dtype, first["mask"].shape) == (torch.int64, (8, 8, 8))


def test_a_row_is_a_patch_of_its_case(ramps) -> None:
    cases = [ramps[0, "RAS"], ramps[1, "RAS"]]
    views = SegmentationTrainingViews(cases, patches((4, 4, 4), (1, 1, 1)), SegmentationAugmentation(**STILL), (), 3, 0)
    assert len(views) == 6
    masks = [views[SampleKey(0, row)]["mask"].float() for row in range(6)]
    varying = [int(np.argmax([float(mask.std(dim=axis).max()) for axis in range(3)])) for mask in masks]
    assert varying == [varying[0], varying[1]] * 3
    assert varying[0] != varying[1]
    assert len({float(mask.mean()) for mask in masks[::2]}) == 3  # three places of one case


def test_sided_labels_change_with_a_left_right_flip_and_with_no_other(tmp_path: Path) -> None:
    right_half = np.indices(SHAPE)[2] >= SHAPE[2] // 2  # the file's third axis runs to the right
    mask = np.where(right_half, 1, 2).astype(np.uint8)
    volumes = case_volumes(tmp_path, mask.astype(np.int16), mask)
    augmentation = SegmentationAugmentation(**STILL | {"flip_axes": FLIPS})
    plain = SegmentationTrainingViews([volumes], whole((18, 14, 20)), augmentation, (), 1, 0)
    sided = SegmentationTrainingViews([volumes], whole((18, 14, 20)), augmentation, [(1, 2)], 1, 0)
    seen = set()
    for epoch in range(20):
        key = SampleKey(epoch, 0)
        mirrored = mirrors_sides(draw_pose(generator(0, epoch, 0), augmentation, "RAS"), "RAS")
        seen.add(mirrored)
        assert (int(plain[key]["mask"][0, 0, 0]) == 1) == mirrored
        assert int(sided[key]["mask"][0, 0, 0]) == 2  # the first voxel of RAS is on the left, whatever it shows
        assert torch.equal(plain[key]["image"], sided[key]["image"])
    assert seen == {True, False}


def test_a_third_of_the_patches_look_at_a_structure_and_all_lie_in_the_volume(tmp_path: Path) -> None:
    mask = np.zeros((40, 40, 40), np.uint8)
    mask[20, 20, 20] = mask[39, 39, 39] = 1
    volumes = case_volumes(tmp_path, np.full((40, 40, 40), 1, np.int16) + mask, mask)
    spacing = volumes.image().grid.spacing
    # An odd size puts a voxel of the view on the structure's own, and not halfway between two, where rounding decides.
    views = SegmentationTrainingViews([volumes], patches((5, 5, 5), spacing), SegmentationAugmentation(**STILL), (), 1, 0)
    hits = np.mean([bool(views[SampleKey(epoch, 0)]["mask"].any()) for epoch in range(300)])
    assert 0.25 < hits < 0.42  # a patch anywhere meets one of them with a chance of 0.4 %


def test_a_patch_larger_than_the_volume_shows_background_around_it(tmp_path: Path) -> None:
    ones = np.ones((6, 6, 6), np.uint8)
    image = ones.astype(np.int16) * 50
    image[0, 0, 0] = 10
    volumes = case_volumes(tmp_path, image, ones)
    spacing = volumes.image().grid.spacing
    view = SegmentationTrainingViews([volumes], patches((10, 10, 10), spacing), SegmentationAugmentation(**STILL), (), 1, 0)[
        SampleKey(0, 0)
    ]
    inside = torch.zeros(10, 10, 10, dtype=torch.bool)
    inside[2:8, 2:8, 2:8] = True
    assert torch.equal(view["mask"] == 1, inside)
    assert float(view["image"][0][~inside].max()) == 0
    assert float(view["image"][0][inside].mean()) > 0.9
    evaluated = EvaluationCases([volumes], patches((10, 10, 10), spacing))[SampleKey(0, 0)]
    assert torch.allclose(evaluated.image, view["image"], atol=1e-6)  # a test shows the network what training did


@pytest.mark.parametrize("patch", [(10, 10, 10), (9, 13, 8), (4, 11, 4)])
def test_what_is_found_in_a_volume_smaller_than_a_patch_lies_on_its_own_voxels(tmp_path: Path, patch: tuple[int, int, int]) -> None:
    labels = (np.random.default_rng(0).random((6, 7, 8)) < 0.5).astype(np.uint8)
    volumes = case_volumes(tmp_path, labels.astype(np.int16), labels)
    case = EvaluationCases([volumes], patches(patch, volumes.image().grid.spacing))[SampleKey(0, 0)]
    seen = case.image[0] - 0.5
    found = labels_on_grid(torch.stack([-seen, seen]), case.matrix, case.grid.shape)
    assert np.array_equal(found, case.mask)


def test_the_share_of_patches_on_a_structure_can_be_set(tmp_path: Path) -> None:
    mask = np.zeros((40, 40, 40), np.uint8)
    mask[20, 20, 20] = 1
    volumes = case_volumes(tmp_path, np.full((40, 40, 40), 1, np.int16) + mask, mask)
    for share in (0.0, 1.0):
        views = SegmentationTrainingViews(
            [volumes], patches((5, 5, 5), volumes.image().grid.spacing), SegmentationAugmentation(**STILL), (), 1, 0, share
        )
        assert np.mean([bool(views[SampleKey(epoch, 0)]["mask"].any()) for epoch in range(20)]) == share


def test_elastic_changes_move_image_and_mask_off_their_places(ramps) -> None:
    soft = SegmentationAugmentation(**STILL | {"elastic_mm": 2.0, "elastic_spacing_mm": 12.0, "probability": 1})
    changed, plain = (
        SegmentationTrainingViews([ramps[1, "RAS"]], whole((18, 14, 20)), augmentation, (), 1, 0)[SampleKey(0, 0)]
        for augmentation in (soft, SegmentationAugmentation(**STILL))
    )
    moved = (changed["mask"] - plain["mask"])[4:-4, 4:-4, 4:-4].abs()  # inside, where nothing comes from beyond the border
    assert 0 < int(moved.max()) <= 3
    assert float((changed["image"] - plain["image"]).abs().max()) > 0


def test_grey_values_change_and_labels_do_not(ramps) -> None:
    loud = SegmentationAugmentation(
        gamma_range=(0.5, 2), noise_std=0.2, probability=1, rotation_degrees=0, scale_range=(1, 1), elastic_mm=0
    )
    changed, plain = (
        SegmentationTrainingViews([ramps[0, "RAS"]], whole((18, 14, 20)), augmentation, (), 1, 0)[SampleKey(0, 0)]
        for augmentation in (loud, SegmentationAugmentation(**STILL))
    )
    assert torch.equal(changed["mask"], plain["mask"])
    assert float((changed["image"] - plain["image"]).abs().mean()) > 0.05


def test_a_case_for_evaluation_is_the_whole_volume_unchanged(ramps) -> None:
    volumes = ramps[1, "LIP"]
    for preprocessing in (whole(volumes.image().grid.shape, "LIP"), patches((4, 4, 4), volumes.image().grid.spacing, "LIP")):
        case = EvaluationCases([ramps[0, "LIP"], volumes], preprocessing)[SampleKey(0, 1)]
        assert case.case is volumes.case
        assert np.allclose(case.image[0].numpy() * (SHAPE[1] - 1), volumes.mask().array, atol=1e-4)
        assert np.allclose(case.matrix, np.eye(4))
        assert np.array_equal(case.mask, volumes.mask().array)
        assert case.grid.orientation == "LIP"
        assert np.array_equal(case.source.affine, AFFINE)
