"""Ctrl-C and SIGTERM in the middle of the preparing commands: the shell's exit code, one line, and nothing half-written."""

import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import pytest
from test_archives import decathlon_task, packed, save
from test_dicom_tree import named, series_in, voxels
from test_imorphics import one_knee, write_mat

from fuse_examples.imaging.oai_example.data.cases import read_cases
from fuse_examples.imaging.oai_example.prepare import check, decathlon, dicom, imorphics, synthetic_knee

ROOT = Path(__file__).parents[3]
PREPARE = "fuse_examples.imaging.oai_example.prepare"
SIGNALS = {signal.SIGINT: (130, "Stopped by Ctrl-C. "), signal.SIGTERM: (143, "Stopped by SIGTERM. ")}
signals = pytest.mark.parametrize("signum", SIGNALS, ids=lambda signum: signum.name)
Interrupt = Callable[[str, int], None]


@pytest.fixture(autouse=True)
def unhandled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A signal that a command leaves to the handlers from before fails the test and does not end the tests."""

    def fail(signum: int, frame: object) -> None:
        raise AssertionError(f"signal {signum} was not handled by the command")

    before = {signum: signal.signal(signum, fail) for signum in SIGNALS}
    yield
    for signum, handler in before.items():
        assert signal.signal(signum, handler) is fail, "the command put the handlers back"


@pytest.fixture
def interrupt(signum: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> Interrupt:
    """Send the signal to the main thread when the function of this dotted name has been called so many times."""

    def arrange(name: str, call: int) -> None:
        where, _, attribute = name.rpartition(".")
        owner = pkgutil.resolve_name(where)
        original, calls = getattr(owner, attribute), [0]

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            calls[0] += 1
            if calls[0] == call:
                signal.pthread_kill(threading.main_thread().ident or 0, signum)
                time.sleep(0.05)  # a thread at work goes on for a while
            return result

        monkeypatch.setattr(owner, attribute, wrapped)

    return arrange


def check_end(code: int, signum: signal.Signals, error: str, folder: Path) -> None:
    expected, line = SIGNALS[signum]
    assert (code, error) == (expected, f"{line}Files are whole or absent.\n")
    assert [path for path in folder.rglob("*") if path.name.startswith(".")] == []


@signals
def test_a_tree_of_dicom_files(tmp_path: Path, interrupt: Interrupt, signum: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        series_in(
            tmp_path / "tree" / "mixed", voxels(number), change=named("1", number, "DESS"), file_name=lambda k, n=number: f"{n}_{k}.dcm"
        )
    words = [str(tmp_path / "tree"), "--copy", str(tmp_path / "copies"), "--output", str(tmp_path / "out.csv"), "--folds", "1"]
    interrupt(f"{PREPARE}.dicom_tree.layout.shutil.copyfile", 7)  # in the second volume
    check_end(dicom.main(words), signum, capsys.readouterr().err, tmp_path)
    assert not (tmp_path / "out.csv").exists()
    (whole,) = tmp_path.glob("copies/*/*/*")
    assert len(list(whole.iterdir())) == 5
    assert dicom.main([*words, "--overwrite"]) == 0
    assert len(read_cases(tmp_path / "out.csv", masks=False)) == 2


@signals
def test_checking(tmp_path: Path, interrupt: Interrupt, signum: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        save(tmp_path / f"{number}.nii.gz", number)
    (tmp_path / "cases.csv").write_text("PatientID,path,fold\n" + "".join(f"{n},{n}.nii.gz,{n % 3}\n" for n in range(6)))
    words = [str(tmp_path / "cases.csv"), "--full", "--output", str(tmp_path / "out"), "--workers", "2"]
    interrupt(f"{PREPARE}.checking.table_check.check_voxels", 3)
    check_end(check.main(words), signum, capsys.readouterr().err, tmp_path)
    assert not (tmp_path / "out").exists()
    assert check.main(words) == 0


@signals
@pytest.mark.parametrize("kind", ["unpacking", "cutting"])
def test_an_archive(tmp_path: Path, interrupt: Interrupt, signum: signal.Signals, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    archive = packed(decathlon_task(tmp_path / "task" / "Task05_Prostate", channels=2), tmp_path / "Task05_Prostate.tar")
    output = tmp_path / "out"
    words = [str(archive), "--output", str(output), "--folds", "1"]
    interrupt("tarfile.TarFile.extract" if kind == "unpacking" else f"{PREPARE}.archives.decathlon._compressed", 5)
    for path in (tmp_path / "task").rglob("._*"):
        path.unlink()
    check_end(decathlon.main(words), signum, capsys.readouterr().err, tmp_path)
    if kind == "unpacking":
        assert list(output.iterdir()) == []
    else:
        assert not list(output.glob("*.csv"))
        cut = list((output / "channels").iterdir())
        assert len(cut) == 4
        assert {nibabel.load(path).get_fdata().shape for path in cut} == {(5, 6, 4)}
    assert decathlon.main(words) == 0
    assert len(read_cases(output / "segmentation.csv", masks=True)) == 7


@signals
def test_outlines(tmp_path: Path, interrupt: Interrupt, signum: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    table = one_knee(tmp_path, "LEFT", True)
    write_mat(tmp_path / "contours" / "9000099" / "V00" / "9000099.mat", lateral_first=True)
    words = [str(tmp_path / "contours"), "--series", str(table), "--output", str(tmp_path / "data"), "--folds", "1"]
    interrupt(f"{PREPARE}.knee_contours.slice_order.gzip.compress", 1)  # while a mask is written
    check_end(imorphics.main(words), signum, capsys.readouterr().err, tmp_path)
    assert not (tmp_path / "data" / "segmentation.csv").exists()
    for mask in tmp_path.rglob("*.nii.gz"):
        assert nibabel.load(mask).get_fdata().any()
    assert imorphics.main([*words, "--overwrite"]) == 0


@signals
def test_drawn_knees(tmp_path: Path, interrupt: Interrupt, signum: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    interrupt(f"{PREPARE}.synthetic_knee._write_csv", 1)
    code = synthetic_knee.main([str(tmp_path / "knees"), "--patients", "1", "--labelled", "0", "--workers", "1"])
    check_end(code, signum, capsys.readouterr().err, tmp_path)
    assert list(tmp_path.iterdir()) == []


@signals
def test_a_real_process(tmp_path: Path, signum: signal.Signals) -> None:
    folder = decathlon_task(tmp_path / "task" / "Task04_Hippocampus")
    for number in range(20_000):
        (folder / f"more_{number}").touch()
    archive = packed(folder, tmp_path / "Task04_Hippocampus.tar")
    output = tmp_path / "out"
    words = [sys.executable, "-m", f"{PREPARE}.decathlon", str(archive), "--output", str(output)]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 60
    while not list(output.glob(".*/Task*/more_*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signum)
    _, error = process.communicate(timeout=60)
    check_end(process.returncode, signum, error, output)
    assert list(output.iterdir()) == []
