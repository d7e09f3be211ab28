"""Pictures of views: which volume, which slices, when, and under which names."""

from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from fuse_examples.imaging.oai_example.evaluation import view_pictures
from fuse_examples.imaging.oai_example.evaluation.view_pictures import InputPictures, ViewPictures, contact_sheet


def views(n: int, size: tuple[int, int, int] = (4, 6, 8)) -> list[Tensor]:
    """Views of two volumes; the first volume's values rise along every axis."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(float(length)) for length in size], indexing="ij")).sum(dim=0)
    return [torch.stack([grid + number, -grid])[:, None] for number in range(n)]


def pictures_of(callback: Any, batch: dict[str, Any], epoch: int = 0, batch_idx: int = 0, first: bool = True) -> dict[str, np.ndarray]:
    trainer = SimpleNamespace(current_epoch=epoch, is_global_zero=first, loggers=["tracker"], global_step=7)
    with mock.patch.object(view_pictures, "log_image") as log_image:
        callback.on_train_batch_start(trainer, None, batch, batch_idx)
    for call in log_image.call_args_list:
        assert (call.args[0], call.args[3]) == (["tracker"], 7)
    return {call.args[1]: call.args[2] for call in log_image.call_args_list}


def test_a_sheet_shows_the_three_middle_slices_in_full_range() -> None:
    view = views(1)[0][0, 0]
    sheet = contact_sheet([view])
    assert sheet.dtype == np.uint8
    assert sheet.shape == (6 + 2, 8 + 2 + 8 + 2 + 6 + 2)
    grey = (view / view.max() * 255).numpy().astype(np.uint8)
    np.testing.assert_array_equal(sheet[:6, :8], grey[2])
    np.testing.assert_array_equal(sheet[:4, 10:18], grey[:, 3])
    np.testing.assert_array_equal(sheet[:4, 20:26], grey[:, :, 4])


def test_a_constant_view_and_views_of_several_sizes_are_no_obstacle() -> None:
    sheet = contact_sheet([torch.ones(4, 4, 4), torch.rand(6, 8, 10)])
    assert sheet.shape == (4 + 2 + 8 + 2, 10 + 2 + 10 + 2 + 8 + 2)
    assert not sheet[:4].any()


def test_views_of_the_first_volume_by_kind() -> None:
    pictures = pictures_of(ViewPictures(1, 2), {"views": views(3)})
    assert {name: picture.shape[0] for name, picture in pictures.items()} == {"views/global": 2 * (6 + 2), "views/local": 6 + 2}
    np.testing.assert_array_equal(pictures["views/local"], contact_sheet([views(3)[2][0, 0]]))
    assert list(pictures_of(ViewPictures(1, 2), {"views": views(2)})) == ["views/global"]


def test_inputs_of_the_first_four_volumes() -> None:
    pictures = pictures_of(InputPictures(1), {"image": torch.rand(6, 1, 4, 6, 8)})
    assert {name: picture.shape[0] for name, picture in pictures.items()} == {"train/view": 4 * (6 + 2)}


@pytest.mark.parametrize("callback", [ViewPictures(3, 1), InputPictures(3)])
def test_every_few_epochs_in_the_first_batch_and_in_the_first_process(callback: Any) -> None:
    batch = {"views": views(2), "image": torch.rand(1, 1, 4, 6, 8)}
    assert [epoch for epoch in range(7) if pictures_of(callback, batch, epoch)] == [0, 3, 6]
    assert not pictures_of(callback, batch, batch_idx=1)
    assert not pictures_of(callback, batch, first=False)
    assert not pictures_of(type(callback)(0, *([1] if isinstance(callback, ViewPictures) else [])), batch)
