"""What a pre-training configuration is made of."""

import pytest

from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.models.backbone import build_backbone
from fuse_examples.imaging.oai_example.stages.dino_parts import dino_task
from fuse_examples.imaging.oai_example.tasks.masked_dino import MaskedDINOTask

HEAD = {"n_prototypes": 5, "hidden_dim": 4, "bottleneck_dim": 3}


@pytest.mark.parametrize(("of_views", "of_cells"), [("moving_average", "sinkhorn"), ("sinkhorn", "moving_average")])
def test_views_and_masked_cells_are_centred_each_as_their_key_says(of_views: str, of_cells: str) -> None:
    masking = {"patch_weight": 1.0, "patch_centering": of_cells}
    config = DINOConfig.model_validate({"experiment": "e", "csv_path": "x.csv", "head": HEAD, "centering": of_views, "masking": masking})
    task = dino_task(config, build_backbone("unet3d", with_decoder=False, in_channels=1, width=2))
    assert isinstance(task, MaskedDINOTask)
    assert task.patch_criterion is not None
    assert (task.criterion.centering, task.patch_criterion.centering) == (of_views, of_cells)
