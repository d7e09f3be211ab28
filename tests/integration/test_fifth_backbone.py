"""A further backbone is one file in `models` and one line in the catalogue: with its own option it goes through all three stages."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_stages

from fuse_examples.imaging.oai_example import models
from fuse_examples.imaging.oai_example.catalogue import BACKBONES
from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint

FILE = '''
from torch import nn
from torch.nn import functional as F

from fuse_examples.imaging.oai_example.models.backbone import Backbone


class Fifth(Backbone):
    """Halve and double."""

    name = "fifth"
    size_multiple = 4
    smallest_size = 4
    encoder_prefixes = ("down.",)
    decoder_prefixes = ("up.",)

    def __init__(self, in_channels=1, width=4, strength=1.0, pooling="average", *, with_decoder=True):
        super().__init__({"in_channels": in_channels, "width": width, "strength": strength}, pooling=pooling, with_decoder=with_decoder)
        self.feature_dim = self.decoder_dim = width
        self.down = nn.Conv3d(in_channels, width, 4, stride=4)
        if with_decoder:
            self.up = nn.ConvTranspose3d(width, width, 4, stride=4)

    def _encode(self, x):
        return [F.relu(self.down(x)) * self.options["strength"]]

    def _decode(self, features):
        return self.up(features[-1])
'''


@pytest.fixture
def fifth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "fifth.py").write_text(FILE)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(folder)])
    monkeypatch.setitem(BACKBONES, "fifth", "models.fifth:Fifth")
    yield
    sys.modules.pop(f"{models.__name__}.fifth", None)


@pytest.mark.usefixtures("fifth")
def test_one_file_and_one_line(tmp_path: Path) -> None:
    # Four training cases two by two: two optimiser steps a stage. Sizes are no multiples of 4 along one axis: they are padded.
    cases, results = small_stages.write_cases(tmp_path / "scans"), tmp_path / "results"
    crops = {"global_size": [10, 16, 16], "local_size": [8, 8, 9], "n_local": 1}
    pretrained = small_stages.run("dino", cases, results, backbone="fifth", backbone_options={"strength": 0.5}, crops=crops)

    common = {"dino_weights": str(pretrained / "backbone.safetensors"), "backbone": None, "width": None, "resize_to": [10, 16, 16]}
    for stage, own, new in (
        ("classification", {"layer_decay": 0.5}, []),
        ("segmentation", {"freeze_backbone": True}, ["up.weight", "up.bias"]),
    ):
        folder = small_stages.run(stage, cases, results, **common, **own)
        report = small_stages.read_json(folder / "load_report.json")
        assert (report["network"], report["encoder"]) == ("fifth", {"loaded": 2, "total": 2, "share": 1.0})
        assert report["missing"] == new
        assert "strength: 0.5" in (folder / "config.yaml").read_text()
        assert read_checkpoint(folder / "checkpoints" / "last.ckpt", "test_ckpt")["global_step"] == 2
