"""What the documents say exists, exists: links, files, settings, commands, tables, make targets. They name no machine."""

import re
import runpy
import shlex
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from fuse_examples.imaging.oai_example.configuration.classification_config import ClassificationConfig
from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.configuration.label_efficiency_config import LabelEfficiencyConfig
from fuse_examples.imaging.oai_example.configuration.loading import load_config
from fuse_examples.imaging.oai_example.configuration.prediction_request import parse_request
from fuse_examples.imaging.oai_example.configuration.reference import reference
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.configuration.settings import blocks_of, settings_of
from fuse_examples.imaging.oai_example.data.cases import read_cases
from fuse_examples.imaging.oai_example.errors import ConfigError

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fuse_examples" / "imaging" / "oai_example"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SCHEMAS = {schema.script: schema for schema in (DINOConfig, ClassificationConfig, SegmentationConfig, LabelEfficiencyConfig)}
KEYS = {key for schema in SCHEMAS.values() for key in (*settings_of(schema), *blocks_of(schema))}
NOT_OURS = {"key", "weights_only", "align_corners"}  # of words that look like settings: the pattern itself, and torch's
WRITTEN = {".venv", "config.yaml", "log.txt", "test/", "demo/", "image03.txt"}  # by runs, by make, and by those who hand data out
HOSTS = {"nda.nih.gov", "pytorch.org", "github.com", "medicaldecathlon.com", "medmnist.com", "keepachangelog.com", "semver.org"}
THE_MAKING = r"(?i)\bissue #?\d|\bticket|\bmilestone|\blanding\b|\bassistant\b|\bsession\b|\btodo\b|\bfixme\b"
documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def fenced(text: str, language: str = "") -> list[str]:
    """The blocks between lines of three backticks that open with `language`."""
    return [block for opened, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.S | re.M) if opened == language]


def prose(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.S | re.M)


def inline_code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(text))


def commands(text: str) -> list[list[str]]:
    """The shell lines of a document as words, continued lines joined."""
    joined = (line for block in fenced(text) for line in block.replace("\\\n", " ").splitlines())
    return [shlex.split(line) for line in joined if re.match(r"\w+[ =]", line)]


@cache
def names_in_code() -> set[str]:
    """Every word of the package and its tests but for this file."""
    files = [path for folder in (PACKAGE, ROOT / "tests") for path in folder.rglob("*.py") if path != Path(__file__)]
    return {word for path in files for word in re.findall(r"\w+", path.read_text())} | {part for key in KEYS for part in key.split(".")}


def anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", prose(path.read_text()), re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@documents
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", prose(document.read_text())):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@documents
def test_web_addresses_are_of_known_hosts(document: Path) -> None:
    found = {host.removeprefix("www.") for host in re.findall(r"https?://([^/\s)>]+)", document.read_text())}
    assert found <= HOSTS


@documents
def test_files_and_folders_in_code_style_exist(document: Path) -> None:
    for code in inline_code(document.read_text()):
        for word in code.split():
            if re.fullmatch(r"[\w./-]+(\.(py|yaml|md|toml|txt)|/)", word) and word not in WRITTEN:
                assert any((place / word).exists() for place in (ROOT, PACKAGE)) or any(PACKAGE.rglob(word)), word


@documents
def test_names_in_code_style_occur_in_the_code(document: Path) -> None:
    for code in inline_code(document.read_text()):
        for name in re.findall(r"(?<![\w/.$-])(?:[a-zA-Z]+_\w+|[A-Z][a-z]+[A-Z]\w+)(?![\w/.-])", code):
            assert name in names_in_code(), code


@documents
def test_settings_in_code_style_are_settings(document: Path) -> None:
    for code in inline_code(document.read_text()):
        for word in code.split() if ": " not in code else [code]:
            assignment = re.match(r"([a-z_][\w.]*)(=|: )", word)
            assert not assignment or assignment[1] in KEYS | NOT_OURS, code


@documents
def test_commands_are_understood(document: Path) -> None:
    for words in commands(document.read_text()):
        if words[0] == "python" and words[1] == "-m":
            assert find_spec(words[2]), words
        elif words[0] == "python" and words[1].startswith("benchmarks/"):
            assert (ROOT / words[1]).is_file(), words
        elif words[0] == "python" and words[1].endswith("downstream/predict.py"):
            parse_request(words[2:])
        elif words[0] == "python":
            schema = SCHEMAS[words[1]]
            settings = [word for word in words[2:] if not word.startswith("--") and "=" in word]
            shipped = [word for word in words[2:] if word.startswith("configs/")]
            assert set(words[2:]) - {*settings, *shipped} <= {"--check", "--config", "my_study.yaml"}
            load_config(schema, ROOT / (shipped or [f"configs/{Path(words[1]).stem}_config.yaml"])[0], settings)


def test_the_reference_of_keys_is_what_the_declarations_say() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == reference(), "python -m fuse_examples.imaging.oai_example.configuration.reference > docs/configuration.md"
    rows = re.findall(r"^\| `([\w.]+)` \|", page, re.M)
    assert set(rows) == {key for schema in SCHEMAS.values() for key in settings_of(schema)}


def test_the_readme_has_the_commands_and_they_are_looked_at() -> None:
    found = commands((ROOT / "README.md").read_text())
    assert all(["python", script] in found for script in SCHEMAS)
    with pytest.raises(ConfigError):
        load_config(SegmentationConfig, ROOT / "configs" / "segmentation_config.yaml", ["bach_size=4"])
    real = commands((ROOT / "docs" / "real_data.md").read_text())
    assert len([words for words in real if words[1] in SCHEMAS and any("$REAL_DATA_DIR" in word for word in words)]) == 10


def test_the_quoted_message_is_the_message() -> None:
    (message,) = fenced((ROOT / "README.md").read_text(), "text")
    word = re.match(r"command line: (\S+=\S+): ", message)
    assert word
    with pytest.raises(ConfigError) as error:
        load_config(SegmentationConfig, ROOT / "configs" / "segmentation_config.yaml", [word[1]])
    assert str(error.value) == message.strip()


@documents
def test_tables_of_cases_can_be_read(document: Path, tmp_path: Path) -> None:
    for table in fenced(document.read_text(), "csv"):
        (tmp_path / "cases.csv").write_text(table)
        columns = table.splitlines()[0].split(",")
        targets = [name for name in columns if name not in ("PatientID", "path", "img_path", "seg_path", "fold")]
        assert len(read_cases(tmp_path / "cases.csv", masks="seg_path" in columns, targets=targets)) == len(table.splitlines()) - 1


def test_there_is_a_table_for_each_stage() -> None:
    for name in ("README.md", "docs/real_data.md"):
        headers = {table.splitlines()[0] for table in fenced((ROOT / name).read_text(), "csv")}
        assert len(headers) == 3, name


@documents
def test_make_targets_have_rules(document: Path) -> None:
    text = document.read_text()
    rules = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    lines = [*inline_code(text), *(line for block in fenced(text) for line in block.splitlines())]
    assert {target for line in lines for target in re.findall(r"(?:^|\s)make ([\w-]+)", line)} <= rules


def test_result_files_of_the_readme_are_written_somewhere() -> None:
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    table = (ROOT / "README.md").read_text().split("## Reading the results")[1].split("\n## ")[0]
    files = [Path(name).name for row in re.findall(r"^\| (`.+?) \|", table, re.M) for name in re.findall(r"`([^`]+)`", row)]
    assert len(files) > 12
    assert [name for name in files if name not in source and name.lstrip("*") not in source] == []


def test_the_floors_are_those_that_the_layer_test_keeps() -> None:
    floors = runpy.run_path(str(ROOT / "tests" / "unit" / "test_layers.py"))["FLOORS"]
    drawn = {}
    for floor, boxes in re.findall(r"^(\d) {3}(.+)$", (ROOT / "CONTRIBUTING.md").read_text(), re.M):
        drawn |= {re.split(r"[/.]", box)[0]: int(floor) for box in boxes.split()}
    assert drawn == floors


@documents
def test_documents_name_no_machine_and_keep_to_the_subject(document: Path) -> None:
    text = document.read_text()
    paths = [path for path in re.findall(r"(?<![\w/.:<>~*$)}\]-])/[a-z]+/[\w/]+", text) if not path.startswith("/path/to/")]
    assert paths == []
    assert re.findall(THE_MAKING, text) == []
