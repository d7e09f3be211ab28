import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest

from fuse_examples.imaging.oai_example.evaluation.masks import mask_path, write_mask
from fuse_examples.imaging.oai_example.geometry.volume import Grid, from_file_order, to_source_order


def oblique(angle: float = 0.3) -> np.ndarray:
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ turn[:, [2, 0, 1]] @ np.diag([0.7, 0.365, 0.365])
    affine[:3, 3] = (-57.1, 33.2, 101.9)
    return affine


@pytest.mark.parametrize(("highest", "dtype"), [(6, np.uint8), (255, np.uint8), (256, np.int16), (40000, np.int32)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flip", [1, -1])
def test_mask_has_the_inputs_shape_affine_and_labels(
    tmp_path: Path, highest: int, dtype: type, order: tuple[int, int, int], flip: int
) -> None:
    affine = oblique()
    affine[:3, :3] = affine[:3, list(order)]
    affine[:3, 0] *= flip
    source = Grid((3, 4, 5), affine)
    labels = np.random.default_rng(0).integers(0, highest + 1, (3, 4, 5))
    labels[0, 0, 0] = highest
    volume = from_file_order(labels, affine)
    path = mask_path(tmp_path, "P1_V00")
    write_mask(path, to_source_order(volume.array, volume.grid, volume.source), source)
    image = nibabel.load(path)
    assert path == tmp_path / "segmentations" / "P1_V00.nii.gz"
    assert image.get_data_dtype() == dtype
    assert np.array_equal(np.asarray(image.dataobj), labels)
    assert np.allclose(image.affine, affine, atol=1e-4)
    assert np.allclose(image.get_qform(), affine, atol=1e-4)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert np.allclose(image.header.get_zooms(), source.spacing)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_sheared_grid_has_the_matrix_alone(tmp_path: Path) -> None:
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[0, 2] = 0.4  # a tilted gantry
    write_mask(tmp_path / "a.nii.gz", np.zeros((2, 2, 2), np.uint8), Grid((2, 2, 2), affine))
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert np.allclose(image.affine, affine)
    assert int(image.header["qform_code"]) == 0
    assert int(image.header["sform_code"]) == 1


def test_the_same_labels_give_the_same_bytes(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (4, 4, 4)).astype(np.uint8)
    for name in ("a.nii.gz", "b.nii.gz"):
        write_mask(tmp_path / name, labels, Grid((4, 4, 4), np.eye(4)))
    first, second = ((tmp_path / name).read_bytes() for name in ("a.nii.gz", "b.nii.gz"))
    assert first == second


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nii.gz"
    write_mask(path, np.ones((2, 2, 2), np.uint8), Grid((2, 2, 2), np.eye(4)))
    before = path.read_bytes()

    def half(image: object, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(nibabel, "save", half)
    with pytest.raises(OSError, match="disk full"):
        write_mask(path, np.zeros((2, 2, 2), np.uint8), Grid((2, 2, 2), np.eye(4)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_a_mask_is_refused(tmp_path: Path) -> None:
    grid = Grid((2, 2, 2), np.eye(4))
    with pytest.raises(ValueError, match=r"labels of shape \(2, 2, 3\) on a grid of shape \(2, 2, 2\)"):
        write_mask(tmp_path / "a.nii.gz", np.zeros((2, 2, 3), np.uint8), grid)
    for labels in (np.zeros((2, 2, 2)), np.full((2, 2, 2), -1)):
        with pytest.raises(ValueError, match=f"labels of type {labels.dtype}; expected integers from 0 on"):
            write_mask(tmp_path / "a.nii.gz", labels, grid)
    for name in itertools.chain(("../a", "a/b", "", ".hidden", "..")):
        with pytest.raises(ValueError, match="cannot name a file"):
            mask_path(tmp_path, name)
