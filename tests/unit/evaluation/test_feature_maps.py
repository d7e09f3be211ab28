"""Maps of principal components and the projector's files, against independent computations and what TensorBoard reads."""

from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from sklearn.decomposition import PCA
from tensorboard.plugins.projector import ProjectorConfig

from fuse_examples.imaging.oai_example.evaluation.feature_maps import map_sheet, principal_colours
from fuse_examples.imaging.oai_example.evaluation.projector import THUMBNAIL, write_projector


def maps(n: int = 2, channels: int = 6) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(channels, channels)) * np.array([9.0, 4, 2, 0.1, 0.1, 0.1])[:channels]
    return [np.tensordot(mixing, rng.normal(size=(channels, 3, 4, 5)), axes=1).astype(np.float32) for _ in range(n)]


def test_colours_are_the_first_three_components_of_all_cells_together() -> None:
    given = maps()
    cells = np.concatenate([one.reshape(6, -1).T for one in given]).astype(float)
    reference = PCA(n_components=3, svd_solver="full").fit(cells)
    places = reference.transform(cells)
    signs = np.sign(reference.components_[np.arange(3), np.abs(reference.components_).argmax(axis=1)])
    places *= signs
    low, high = np.percentile(places, (2, 98), axis=0)
    expected = np.clip((places - low) / (high - low), 0, 1).reshape(2, 3, 4, 5, 3)
    found = principal_colours(given)
    for one, wanted in zip(found, expected, strict=True):
        assert one.shape == (3, 3, 4, 5)
        np.testing.assert_allclose(np.moveaxis(one, 0, -1), wanted, atol=1e-5)


def test_fewer_channels_and_constant_maps_are_no_obstacle() -> None:
    (two,) = principal_colours(maps(1, channels=2))
    assert two[:2].max() == 1
    assert not two[2].any()
    (constant,) = principal_colours([np.ones((5, 2, 2, 2), np.float32)])
    assert constant.shape == (3, 2, 2, 2)
    assert not constant.any()


def test_each_colour_lies_below_the_voxels_of_its_cell() -> None:
    """An image of 12 x 16 x 16 voxels in cells of 8: two voxels of padding on each side along the first axis."""
    image = np.random.default_rng(1).random((12, 16, 16)).astype(np.float32)
    colours = np.zeros((3, 2, 2, 2), np.float32)
    colours[0, 1, 0, 1] = 1.0  # red in one cell
    colours[1, 0, 1, 1] = 0.5
    sheet = map_sheet(image, colours, 8)
    assert sheet.shape == (2 * (16 + 2), (16 + 2) * 2 + 18, 3)
    grey = (np.float32(255) * (image - image.min()) / (image.max() - image.min())).astype(np.uint8)
    assert np.abs(sheet[:16, :16].astype(int) - grey[6][:, :, None]).max() <= 1
    across, of_second, of_third = sheet[18:34, :16], sheet[18:30, 18:34], sheet[18:30, 36:52]
    assert (across == 0).all(axis=(0, 1))[1], "the sixth slice lies in the second cell along the first axis"
    assert (across[:8, 8:, 0] == 255).all()
    assert across[:, :8].max() == across[8:].max() == 0
    # The middle of the second axis, voxel 8, is in its second cell: green from the first axis' first cell, voxels 0 to 5.
    assert (of_second[:6, 8:, 1] == 127).all()
    assert of_second[6:].max() == of_second[:, :8].max() == 0
    assert of_third[:6, :8].max() == 0
    assert (of_third[6:, :8, 0] == 255).all()
    assert (of_third[:6, 8:, 1] == 127).all()


HEADER = ["case", "fold", "size"]
ROWS = [["one", "0", "large"], ["two\twith tab", "0", ""], ["three", "1", "small"]]


def slices() -> list[np.ndarray]:
    return [np.full(size, value, np.uint8) for size, value in (((8, 8), 50), ((4, 16), 150), ((16, 4), 250))]


def config(folder: Path) -> ProjectorConfig:
    return text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())


def test_the_projectors_files(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    write_projector(tmp_path, 7, features, HEADER, ROWS, slices())
    (embedding,) = config(tmp_path).embeddings
    assert embedding.tensor_name == "features (latest, step 7)"
    read = np.loadtxt(tmp_path / embedding.tensor_path, delimiter="\t")
    np.testing.assert_allclose(read, features, rtol=1e-5)
    lines = (tmp_path / embedding.metadata_path).read_text().splitlines()
    assert [line.split("\t") for line in lines] == [HEADER, ["one", "0", "large"], ["two with tab", "0", ""], ["three", "1", "small"]]
    sprite = np.asarray(Image.open(tmp_path / embedding.sprite.image_path))
    assert list(embedding.sprite.single_image_dim) == [THUMBNAIL, THUMBNAIL]
    assert sprite.shape == (2 * THUMBNAIL, 2 * THUMBNAIL)
    half, quarter = THUMBNAIL // 2, THUMBNAIL // 8
    assert (sprite[:THUMBNAIL, :THUMBNAIL] == 50).all()
    wide, high = sprite[:THUMBNAIL, THUMBNAIL:], sprite[THUMBNAIL:, :THUMBNAIL]
    assert wide[half, 0] == 150
    assert high[0, half] == 250
    assert wide[quarter].max() == high[:, quarter].max() == 0, "proportions are kept"
    assert not sprite[THUMBNAIL:, THUMBNAIL:].any()


def test_steps_gather_the_latest_first_and_those_of_a_cut_off_run_go(tmp_path: Path) -> None:
    for step in (4, 8, 12):
        write_projector(tmp_path, step, np.full((3, 2), step, np.float32), HEADER, ROWS, slices())
    names = [one.tensor_name for one in config(tmp_path).embeddings]
    assert names == ["features of step 000004", "features of step 000008", "features (latest, step 12)"]
    assert min(names) == names[-1], "the one that TensorBoard shows"
    write_projector(tmp_path, 8, np.zeros((3, 2), np.float32), HEADER, ROWS, slices())
    found = config(tmp_path).embeddings
    assert [one.tensor_name for one in found] == ["features of step 000004", "features (latest, step 8)"]
    assert np.loadtxt(tmp_path / found[1].tensor_path).max() == 0
    assert len(list((tmp_path / "projector").iterdir())) == 4


def test_a_single_column_has_no_header(tmp_path: Path) -> None:
    write_projector(tmp_path, 1, np.zeros((1, 2), np.float32), ["case"], [["one"]], slices()[:1])
    assert (tmp_path / "projector" / "cases.tsv").read_text() == "one\n"


@pytest.mark.parametrize("size", [(1, 300), (300, 1)])
def test_a_very_long_slice_is_a_line(tmp_path: Path, size: tuple[int, int]) -> None:
    write_projector(tmp_path, 1, np.zeros((1, 2), np.float32), ["case"], [["one"]], [np.full(size, 9, np.uint8)])
    assert (np.asarray(Image.open(tmp_path / "projector" / "thumbnails.png")) == 9).sum() == THUMBNAIL
