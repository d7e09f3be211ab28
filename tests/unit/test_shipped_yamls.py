"""The shipped YAML files, the declarations of the settings and `--help` say the same."""

import re
from pathlib import Path

import pytest

from fuse_examples.imaging.oai_example.configuration.classification_config import ClassificationConfig
from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.configuration.help_text import help_text
from fuse_examples.imaging.oai_example.configuration.label_efficiency_config import LabelEfficiencyConfig
from fuse_examples.imaging.oai_example.configuration.loading import load_config
from fuse_examples.imaging.oai_example.configuration.script_config import ScriptConfig
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.configuration.settings import blocks_of, settings_of

CONFIGS = Path(__file__).parents[2] / "configs"
# The keys whose shipped value is an example for the user to replace, not the default.
COMMON = {"experiment", "csv_path", "train_folds", "val_folds", "test_folds"}
STAGES = {
    DINOConfig: ("dino", COMMON),
    ClassificationConfig: ("classification", COMMON | {"cls_targets"}),
    SegmentationConfig: ("segmentation", COMMON | {"num_classes", "structure_names", "resize_to", "batch_size"}),
    LabelEfficiencyConfig: ("label_efficiency", {"experiment", "stage", "downstream_config", "initialisations"}),
}
schemas = pytest.mark.parametrize("schema", STAGES, ids=lambda schema: STAGES[schema][0])


def shipped(schema: type[ScriptConfig]) -> Path:
    return CONFIGS / f"{STAGES[schema][0]}_config.yaml"


def comments(text: str) -> dict[str, str]:
    """The comment right above each key, on one line, by the key's dotted name."""
    found, above, block = {}, [], ""
    for line in text.splitlines():
        remark, key = re.match(r" *# (.*)", line), re.match(r"( *)(\w+):", line)
        if remark:
            above.append(remark[1])
        elif key:
            block = block if key[1] else key[2]
            found[f"{block}.{key[2]}" if key[1] else block] = " ".join(above)
        if not remark:
            above = []
    return found


def flat(schema: type[ScriptConfig], values: dict[str, object]) -> dict[str, object]:
    inner = {f"{block}.{key}": value for block in blocks_of(schema) for key, value in values[block].items()}
    return {key: value for key, value in values.items() if key not in blocks_of(schema)} | inner


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_file_is_of_a_stage_and_loads(path: Path) -> None:
    (schema,) = [schema for schema, (stage, _) in STAGES.items() if path.name.startswith(stage)]
    load_config(schema, path)


@schemas
def test_the_file_has_every_key_in_the_order_of_help(schema: type[ScriptConfig]) -> None:
    keys = [key for key in comments(shipped(schema).read_text()) if key not in blocks_of(schema)]
    assert keys == list(settings_of(schema))


@schemas
def test_each_comment_holds_the_meaning_that_help_prints(schema: type[ScriptConfig]) -> None:
    above, printed = comments(shipped(schema).read_text()), " ".join(help_text(schema).split())
    for key, one in settings_of(schema).items():
        assert one.meaning in above[key], key
        assert f" {key}: {one.expected}; " in printed
        assert one.meaning in printed
    for block in blocks_of(schema):
        assert schema.model_fields[block].description in above[block]


@schemas
def test_values_are_the_defaults_but_for_those_a_user_must_set(schema: type[ScriptConfig]) -> None:
    values = flat(schema, load_config(schema, shipped(schema)).dump())
    assert {key for key, one in settings_of(schema).items() if values[key] != one.default} == STAGES[schema][1]


@schemas
def test_the_file_opens_with_its_command_what_it_needs_its_time_and_what_to_expect(schema: type[ScriptConfig]) -> None:
    opening = shipped(schema).read_text().split("\n\n")[0]
    assert f"#   python {schema.script}\n" in opening
    assert (CONFIGS.parent / schema.script).is_file()
    assert [word for word in ("Needs:", "Time:", "Expect:") if f"# {word} " not in opening] == []
