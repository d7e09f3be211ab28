"""`resume_training_from: auto`: a new run where there is none, else the newest whole checkpoint; weights count for the start alone."""

from pathlib import Path

import pytest
import small_stages

from fuse_examples.imaging.oai_example.training.checkpoints import read_checkpoint

AUTO = "resume_training_from=auto"


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_stages.write_cases(tmp_path_factory.mktemp("scans"), 4)


def steps(folder: Path) -> int:
    done: int = read_checkpoint(folder / "checkpoints" / "last.ckpt", "")["global_step"]
    return done


def cut_off(checkpoint: Path) -> None:
    beginning = checkpoint.read_bytes()[:1000]
    checkpoint.unlink()  # best.ckpt and last.ckpt may be one file under two names
    checkpoint.write_bytes(beginning)


def log_of(folder: Path) -> str:
    return (folder / "log.txt").read_text()


def test_it_starts_goes_on_and_passes_a_damaged_checkpoint_over(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_stages.run("dino", cases, tmp_path, AUTO)
    assert steps(folder) == 2
    assert "weights: none, the backbone starts from random numbers" in log_of(folder)
    small_stages.run("dino", cases, tmp_path, AUTO, n_epochs=2)
    assert steps(folder) == 4
    assert f"goes on from {folder / 'checkpoints' / 'last.ckpt'}, after optimiser step 2" in log_of(folder)

    last, best = folder / "checkpoints" / "last.ckpt", folder / "checkpoints" / "best.ckpt"
    cut_off(last)
    small_stages.run("dino", cases, tmp_path, AUTO, n_epochs=3)
    assert steps(folder) == 6
    assert f"goes on from {best}, after optimiser step 4" in log_of(folder)
    assert f"passed over: resume_training_from: auto: {last} cannot be loaded: it is cut off" in log_of(folder)

    cut_off(last)
    cut_off(best)
    assert small_stages.start("dino", cases, tmp_path, AUTO, n_epochs=4) == 2
    told = capsys.readouterr().err
    assert f"resume_training_from: auto: {last}" in told
    assert f"resume_training_from: auto: {best}" in told


def test_weights_count_for_the_start_alone(cases: Path, tmp_path: Path) -> None:
    weights = small_stages.run("dino", cases, tmp_path / "pretrained") / "backbone.safetensors"
    words = [AUTO, f"dino_weights={weights}", "width=null", "test_folds=[]"]
    folder = small_stages.run("classification", cases, tmp_path, *words)
    assert "starts from random numbers" not in log_of(folder)
    report = (folder / "load_report.json").read_bytes()
    small_stages.run("classification", cases, tmp_path, *words, n_epochs=2)
    assert steps(folder) == 4
    assert "goes on from" in log_of(folder)
    assert (folder / "load_report.json").read_bytes() == report
    weights.unlink()
    small_stages.run("classification", cases, tmp_path, *words, n_epochs=3)
    assert steps(folder) == 6


def test_weights_of_a_run_that_has_not_begun_must_be_there(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert small_stages.start("classification", cases, tmp_path, AUTO, "dino_weights=lost.safetensors") == 2
    assert "dino_weights: no such file: 'lost.safetensors'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["overwrite=true"], "resume_training_from is auto and overwrite is true: one goes on with what is there, the other deletes it"),
        (["test_ckpt=x.ckpt"], "test_ckpt are set together"),
        (["dino_weights=a", "suprem_weights=b"], "suprem_weights and dino_weights are set together"),
    ],
)
def test_what_cannot_stand_beside_it(
    cases: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small_stages.start("classification", cases, tmp_path, AUTO, *words) == 2
    assert message in " ".join(capsys.readouterr().err.split())
