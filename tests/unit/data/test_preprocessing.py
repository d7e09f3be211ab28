"""What travels in checkpoints and is done to every scan."""

import numpy as np
import pytest
import torch

from fuse_examples.imaging.oai_example.data.intensity import measure
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.geometry.volume import Grid
from fuse_examples.imaging.oai_example.training.checkpoints import check_plain

WHOLE = Preprocessing("RAS", "percentile", (0.5, 99.5), None, (8, 16, 24))
PATCHES = Preprocessing("PIR", "window", None, (-100.0, 300.0), None, (8, 8, 8), (1.0, 0.5, 0.5))


@pytest.mark.parametrize("preprocessing", [WHOLE, PATCHES])
def test_it_travels_as_plain_values(preprocessing: Preprocessing) -> None:
    values = preprocessing.as_dict()
    check_plain(values)
    assert Preprocessing.from_dict(values) == preprocessing


@pytest.mark.parametrize(
    ("resize_to", "patch_size", "spacing"),
    [(None, None, None), ((8,) * 3, (8,) * 3, (1.0,) * 3), (None, (8,) * 3, None), ((8,) * 3, None, (1.0,) * 3)],
)
def test_one_size_or_patches_with_their_spacing(resize_to, patch_size, spacing) -> None:
    with pytest.raises(ValueError, match="either resize_to, or patch_size and spacing"):
        Preprocessing("RAS", "percentile", None, None, resize_to, patch_size, spacing)


def test_what_the_network_gets() -> None:
    assert WHOLE.network_size == (8, 16, 24)
    assert PATCHES.network_size == (8, 8, 8)
    volume = np.array([[[-200, 100], [300, 900]]], np.int16)
    window = PATCHES.normalisation(measure(volume, (0, 100)))
    assert window(torch.tensor([-200.0, 100.0, 300.0, 900.0])).tolist() == [0, 0.5, 1, 1]
    assert window.background == -100


def test_a_resized_volume_keeps_its_box() -> None:
    matrix, shape = WHOLE.whole_view(Grid((16, 16, 12), np.diag([3.0, 0.5, 0.25, 1])))
    assert shape == (8, 16, 24)
    assert np.allclose(matrix, [[2, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 0.5, -0.25], [0, 0, 0, 1]])  # half voxels: edges are aligned


def test_a_volume_at_a_spacing_keeps_its_box_too() -> None:
    matrix, shape = PATCHES.whole_view(Grid((10, 41, 83), np.diag([2.0, 0.25, 0.1, 1])))
    assert shape == (20, 21, 17)  # 20 mm, 10.25 mm and 8.3 mm
    step = np.array([10 / 20, 41 / 21, 83 / 17])
    assert np.allclose(matrix[:3, :3], np.diag(step))
    assert np.allclose(matrix[:3, 3], step / 2 - 0.5)


def test_a_volume_smaller_than_a_patch_lies_in_the_middle_of_one() -> None:
    matrix, shape = PATCHES.whole_view(Grid((5, 5, 3), np.diag([1.0, 0.5, 0.1, 1])))
    assert shape == (8, 8, 8)
    assert np.allclose(matrix[:3, :3], np.diag([1, 1, 3]))  # 0.3 mm are one voxel of 0.5 mm: never less than one
    assert np.allclose(matrix[:3, 3], [-1, -1, 1 - 3 * 3])  # by whole voxels: three are missing, and three, and seven


@pytest.mark.parametrize("voxels", [24, 25, 26, 27])
def test_the_size_at_a_spacing_does_not_hang_on_the_last_digit(voxels: int) -> None:
    """DICOM says 0.7 mm, the NIfTI made of it the single-precision number next to it: 25 voxels are 17.5 mm or a little less."""
    at_one = Preprocessing("RAS", "percentile", (0.5, 99.5), None, None, (8, 8, 8), (1.0, 1.0, 1.0))
    dicom, nifti = 0.7, float(np.float32(0.7))
    assert nifti != dicom
    shapes = {at_one.whole_view(Grid((voxels,) * 3, np.diag([spacing] * 3 + [1.0])))[1] for spacing in (dicom, nifti, 2 * dicom - nifti)}
    assert len(shapes) == 1
