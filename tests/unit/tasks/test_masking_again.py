"""`benchmarks/masking_again.py`: maps are empty in masked cells after every stage but the last, and only while a masked view is seen."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.models.backbone import Backbone, build_backbone
from fuse_examples.imaging.oai_example.tasks.masked_passes import masked_student

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "masking_again.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("masking_again", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.masked_passes, "_masked", module.mask_after_stages)
    return module


def one_masked_of_two() -> tuple[list[Tensor], Tensor]:
    """Two views (1, 1, 16, 16, 16); the second has 3 of its 8 cells masked."""
    masks = torch.zeros(2, 1, 2, 2, 2, dtype=torch.bool)
    masks[1, 0, 0, 0, :] = masks[1, 0, 1, 1, 0] = True
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(1, 1, 16, 16, 16, generator=generator) for _ in range(2)], masks


def maps_of_masked(backbone: Backbone, views: list[Tensor], masks: Tensor) -> list[Tensor]:
    """What the decoder is given of the masked view: the maps of four stages."""
    given: list[list[Tensor]] = []
    decode = backbone.decode
    backbone.decode = lambda features: given.append(list(features[1:])) or decode(features)  # type: ignore[func-returns-value, method-assign]
    head = torch.nn.Linear(backbone.feature_dim, 3)
    masked_student(backbone, head, {"views": views, "n_global": 2, "masks": masks}, decode=True)
    return given[-1]


def test_all_maps_but_the_deepest_are_empty_in_masked_cells_and_only_there(script: ModuleType) -> None:
    torch.manual_seed(0)
    backbone = build_backbone("unet3d", width=2)
    views, masks = one_masked_of_two()
    maps = maps_of_masked(backbone, views, masks)
    for number, one in enumerate(maps):
        inside = masks[1].repeat_interleave(8 >> number, 1).repeat_interleave(8 >> number, 2).repeat_interleave(8 >> number, 3)
        assert (one.abs().amax(dim=1)[inside].max() == 0) == (number < 3), number
        seen = one.abs().amax(dim=1)[~inside]
        assert (seen > 0).float().mean() > 0.5, number
    # Written a second time, without hooks: the stages with a mask between them.
    hidden, x = (
        masks[1][:, None],
        script.masked_passes.hide(views[1], masks[1][:, None].repeat_interleave(8, 2).repeat_interleave(8, 3).repeat_interleave(8, 4)),
    )
    for number, name in enumerate(("down_tr64", "down_tr128", "down_tr256", "down_tr512")):
        x = backbone.get_submodule(name)(x)
        again = (
            F.interpolate(hidden.double(), scale_factor=8 >> number, mode="nearest").bool()
            if number < 3
            else torch.zeros_like(x[:, :1]).bool()
        )
        x = torch.where(again, 0.0, x)
        torch.testing.assert_close(maps[number], x, rtol=1e-5, atol=1e-5)
        x = F.max_pool3d(x, 2)


def test_a_pass_without_masks_is_as_ever(script: ModuleType) -> None:
    torch.manual_seed(0)
    backbone = build_backbone("unet3d", width=2).eval()
    views, masks = one_masked_of_two()
    before = backbone.embed(views[0])
    maps_of_masked(backbone, views, masks)
    assert torch.equal(backbone.embed(views[0]), before)
    assert not [module for module in backbone.modules() if module._forward_hooks]


def test_another_backbone_is_refused(script: ModuleType) -> None:
    with pytest.raises(ConfigError, match="backbone is resnet3d; masking again after stages is written for unet3d alone"):
        maps_of_masked(build_backbone("resnet3d", width=2, depth=10), *one_masked_of_two())
