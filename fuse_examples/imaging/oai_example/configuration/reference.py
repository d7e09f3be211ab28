"""The reference of every configuration key, docs/configuration.md, made from the declarations.

python -m fuse_examples.imaging.oai_example.configuration.reference > docs/configuration.md
"""

from fuse_examples.imaging.oai_example.configuration.classification_config import ClassificationConfig
from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.configuration.label_efficiency_config import LabelEfficiencyConfig
from fuse_examples.imaging.oai_example.configuration.script_config import ScriptConfig
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.configuration.settings import REQUIRED, SECTIONS, Setting, settings_of
from fuse_examples.imaging.oai_example.configuration.wording import shown

SCHEMAS: tuple[type[ScriptConfig], ...] = (DINOConfig, ClassificationConfig, SegmentationConfig, LabelEfficiencyConfig)

HEAD = """# Configuration

Every key of every script, with what it takes, its default and its meaning. A key with a dot stands in a block: `crops.n_local` is `n_local`
under `crops:` in the YAML file, and one word on the command line. The shipped files in `configs/` have the same keys with the same remarks,
and `--help` prints those of one script.

This page is made from the declarations: `python -m fuse_examples.imaging.oai_example.configuration.reference > docs/configuration.md`
"""


def reference() -> str:
    """The whole page, in Markdown; a row for each key, or several where scripts differ in what they make of it."""
    return "\n".join([HEAD, *(_section(name) for name in SECTIONS)])


def _section(name: str) -> str:
    rows: dict[tuple[str, ...], list[str]] = {}
    for schema in SCHEMAS:
        for setting in settings_of(schema).values():
            if setting.section == name:
                rows.setdefault(_cells(setting), []).append(_script(schema))
    keys = list(dict.fromkeys(key for key, *_ in rows))  # the rows of one key stand together
    lines = ["| key | scripts | takes | default | meaning |", "|---|---|---|---|---|"]
    lines += [_row(cells, rows[cells]) for cells in sorted(rows, key=lambda cells: keys.index(cells[0]))]
    return "\n".join([f"## {name}", "", *lines, ""])


def _cells(setting: Setting) -> tuple[str, ...]:
    default = "required" if setting.default is REQUIRED else shown(setting.default)
    return f"`{setting.key}`", setting.expected, default, setting.meaning


def _row(cells: tuple[str, ...], scripts: list[str]) -> str:
    key, *others = (cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells)
    where = "all" if len(scripts) == len(SCHEMAS) else ", ".join(scripts)
    return "| " + " | ".join([key, where, *others]) + " |"


def _script(schema: type[ScriptConfig]) -> str:
    return schema.script.rsplit("/", 1)[-1].removesuffix(".py")


if __name__ == "__main__":
    print(reference(), end="")
