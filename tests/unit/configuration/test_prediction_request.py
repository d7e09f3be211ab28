"""The command line of predict.py: its words, and every mistake in them at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from fuse_examples.imaging.oai_example.configuration.prediction_request import PredictionRequest, parse_request
from fuse_examples.imaging.oai_example.errors import ConfigError

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "fuse_examples" / "imaging" / "oai_example" / "downstream" / "predict.py"
HEAVY = "{'torch', 'numpy', 'monai', 'pydicom'}"
LOADED = f"import atexit, runpy, sys\natexit.register(lambda: print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr))"


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = f"{LOADED}\nsys.argv = [{str(SCRIPT)!r}, '--help']\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert done.stdout.startswith("usage: python fuse_examples/imaging/oai_example/downstream/predict.py")


def test_a_wrong_word_ends_with_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse_request(["--checkpoint", "a.ckpt", "--input", "scans", "--outputs", "out"])
    assert end.value.code == 2
    assert "--output" in capsys.readouterr().err


def test_words_become_a_request() -> None:
    words = "--checkpoint a.ckpt b.ckpt --input scans --output out --structure-codes codes.yaml --no-dicom-seg --no-overlays --overwrite"
    checkpoints = (Path("a.ckpt"), Path("b.ckpt"))
    expected = PredictionRequest(checkpoints, Path("scans"), Path("out"), Path("codes.yaml"), False, False, True)
    assert parse_request(words.split()) == expected
    assert parse_request(words.split()[:7]) == PredictionRequest(checkpoints, Path("scans"), Path("out"))


def test_every_mistake_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("out").write_text("a file")
    words = ["--checkpoint", "missing.ckpt", ".", "--input", "nothing", "--output", "out", "--structure-codes", "codes.yaml"]
    with pytest.raises(ConfigError) as error:
        parse_request(words).check()
    checkpoint = "Give the path of a checkpoint such as results/<experiment>/checkpoints/best.ckpt."
    assert error.value.problems == (
        f"--checkpoint: missing.ckpt does not exist. {checkpoint}",
        f"--checkpoint: . is a folder. {checkpoint}",
        "--structure-codes: codes.yaml does not exist. Give the path of a YAML file.",
        f"--input: nothing does not exist; paths are relative to the working directory, {tmp_path}.",
        "--output: out is a file. Give a folder; it is made if it is not there.",
    )


def test_a_checkpoint_counts_once_and_the_input_is_not_written_into(tmp_path: Path) -> None:
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.touch()
    with pytest.raises(ConfigError) as error:
        PredictionRequest((checkpoint, tmp_path / "." / "best.ckpt"), tmp_path, tmp_path).check()
    assert error.value.problems == (
        "--checkpoint: the same file is given twice. Its probabilities would count twice; give it once.",
        f"--output: {tmp_path} is the input itself. Choose another folder.",
    )
    with pytest.raises(ConfigError, match="--checkpoint: none is given"):
        PredictionRequest((), tmp_path, tmp_path / "out").check()


@pytest.mark.parametrize("name", ["predictions.csv", "segmentations/a.nii.gz", "log.txt"])
def test_results_of_something_else_are_never_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / "out" / "segmentations").mkdir(parents=True)
    (tmp_path / "out" / name).touch()
    with pytest.raises(ConfigError, match="of something else than a prediction"):
        PredictionRequest((tmp_path,), tmp_path, tmp_path / "out", overwrite=True).check()


def test_a_folder_that_may_not_be_looked_into_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "best.ckpt").touch()

    def exists(path: Path) -> bool:
        if path == tmp_path / "closed" / "out":
            raise PermissionError(13, "Permission denied", str(path))
        return True

    monkeypatch.setattr(Path, "exists", exists)
    request = PredictionRequest((tmp_path / "best.ckpt",), tmp_path, tmp_path / "closed" / "out")
    with pytest.raises(ConfigError) as caught:
        request.check()
    told = f"{tmp_path / 'closed' / 'out'}: Permission denied. Name a path that you may read or, for --output, write."
    assert caught.value.problems == (told,)
