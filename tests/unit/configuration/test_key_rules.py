"""Rules over several keys: what they refuse, what they let pass, and that they speak beside the mistakes of single keys."""

import copy
import pickle
from pathlib import Path

import pytest

from fuse_examples.imaging.oai_example.configuration.classification_config import ClassificationConfig
from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.configuration.loading import load_config
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.configuration.sides import STRUCTURE_WORDS, TARGET_WORDS, names_a_side
from fuse_examples.imaging.oai_example.configuration.stage_config import StageConfig
from fuse_examples.imaging.oai_example.errors import ConfigError

RUN = {"experiment": "knee", "csv_path": "c.csv", "train_folds": "[0, 1]", "val_folds": "[2]"}
GOOD: dict[type[StageConfig], dict[str, str]] = {
    SegmentationConfig: RUN | {"num_classes": "3", "resize_to": "[16, 32, 32]"},
    ClassificationConfig: RUN | {"cls_targets": "[V00COHORT]"},
    DINOConfig: RUN,
}
AT_MOST_ONE = "set at most one of suprem_weights, dino_weights, resume_training_from and test_ckpt, the others to null"
SIDED = "augmentation.flip_axes has left_right, but the name of {} says a side; give augmentation.flip_label_pairs the names that change "
SIDED += "places, for example [[left_kidney, right_kidney]], or leave left_right out"


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def problems(schema: type[StageConfig], **changes: str | None) -> list[str]:
    """The mistakes of a good file with some keys changed (None: left out); `a__b` stands for a.b."""
    words = [f"{key.replace('__', '.')}={value}" for key, value in changes.items() if value is not None and "__" in key]
    lines = {key: value for key, value in (GOOD[schema] | changes).items() if value is not None and "__" not in key}
    Path("cfg.yaml").write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
    try:
        load_config(schema, Path("cfg.yaml"), words)
    except ConfigError as error:
        return [problem.split(": ", 2 if problem.startswith("command line") else 1)[-1] for problem in error.problems]
    return []


@pytest.mark.parametrize("schema", GOOD)
class TestEveryStage:
    def test_the_good_file_is_good(self, schema: type[StageConfig]) -> None:
        assert problems(schema) == []

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"suprem_weights": "a", "test_ckpt": "b", "test_folds": "[3]"}, "suprem_weights and test_ckpt are set together (lines"),
            ({"intensity__method": "window"}, "intensity.method is 'window', which needs intensity.window: [low, high]"),
            ({"intensity__window": "[0, 1]"}, "intensity.window is set, which needs intensity.method: window"),
            ({"intensity__method": "zscore", "intensity__percentiles": "[1, 99]"},
             "intensity.percentiles is set, which intensity.method 'zscore' does not use"),
            ({"train_folds": "[]"}, "train_folds is empty; name the folds to train on, or set test_ckpt to evaluate"),
            ({"test_ckpt": "a.ckpt"}, "test_folds is empty; name the folds to evaluate with test_ckpt"),
            ({"val_folds": "['1.0', 2]"}, "train_folds and val_folds share '1'; a case may stand in one of them"),
            ({"clearml": "true"}, "clearml is true, which needs clearml_project_name"),
            ({"backbone_options": "{width: 8}"}, "backbone_options names 'width', which has a key of its own; set width instead"),
            ({"backbone_options": "{in_channels: 2}"}, "backbone_options names 'in_channels', which the stage decides; leave it out"),
        ],
    )  # fmt: skip
    def test_refuses(self, schema: type[StageConfig], changes: dict[str, str], message: str) -> None:
        (found,) = problems(schema, **changes)
        assert found.startswith(message)

    @pytest.mark.parametrize(
        "changes",
        [
            {"intensity__method": "window", "intensity__window": "[0, 1]"},
            {"intensity__percentiles": "[1, 99]"},
            {"val_folds": "[1]", "allow_patient_overlap": "true"},
            {"test_ckpt": "a.ckpt", "test_folds": "[0]", "train_folds": "[]", "val_folds": "[]"},
            {"test_ckpt": "a.ckpt", "test_folds": "[0]", "val_folds": "[0]"},
            {"clearml": "true", "clearml_project_name": "knees"},
            {"resume_training_from": "a.ckpt"},
        ],
    )
    def test_lets_pass(self, schema: type[StageConfig], changes: dict[str, str]) -> None:
        assert problems(schema, **changes) == []

    def test_a_rule_keeps_silent_about_a_value_that_is_a_mistake_by_itself(self, schema: type[StageConfig]) -> None:
        assert problems(schema, intensity__window="5", val_folds="1", clearml="maybe") == [
            "val_folds: must be a list of folds, found 1; write val_folds: [1]",
            "clearml: must be true or false, found 'maybe'",
            "intensity.window: must be a list of 2 numbers or null, found 5; write intensity.window: [5]",
        ]

    def test_a_rule_keeps_silent_about_what_cannot_be_read(self, schema: type[StageConfig]) -> None:
        assert problems(schema, test_ckpt="!!python/name:x", suprem_weights="a", dino_weights="b", seed="!!int x") == [
            "the tag !!python/name:x is not allowed; write a plain value",
            f"suprem_weights and dino_weights are set together (lines {self.lines(schema, 1, 2)}); {AT_MOST_ONE}",
            "'x' does not fit its tag !!int",
        ]
        assert problems(schema, train_folds="!!python/name:x") == ["the tag !!python/name:x is not allowed; write a plain value"]

    def test_three_sources_of_weights_are_one_mistake(self, schema: type[StageConfig]) -> None:
        assert problems(schema, suprem_weights="a", dino_weights="b", resume_training_from="c") == [
            f"suprem_weights, dino_weights and resume_training_from are set together (lines {self.lines(schema, 0, 1, 2)}); {AT_MOST_ONE}"
        ]

    @staticmethod
    def lines(schema: type[StageConfig], *added: int) -> str:
        *front, last = (str(len(GOOD[schema]) + 1 + line) for line in added)
        return f"{', '.join(front)} and {last}"


def test_validation_folds_are_needed_where_the_best_epoch_is_chosen_by_them() -> None:
    message = "val_folds is empty; the best epoch is chosen by validation, so name at least one fold"
    assert problems(SegmentationConfig, val_folds="[]") == problems(ClassificationConfig, val_folds=None) == [message]
    assert problems(DINOConfig, val_folds="[]") == problems(DINOConfig, val_folds=None) == []


@pytest.mark.parametrize("schema", [ClassificationConfig, SegmentationConfig])
@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"freeze_backbone": "true"}, []),
        ({"freeze_backbone": "5"}, []),
        ({"freeze_backbone": "5", "n_epochs": "5"},
         ["freeze_backbone is 5 epochs of n_epochs: 5; write true to freeze it for good, or fewer epochs"]),
        ({"freeze_backbone": "0"}, ["freeze_backbone: must be true or false or a whole number of at least 1, found 0"]),
        ({"reestimate_norm_statistics": "always"},
         ["reestimate_norm_statistics is 'always', which needs freeze_backbone: a backbone that learns moves its own statistics"]),
        ({"reestimate_norm_statistics": "always", "freeze_backbone": "2"}, []),
        ({"layer_decay": "0"}, ["layer_decay: must be a number above 0 and of at most 1, found 0"]),
    ],
)  # fmt: skip
def test_gentle_fine_tuning(schema: type[StageConfig], changes: dict[str, str], messages: list[str]) -> None:
    assert problems(schema, **changes) == messages


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"structure_names": "[a]"}, ["structure_names has 1 name, but num_classes: 3 makes 2 without the background"]),
        ({"structure_names": "[a, b, c]"}, ["structure_names has 3 names, but num_classes: 3 makes 2 without the background"]),
        ({"structure_names": "[a, b]"}, []),
        ({"structure_names": "[cartilage, bone]", "thickness_structures": "[cartilag]"},
         ["thickness_structures names 'cartilag', which is not among the structures; did you mean 'cartilage'?"]),
        ({"thickness_structures": "[structure_2]"}, []),
        ({"class_weights": "[1, 2]"}, ["class_weights has 2 weights, but num_classes: 3 with activation 'softmax' needs 3"]),
        ({"class_weights": "[1]", "activation": "sigmoid"},
         ["class_weights has 1 weight, but num_classes: 3 with activation 'sigmoid' needs 2"]),
        ({"class_weights": "[1, 2]", "activation": "sigmoid"}, []),
        ({"include_background": "true", "activation": "sigmoid"},
         ["include_background is true, which activation 'sigmoid' has no use for: it has no output for the background"]),
        ({"regions": "{all: [1, 2], inner: [2]}", "activation": "sigmoid", "class_weights": "[1, 2]"}, []),
        ({"regions": "{structure_1: [1], inner: [2]}", "activation": "sigmoid"}, []),
        ({"regions": "{all: [1, 2], inner: [2]}"},
         ["regions is set, but activation 'softmax' makes structures exclude each other; set it to sigmoid"]),
        ({"regions": "{all: [1, 2, 3], inner: [2]}", "activation": "sigmoid"},
         ["regions.all has the label 3, but num_classes: 3 makes labels 1 to 2",
          "regions.all needs one label that no region inside it has, for the masks to be written; 1 and 3 are in none. "
          "Regions lie one in another or apart"]),
        ({"regions": "{inner: [2], all: [1, 2]}", "activation": "sigmoid"}, []),  # in whichever order
        ({"regions": "{all: [1, 2], every: [2, 1]}", "activation": "sigmoid"},
         ["regions.all needs one label that no region inside it has, for the masks to be written; each of its labels is in one. "
          "Regions lie one in another or apart",
          "regions.every needs one label that no region inside it has, for the masks to be written; 1 and 2 are in none. "
          "Regions lie one in another or apart"]),
        ({"regions": "{structure_1: [1, 2], inner: [2]}", "activation": "sigmoid"},
         ["regions.structure_1 is also the name of label 1, which is not the same; give it another"]),
        ({"regions": "{all: [1, 2], inner: [2]}", "activation": "sigmoid",
          "augmentation__flip_label_pairs": "[[structure_1, structure_2]]"},
         ["augmentation.flip_label_pairs is set together with regions, whose outputs it cannot exchange; leave one of them out"]),
        ({"regions": "{all: [1, 2]}", "activation": "sigmoid", "class_weights": "[1, 2]"},
         ["regions.all needs one label that no region inside it has, for the masks to be written; 1 and 2 are in none. "
          "Regions lie one in another or apart",
          "class_weights has 2 weights, but regions needs 1"]),
        ({"regions": "{all: [1, 2], inner: [2]}", "activation": "sigmoid", "thickness_structures": "[inne]"},
         ["thickness_structures names 'inne', which is not among the structures; did you mean 'inner'?"]),
        ({"augmentation__elastic_mm": "5.5"},
         ["augmentation.elastic_mm is 5.5; above 5.0, a sixth of augmentation.elastic_spacing_mm, tissue could fold over itself"]),
        ({"augmentation__elastic_mm": "5.0"}, []),
        ({"foreground_share": "0.5"}, ["foreground_share is set, which needs patch_size; set patch_size, or foreground_share to 0.33"]),
        ({"patch_size": "[8, 8, 8]"}, ["resize_to and patch_size are both set; set one, the other to null"]),
        ({"resize_to": "null"}, []),  # planned
        ({"resize_to": "null", "test_ckpt": "a.ckpt", "test_folds": "[0]"}, []),
        ({"resize_to": "null", "patch_size": "[8, 8, 8]", "spacing": "[1, 1, 2.5]", "overlap": "0.25", "patches_per_case": "4"}, []),
        ({"resize_to": "null", "spacing": "[1, 1, 1]", "test_ckpt": "a.ckpt", "test_folds": "[0]"}, []),
        ({"spacing": "[1, 1, 1]"}, ["spacing is set, which needs patch_size; set patch_size, or spacing to nothing (null)"]),
        ({"overlap": "0.25"}, ["overlap is set, which needs patch_size; set patch_size, or overlap to 0.5"]),
        ({"overlap": "0.5", "patches_per_case": "2"}, ["patches_per_case is set, which needs patch_size; set patch_size, or "
                                                        "patches_per_case to 1"]),
        ({"structure_names": "[left_kidney, liver]", "augmentation__flip_axes": "[left_right]"}, [SIDED.format("left_kidney")]),
        ({"structure_names": "[kidney_L, kidney_R]", "augmentation__flip_axes": "[left_right]"}, [SIDED.format("kidney_L and kidney_R")]),
        ({"structure_names": "[left_kidney, liver]", "augmentation__flip_axes": "[inferior_superior]"}, []),
        ({"structure_names": "[lateral, medial]", "augmentation__flip_axes": "[left_right]"}, []),
        ({"structure_names": "[kidney_L, kidney_R]", "augmentation__flip_axes": "[left_right]",
          "augmentation__flip_label_pairs": "[[kidney_L, kidney_R]]"}, []),
        ({"structure_names": "[kidney_L, kidney_R]", "augmentation__flip_label_pairs": "[[kidney_L, kidney_r]]"},
         ["augmentation.flip_label_pairs names 'kidney_r', which is not among the structures; did you mean 'kidney_R'?"]),
        ({"augmentation__flip_label_pairs": "[[structure_1, structure_1]]"},
         ["augmentation.flip_label_pairs names 'structure_1' more than once; a structure changes places with one other"]),
    ],
)  # fmt: skip
def test_segmentation(changes: dict[str, str], messages: list[str]) -> None:
    assert problems(SegmentationConfig, **changes) == messages


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"cls_targets": "[V00COHORT, fold]"}, ["cls_targets names 'fold', a column that says which case it is; name a column to predict"]),
        ({"positive_class": "{V00COHORT: '1: Progression'}"}, []),
        ({"positive_class": "{V00COHORT: 1}"}, []),
        ({"positive_class": "{V00COHORT: true}"}, ["positive_class: must be a block of 'column: class' or null, found {V00COHORT: true}"]),
        ({"positive_class": "{V00COHRT: 1}"},
         ["positive_class names 'V00COHRT', which is not among cls_targets; did you mean 'V00COHORT'?"]),
        ({"positive_class__V00COHORT": "'1: Progression'"}, []),
        ({"positive_class": "{V00COHORT: {1: Progression}}"},
         ["positive_class: must be a block of 'column: class' or null, found {V00COHORT: {1: 'Progression'}}; put a text that holds a "
          "colon in quotes"]),
        ({"cls_targets": "[]"}, ["cls_targets: must be a list of one or more column names, found []"]),
        ({"cls_targets": "V00COHORT"}, ["cls_targets: must be a list of one or more column names, found 'V00COHORT'; write cls_targets: "
                                        "['V00COHORT']"]),
        ({"cls_targets": "[knee_side, grade]", "augmentation__flip_axes": "[left_right]"},
         ["augmentation.flip_axes has left_right, but the name of 'knee_side' in cls_targets says a side, which such a flip changes; leave "
          "left_right out"]),
        ({"cls_targets": "[knee_side]", "augmentation__flip_axes": "[posterior_anterior]"}, []),
        ({"cls_targets": "[grade]", "augmentation__flip_axes": "[left_right]"}, []),
    ],
)  # fmt: skip
def test_classification(changes: dict[str, str], messages: list[str]) -> None:
    assert problems(ClassificationConfig, **changes) == messages


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"crops__n_global": "1", "crops__n_local": "0"},
         ["crops.n_global is 1 and crops.n_local is 0, but DINO compares views with each other; ask for two or more"]),
        ({"crops__n_global": "1"}, []),
        ({"masking__share_of_views": "0"}, []),
        ({"masking__share_of_views": "0", "masking__reconstruction_weight": "1"},
         ["masking.share_of_views is 0, so no view is masked and masking.reconstruction_weight has nothing to weigh; give a share such as "
          "0.5, or set the weight to 0"]),
        ({"masking__ratio": "[0.5, 1]", "masking__block_cells": "[3, 1]", "masking__share_of_views": "1"},
         ["masking.ratio: must be a list of 2 numbers above 0 and below 1, found [0.5, 1]",
          "masking.block_cells: must be [low, high], found [3, 1]",
          "masking.share_of_views: must be a number of at least 0 and below 1, found 1"]),
        ({"crops__n_local": "0"}, []),
        ({"learning_rate": "1e-7"}, ["learning_rate_end 1e-06 is above learning_rate 1e-07"]),
        ({"momentum_start": "0.996", "momentum_end": "0.9"}, ["momentum_start 0.996 is above momentum_end 0.9"]),
        ({"momentum_end": "0.9"}, []),
        ({"crops__local_scale_in_plane": "[0.5, 0.2]"}, ["crops.local_scale_in_plane: must be [low, high], found [0.5, 0.2]"]),
        ({"crops__local_scale_in_plane": "[0, 0.2]"},
         ["crops.local_scale_in_plane: must be a list of 2 numbers above 0 and of at most 1, found [0, 0.2]"]),
        ({"crops__through_plane_axis": "leftright"},
         ["crops.through_plane_axis: must be 'left_right', 'posterior_anterior', 'inferior_superior' or null, found 'leftright'; did you "
          "mean 'left_right'?"]),
    ],
)  # fmt: skip
def test_dino(changes: dict[str, str], messages: list[str]) -> None:
    assert problems(DINOConfig, **changes) == messages


def test_positive_classes_are_text_and_cannot_change() -> None:
    assert problems(ClassificationConfig, positive_class="{V00COHORT: 1}") == []
    config = load_config(ClassificationConfig, Path("cfg.yaml"))
    assert config.positive_class == {"V00COHORT": "1"}
    with pytest.raises(TypeError, match="does not change"):
        config.positive_class["V00COHORT"] = "2"  # type: ignore[index]
    with pytest.raises(TypeError, match="does not change"):
        config.positive_class.update(other="2")  # type: ignore[union-attr]
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config
    assert hash(config.positive_class) == hash(copy.deepcopy(config.positive_class))
    assert type(config.dump()["positive_class"]) is dict


@pytest.mark.parametrize(
    "name", ["left_kidney", "kidney left", "Kidney-R", "LeftFemur", "femurRight", "lh.cortex", "RH", "LHippocampus", "l"]
)
def test_a_side_as_a_word_of_its_own_is_seen(name: str) -> None:
    assert names_a_side(name, STRUCTURE_WORDS)


@pytest.mark.parametrize("name", ["lateral_meniscus", "liver", "bright", "cleft", "V00XRKL", "structure_1", "RV", "side"])
def test_letters_inside_a_word_are_no_side(name: str) -> None:
    assert not names_a_side(name, STRUCTURE_WORDS)
    assert names_a_side(name, TARGET_WORDS) == (name == "side")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_types": "{V00COHRT: ordinal}"},
         "target_types names 'V00COHRT', which is not among cls_targets; did you mean 'V00COHORT'?"),
        ({"target_types": "{V00COHORT: ordinary}"},
         "target_types: the type of 'V00COHORT' must be 'categorical', 'ordinal' or 'continuous', found 'ordinary'; "
             "did you mean 'ordinal'?"),
        ({"target_types": "{V00COHORT: ordinal}", "positive_class": "{V00COHORT: a}"},
         "positive_class names 'V00COHORT', which target_types says is ordinal; only categorical targets have one"),
        ({"covariates": "{V00COHORT: numeric}"}, "covariates names 'V00COHORT', which is to be predicted"),
        ({"covariates": "{fold: numeric}"}, "covariates names 'fold', a column that says which case it is"),
        ({"covariates": "{age: numerical}"},
         "covariates: the type of 'age' must be 'numeric' or 'categorical', found 'numerical'; did you mean 'numeric'?"),
        ({"sample_by": "V00COHRT"}, "sample_by is 'V00COHRT', which is not among cls_targets; did you mean 'V00COHORT'?"),
        ({"target_types": "{V00COHORT: continuous}", "sample_by": "V00COHORT"},
         "sample_by is 'V00COHORT', a continuous target, which has no classes to draw equally often"),
        ({"target_types": "{V00COHORT: ordinal}", "focal_gamma": "2.0"}, "focal_gamma is set, but no target is categorical; set it to 0"),
        ({"target_types": "{V00COHORT: ordinal}", "label_smoothing": "0.1"},
         "label_smoothing is set, but no target is categorical; set it to 0"),
    ],
)  # fmt: skip
def test_types_of_targets_fit_what_else_is_set(changes: dict[str, str], message: str) -> None:
    assert problems(ClassificationConfig, **changes) == [message]


def test_types_sampling_and_losses_that_fit() -> None:
    assert problems(ClassificationConfig, target_types="{V00COHORT: ordinal}", sample_by="V00COHORT") == []
    assert problems(ClassificationConfig, cls_targets="[a, b]", target_types="{b: continuous}", focal_gamma="2.0", sample_by="a") == []
