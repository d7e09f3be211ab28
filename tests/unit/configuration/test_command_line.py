"""What the entry scripts are told, and how they end."""

import errno
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fuse_examples.imaging.oai_example.configuration.classification_config import ClassificationConfig
from fuse_examples.imaging.oai_example.configuration.command_line import parse_command_line, run_entry, take_flags
from fuse_examples.imaging.oai_example.configuration.dino_config import DINOConfig
from fuse_examples.imaging.oai_example.configuration.help_text import help_text
from fuse_examples.imaging.oai_example.configuration.label_efficiency_config import LabelEfficiencyConfig
from fuse_examples.imaging.oai_example.configuration.script_config import ScriptConfig
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.configuration.settings import SECTIONS, settings_of
from fuse_examples.imaging.oai_example.errors import ConfigError, DataError

GOOD = "experiment: knee\ncsv_path: cases.csv\ntrain_folds: [0]\nval_folds: [1]\nnum_classes: 3\nresize_to: [16, 32, 32]\n"
SCHEMAS = (DINOConfig, ClassificationConfig, SegmentationConfig, LabelEfficiencyConfig)


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("default.yaml").write_text(GOOD)
    Path("other.yaml").write_text(GOOD.replace("knee", "other"))
    Path("cases.csv").touch()


def parse(*argv: str) -> tuple[SegmentationConfig, bool]:
    return parse_command_line(SegmentationConfig, Path("default.yaml"), argv)


def test_flags_and_words_in_any_order() -> None:
    config, check = parse()
    assert (config.experiment, config.seed, check) == ("knee", 0, False)
    config, check = parse("seed=3", "--config", "other.yaml", "--check", "batch_size=7")
    assert (config.experiment, config.seed, config.batch_size, check) == ("other", 3, 7, True)
    assert parse("--config=other.yaml")[0].experiment == "other"


def test_the_words_of_the_process_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["segmentation.py", "seed=9"])
    assert parse_command_line(SegmentationConfig, Path("default.yaml"))[0].seed == 9


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--config"], "command line: --config: takes one YAML file, found 0"),
        (["--config", "a.yaml", "--config=b.yaml"], "command line: --config: takes one YAML file, found 2"),
        (["--config", "othr.yaml"], "othr.yaml: cannot read the configuration file: No such file or directory; did you mean 'other.yaml'?"),
        (["--chekc"], "command line: --chekc: not a flag of this program (--config, --check, --help); settings are words: chekc=VALUE"),
        (["other.yaml"], "command line: other.yaml: not of the form key=value; a YAML file follows --config"),
    ],
)
def test_a_mistake_on_the_command_line(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(*argv)
    assert str(caught.value) == message


def test_files_that_are_not_there_are_told_beside_other_mistakes() -> None:
    Path("weights").mkdir()
    Path("weights/backbone.safetensors").touch()
    with pytest.raises(ConfigError) as caught:
        parse("csv_path=data/cases.csv", "dino_weights=weights/backbon.safetensors", "seed=x", "store.path=nowhere")
    here = f"paths are relative to the working directory, {Path.cwd()}"
    assert caught.value.problems == (
        f"command line: csv_path=data/cases.csv: csv_path: no such file: 'data/cases.csv', nor a folder 'data'; {here}",
        "command line: dino_weights=weights/backbon.safetensors: dino_weights: no such file: 'weights/backbon.safetensors'; "
        f"{here}; did you mean 'weights/backbone.safetensors'?",
        "command line: seed=x: seed: must be a whole number of at least 0, found 'x'",
    )
    with pytest.raises(ConfigError, match=r"^command line: test_ckpt=weights: test_ckpt: must be a file, found the folder 'weights'$"):
        parse("test_ckpt=weights", "test_folds=[0]")
    assert parse("dino_weights=weights/backbone.safetensors")[0].dino_weights == Path("weights/backbone.safetensors")


def test_a_file_in_a_folder_that_may_not_be_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_file(path: Path) -> bool:
        if path.name == "backbone.safetensors":
            raise PermissionError(13, "Permission denied", str(path))
        return True

    monkeypatch.setattr(Path, "is_file", is_file)  # as in Python before 3.14
    with pytest.raises(ConfigError) as caught:
        parse("dino_weights=closed/backbone.safetensors")
    told = "Give this account the right to read it and to enter every folder above it, or name a file that it may read."
    word = "dino_weights=closed/backbone.safetensors"
    assert caught.value.problems == (
        f"command line: {word}: dino_weights: 'closed/backbone.safetensors' cannot be read: Permission denied. {told}",
    )


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config, _ = parse("csv_path=~/cases.csv", "results_dir=~/runs")
    assert (config.csv_path, config.results_dir) == (tmp_path / "cases.csv", tmp_path / "runs")


class Interrupted(BaseException):
    exit_code = 128 + signal.SIGTERM


def raising(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError(["a.csv:2: no such file", "a.csv:9: no such file"]), 2, "a.csv:2: no such file\na.csv:9: no such file\n"),
        (Interrupted("stopped after step 7; last.ckpt is written"), 143, "stopped after step 7; last.ckpt is written\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_a_mistake_or_interruption_ends_with_its_code_and_no_traceback(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_entry(raising(error)) == code
    assert capsys.readouterr() == ("", message)


def test_a_full_disk_ends_with_a_message_whatever_was_raised_over_it(capsys: pytest.CaptureFixture[str]) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "runs/events.out")
    over = RuntimeError("unexpected pos 64 vs 0")
    over.__context__ = full
    for error in (full, over):
        assert run_entry(raising(error)) == 2
        assert capsys.readouterr() == (
            "",
            "runs/events.out: cannot be written: No space left on device. Make room there, or choose a folder on another disk. "
            "Files that are there already are whole.\n",
        )
    assert run_entry(raising(OSError(errno.EBADF, "Bad file descriptor"))) == 1
    assert "Traceback" in capsys.readouterr().err


def test_our_own_bug_ends_with_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_entry(raising(ValueError("ours"))) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith("ValueError: ours\n")


def test_the_flags_of_a_study_are_taken_out_of_the_words() -> None:
    assert take_flags(["--config", "a.yaml", "--cell", "12", "jobs=2"]) == (False, 12, ["--config", "a.yaml", "jobs=2"])
    assert take_flags(["--cell=0"]) == (False, 0, [])
    assert take_flags(["--list", "--check"]) == (True, None, ["--check"])
    for words, told in ((["--cell"], "found nothing"), (["--cell", "x"], "found x"), (["--list", "--cell", "1"], "both given")):
        with pytest.raises(ConfigError, match=told):
            take_flags(words)


def test_done_is_zero_and_help_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_entry(lambda: None) == 0
    with pytest.raises(SystemExit) as caught:
        run_entry(lambda: parse("seed=x", "--help") and None)
    assert caught.value.code == 0
    assert capsys.readouterr() == (help_text(SegmentationConfig), "")


@pytest.mark.parametrize("schema", SCHEMAS)
class TestHelp:
    def test_it_opens_with_the_command_and_the_flags(self, schema: type[ScriptConfig]) -> None:
        text = help_text(schema)
        own = "".join(f" [{flag}]" for flag in schema.FLAGS)
        assert text.startswith(f"usage: python {schema.script}\n       [--config FILE] [--check]{own} [key=value ...]\n\n")
        flags = [flag.split()[0] for flag in schema.FLAGS]
        assert re.findall(r"^  (--\w+|key=value)", text, re.M) == ["--config", "--check", *flags, "--help", "key=value"]
        assert f"configs/{Path(schema.script).stem}_config.yaml" in text

    def test_it_lists_each_key_once_under_its_section(self, schema: type[ScriptConfig]) -> None:
        text = help_text(schema)
        assert re.findall(r"^  ([\w.]+): ", text, re.M) == list(settings_of(schema))
        used = {one.section for one in settings_of(schema).values()}
        assert re.findall(r"^(\S.*):$", text, re.M) == [section for section in SECTIONS if section in used]

    def test_no_line_is_longer_than_100(self, schema: type[ScriptConfig]) -> None:
        assert max(map(len, help_text(schema).splitlines())) <= 100

    def test_each_meaning_is_a_sentence(self, schema: type[ScriptConfig]) -> None:
        meanings = [one.meaning for one in settings_of(schema).values()]
        assert [meaning for meaning in meanings if not re.fullmatch(r"\S.*\.", meaning)] == []


def test_help_shows_type_default_and_meaning() -> None:
    text = help_text(SegmentationConfig)
    assert "  batch_size: a whole number of at least 1 or null; default null\n      Cases per step. null: planned" in text
    assert "  num_classes: a whole number of at least 2; required\n" in text
    assert "  augmentation.scale_range: a list of 2 numbers above 0; default [0.85, 1.15]\n" in text
    assert "  backbone: 'unet3d', 'swin_unetr', 'segresnet', 'resnet3d' or null; default null\n" in text
