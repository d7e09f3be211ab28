"""Every null of a configuration that stands for something becomes that, in one place."""

from pathlib import Path

import pytest

from fuse_examples.imaging.oai_example.configuration.loading import load_config
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.data.preprocessing import Preprocessing
from fuse_examples.imaging.oai_example.errors import ConfigError
from fuse_examples.imaging.oai_example.stages.resolution import build_configured_backbone, preprocessing_of, resolved, store_of


@pytest.fixture
def load(tmp_path: Path):
    yaml_path = tmp_path / "config.yaml"
    yaml_path.write_text(
        "experiment: one\nresults_dir: out\ncsv_path: cases.csv\ntrain_folds: [0]\nval_folds: [1]\ntest_folds: [2]\nnum_classes: 3\n"
        "resize_to: [16, 16, 16]\n"
    )
    return lambda *words: load_config(SegmentationConfig, yaml_path, words)


def test_nulls_take_the_defaults_and_the_backbones_own_options(load) -> None:
    config = load()
    assert (config.backbone, config.width, config.norm_statistics, config.orientation, config.intensity.method) == (None,) * 5
    settled = resolved(config, build_configured_backbone(load("width=4"), with_decoder=True))
    assert (settled.backbone, settled.width, settled.orientation, settled.intensity.method) == ("unet3d", 4, "RAS", "percentile")
    assert settled.intensity.percentiles == (0.5, 99.5)
    assert settled.norm_statistics is not None
    assert config.width is None  # as loaded


@pytest.mark.parametrize("statistics", ["running", "batch", "instance"])
def test_the_backbone_is_built_with_what_is_set(load, statistics: str) -> None:
    backbone = build_configured_backbone(load("width=6", f"norm_statistics={statistics}"), with_decoder=False)
    assert (backbone.name, backbone.options["width"], backbone.options["norm_statistics"]) == ("unet3d", 6, statistics)
    assert backbone.decoder_parameter_names() == ()


def test_what_the_stage_has_found_out_is_kept(load) -> None:
    config = load("resize_to=null", "patch_size=[8, 8, 8]", "width=4")
    settled = resolved(config, build_configured_backbone(config, with_decoder=True), spacing=(1.0, 0.5, 0.5))
    assert settled.spacing == (1.0, 0.5, 0.5)
    made = preprocessing_of(settled, settled.resize_to, settled.patch_size, settled.spacing)
    assert made == Preprocessing("RAS", "percentile", (0.5, 99.5), None, None, (8, 8, 8), (1.0, 0.5, 0.5))


def test_a_window_needs_no_percentiles(load) -> None:
    config = load("width=4", "intensity={method: window, window: [-100, 300]}", "orientation=PIR")
    settled = resolved(config, build_configured_backbone(config, with_decoder=True))
    made = preprocessing_of(settled, settled.resize_to)
    assert (made.method, made.window, made.percentiles, made.orientation) == ("window", (-100.0, 300.0), None, "PIR")
    assert store_of(settled).percentiles == (0.0, 100.0)


def test_the_store_lies_in_the_results_unless_it_is_named(load) -> None:
    for words, folder in (((), Path("out/.store")), (("store.path=elsewhere",), Path("elsewhere"))):
        config = load("width=4", *words)
        store = store_of(resolved(config, build_configured_backbone(config, with_decoder=True)))
        assert (store.folder, store.orientation, store.percentiles) == (folder, "RAS", (0.5, 99.5))


def test_options_reach_the_backbone_and_are_told_in_full(load) -> None:
    config = load("backbone=resnet3d", "width=2", "backbone_options={depth: 10, layout: monai}", "gradient_checkpointing=true")
    backbone = build_configured_backbone(config, with_decoder=False)
    assert (backbone.options["depth"], backbone.options["layout"], backbone.gradient_checkpointing) == (10, "monai", True)
    assert resolved(config, backbone).backbone_options == {"depth": 10, "shortcut": "B", "layout": "monai"}
    plain = load("width=2")
    assert resolved(plain, build_configured_backbone(plain, with_decoder=False)).backbone_options is None


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["backbone_options={depth: 10}"],
            "command line: backbone_options={depth: 10}: unet3d has no option 'depth'; its options are in_channels, width, "
            "norm_statistics, pooling.",
        ),
        (["backbone=swin_unetr", "width=2"], "command line: width=2: width is 2; it is a positive multiple of 12."),
        (
            ["backbone=resnet3d", "backbone_options={depth: 11}"],
            "command line: backbone_options={depth: 11}: depth is 11; it is one of 10, 18, 34, 50",
        ),
        (
            ["backbone=segresnet", "norm_statistics=batch"],
            "command line: norm_statistics=batch: segresnet has no option 'norm_statistics'; its options are ",
        ),
    ],
)
def test_an_option_that_the_backbone_cannot_take_is_refused_at_its_place(load, words: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_configured_backbone(load(*words), with_decoder=False)
    assert str(caught.value).startswith(text)
