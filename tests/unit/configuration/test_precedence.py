"""Who wins, checkpoint or configuration: plain values in, a new configuration and lines to log out."""

from pathlib import Path
from typing import Any

import pytest

from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.configuration.loading import load_config
from fuse_examples.imaging.oai_example.configuration.precedence import adopt_from_weights, check_resume, from_checkpoint, settle
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.errors import ConfigError

GOOD = "experiment: knee\ncsv_path: c.csv\ntrain_folds: [0]\nval_folds: [1]\ntest_folds: [2]\nnum_classes: 3\nresize_to: [16, 32, 32]\n"
THEIRS = {
    "backbone": "swin_unetr", "width": 24, "norm_statistics": "instance", "orientation": "PIR",
    "intensity": {"method": "window", "percentiles": None, "window": [0.0, 100.0]}, "resize_to": [40, 224, 224],
}  # fmt: skip
TRAVELS = ("resize_to", "patch_size", "orientation", "intensity", "structure_names")


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(extra: str = "", *words: str) -> SegmentationConfig:
    Path("cfg.yaml").write_text(GOOD + extra)
    return load_config(SegmentationConfig, Path("cfg.yaml"), words)


def saved(**changes: Any) -> dict[str, Any]:
    return settle(load()).dump() | changes


def problems(call: Any, *arguments: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    return caught.value.problems


class TestTesting:
    def test_a_differing_yaml_value_is_passed_over_with_a_line_naming_both(self) -> None:
        theirs = saved(resize_to=None, patch_size=[8, 8, 8], orientation="PIR", structure_names=["a", "b"])
        config, notes = from_checkpoint(load("orientation: RAS\nintensity: {method: null}\n"), theirs, TRAVELS)
        assert (config.resize_to, config.patch_size, config.orientation, config.structures) == (None, (8, 8, 8), "PIR", ("a", "b"))
        assert (config.intensity.method, config.intensity.percentiles) == ("percentile", (0.5, 99.5))
        assert notes == (
            "cfg.yaml:8: orientation: 'RAS' is passed over; the checkpoint was made with 'PIR'",
            "cfg.yaml:7: resize_to: [16, 32, 32] is passed over; the checkpoint was made with nothing (null)",
        )
        assert config.origin("orientation").text == "the checkpoint"
        assert config.origin("experiment").text == "cfg.yaml:1"

    def test_a_differing_word_is_a_mistake(self) -> None:
        config = load("", "resize_to=[8, 8, 8]", "intensity.method=zscore")
        assert problems(from_checkpoint, config, saved(), TRAVELS) == (
            "command line: resize_to=[8, 8, 8]: resize_to: the checkpoint was made with [16, 32, 32], which a test cannot change; "
            "leave the word out",
            "command line: intensity.method=zscore: intensity.method: the checkpoint was made with 'percentile', which a test cannot "
            "change; leave the word out",
        )

    def test_a_word_that_says_the_same_and_keys_that_do_not_travel_are_left_alone(self) -> None:
        config = load("", "resize_to=[16, 32, 32]", "batch_size=7", "orientation=null")
        tested, notes = from_checkpoint(config, saved(batch_size=2), TRAVELS)
        assert (tested.batch_size, tested.orientation, notes) == (7, "RAS", ())

    def test_a_checkpoint_without_a_key_leaves_the_configuration(self) -> None:
        config, notes = from_checkpoint(load("orientation: LAS\n"), {"intensity": {}}, (*TRAVELS, "crops"))
        assert (config.orientation, notes) == ("LAS", ())

    def test_values_that_cannot_be_used_are_named(self) -> None:
        assert problems(from_checkpoint, load(), saved(orientation="XYZ", resize_to=[1]), TRAVELS) == (
            "the checkpoint holds values that cannot be used here: orientation and resize_to",
        )


class TestPretrainedWeights:
    def test_nulls_take_the_values_of_the_weights_and_other_sizes_are_told(self) -> None:
        config, notes = adopt_from_weights(load(), THEIRS)
        assert (config.backbone, config.width, config.norm_statistics, config.orientation) == ("swin_unetr", 24, "instance", "PIR")
        assert (config.intensity.method, config.intensity.window) == ("window", (0, 100))
        assert config.resize_to == (16, 32, 32)
        assert notes == ("resize_to: [16, 32, 32] here, [40, 224, 224] when the weights were made",)

    def test_the_size_of_the_large_views_is_compared_with_ours(self) -> None:
        pretrained = {"crops": {"global_size": [40, 224, 224]}}
        assert adopt_from_weights(load(), pretrained)[1] == ("resize_to: [16, 32, 32] here, [40, 224, 224] when the weights were made",)
        assert adopt_from_weights(load("", "resize_to=[40, 224, 224]"), pretrained)[1] == ()

    def test_a_set_value_that_differs_is_a_mistake_and_one_that_agrees_is_not(self) -> None:
        config = load("width: 24\norientation: RAS\n", "intensity.method=zscore")
        assert problems(adopt_from_weights, config, THEIRS) == (
            "cfg.yaml:9: orientation: 'RAS' differs from 'PIR', which the weights were made with; set it to null to take the weights'",
            "command line: intensity.method=zscore: intensity.method: 'zscore' differs from 'window', which the weights were made with; "
            "set it to null to take the weights'",
        )


class TestResuming:
    def test_what_may_change_changes(self) -> None:
        config = load(
            "n_epochs: 7\nn_workers: 0\nresults_dir: other\nclearml: true\nclearml_project_name: knees\noverwrite: true\n",
            "resume_training_from=last.ckpt",
        )
        resumed = check_resume(config, saved(dino_weights="b.safetensors", spacing=[1.0, 1.0, 1.0], structure_names=["a", "b"]))
        assert (resumed.n_epochs, resumed.n_workers, resumed.results_dir, resumed.clearml) == (7, 0, Path("other"), True)
        assert (resumed.dino_weights, resumed.resume_training_from) == (None, Path("last.ckpt"))
        assert (resumed.backbone, resumed.spacing, resumed.structures) == ("unet3d", (1, 1, 1), ("a", "b"))

    def test_all_else_may_not(self) -> None:
        config = load("seed: 3\ngrad_clip: null\nstore: {path: x}\n", "augmentation.noise_std=0", "batch_size=5")
        ending = "of the run to be resumed; only n_epochs, n_workers, devices, num_nodes, strategy, results_dir, overwrite, "
        ending += "suprem_weights, dino_weights, resume_training_from, test_ckpt and clearml* may change"
        assert problems(check_resume, config, saved()) == (
            f"cfg.yaml:8: seed: 3 differs from 0 {ending}",
            f"cfg.yaml:9: grad_clip: nothing (null) differs from 1.0 {ending}",
            f"cfg.yaml:10: store.path: 'x' differs from nothing (null) {ending}",
            f"command line: augmentation.noise_std=0: augmentation.noise_std: 0.0 differs from 0.05 {ending}",
            f"command line: batch_size=5: batch_size: 5 differs from nothing (null) {ending}",
        )

    def test_the_same_configuration_resumes(self) -> None:
        assert check_resume(load(), load().dump()).dump() == load().dump()


class TestSettling:
    def test_nulls_become_what_they_stand_for(self) -> None:
        config = settle(load())
        assert (config.backbone, config.orientation, config.intensity.method) == ("unet3d", "RAS", "percentile")
        assert (config.intensity.percentiles, config.width, config.grad_clip) == ((0.5, 99.5), None, 1.0)
        assert settle(config).dump() == config.dump()

    def test_what_is_set_stays_and_percentiles_belong_to_their_method(self) -> None:
        config = settle(load("orientation: PIR\nintensity: {method: zscore}\n"))
        assert (config.orientation, config.intensity.method, config.intensity.percentiles) == ("PIR", "zscore", None)
        assert load_config(SegmentationConfig, _written(config)).dump() == config.dump()


def _written(config: SegmentationConfig) -> Path:
    Path("again.yaml").write_text(config.as_yaml())
    return Path("again.yaml")


class TestAuto:
    """`auto` is a number that the run found out, so it never contradicts one."""

    @staticmethod
    def load(extra: str = "", *words: str) -> DINOConfig:
        Path("dino.yaml").write_text("experiment: knee\ncsv_path: c.csv\ntrain_folds: [0]\n" + extra)
        return load_config(DINOConfig, Path("dino.yaml"), words)

    def test_a_resumed_run_keeps_its_numbers(self) -> None:
        theirs = settle(self.load("learning_rate: 1e-3\nhead: {n_prototypes: 64}\n")).dump()
        resumed = check_resume(self.load(), theirs)
        assert (resumed.learning_rate, resumed.head.n_prototypes) == (1e-3, 64)
        assert problems(check_resume, self.load("learning_rate: 2e-3\n"), theirs)[0].startswith(
            "dino.yaml:4: learning_rate: 0.002 differs from 0.001 of the run to be resumed"
        )

    def test_a_test_takes_the_checkpoints_without_a_word(self) -> None:
        theirs = settle(self.load("head: {n_prototypes: 64}\n")).dump()
        config, notes = from_checkpoint(self.load("", "head.n_prototypes=auto"), theirs, ("head",))
        assert (config.head.n_prototypes, notes) == (64, ())


OPTIONS = {"backbone": "resnet3d", "backbone_options": {"depth": 10, "layout": "monai"}}


class TestBackboneOptions:
    """The options that a user names stand for all of those that the other side has, where they agree."""

    def test_a_part_that_agrees_takes_the_whole(self) -> None:
        config, notes = adopt_from_weights(load("backbone_options: {depth: 10}\n"), OPTIONS)
        assert config.backbone_options == {"depth": 10, "layout": "monai"}
        assert notes == ()
        theirs = saved(backbone_options={"depth": 10, "layout": "monai"})
        assert check_resume(load("backbone_options: {depth: 10}\n"), theirs).backbone_options == {"depth": 10, "layout": "monai"}

    def test_another_value_is_a_mistake(self) -> None:
        assert problems(adopt_from_weights, load("backbone_options: {depth: 18}\n"), OPTIONS) == (
            "cfg.yaml:8: backbone_options: {depth: 18} differs from {depth: 10, layout: 'monai'}, which the weights were made with; "
            "set it to null to take the weights'",
        )
