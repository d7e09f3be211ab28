"""The scripts themselves, as a user starts them."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
PACKAGE = CHECKOUT / "fuse_examples" / "imaging" / "oai_example"
SCRIPTS = [
    PACKAGE / "self_supervised" / "dino.py",
    PACKAGE / "downstream" / "classification.py",
    PACKAGE / "downstream" / "segmentation.py",
    PACKAGE / "downstream" / "label_efficiency.py",
]
HEAVY = {"torch", "pytorch_lightning", "monai", "numpy", "pandas", "nibabel", "matplotlib", "clearml"}
REPORT = """
import atexit, runpy, sys
def report():
    print(sorted({name.split(".")[0] for name in sys.modules} & HEAVY), sys.path[0], FOLDER in sys.path, file=sys.stderr)
atexit.register(report)
sys.argv = ARGV
sys.path[0] = FOLDER
runpy.run_path(ARGV[0], run_name="__main__")
"""

scripts = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)


def start(*command: str, cwd: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": path}
    return subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


@scripts
def test_help_imports_nothing_heavy_and_the_checkout_comes_first(script: Path, tmp_path: Path) -> None:
    code = REPORT.replace("HEAVY", repr(HEAVY)).replace("ARGV", repr([str(script), "--help"])).replace("FOLDER", repr(str(script.parent)))
    done = start("-c", code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, f"[] {CHECKOUT} False\n")
    assert done.stdout.startswith("usage: python fuse_examples/")


@scripts
def test_another_package_of_the_same_name_does_not_get_in_the_way(script: Path, tmp_path: Path) -> None:
    (tmp_path / "fuse_examples").mkdir()
    (tmp_path / "fuse_examples" / "__init__.py").write_text("raise SystemExit('the wrong package')")
    done = start(str(script), "--help", cwd=tmp_path, path=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS[:3], ids=lambda script: script.stem)
def test_without_config_the_script_finds_its_own_file_from_any_folder(script: Path, tmp_path: Path) -> None:
    done = start(str(script), "sed=3", cwd=tmp_path)
    shipped = CHECKOUT / "configs" / f"{script.stem}_config.yaml"
    no_csv, unknown = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert no_csv.startswith(f"{shipped}:")
    assert no_csv.endswith(f"nor a folder 'data'; paths are relative to the working directory, {tmp_path}")
    assert unknown == "command line: sed=3: unknown key 'sed'; did you mean 'seed'?"


@scripts
def test_the_script_reads_like_a_paragraph(script: Path) -> None:
    lines = script.read_text().splitlines()
    assert len(lines) < 60
    assert "torch" not in [line.split()[1] for line in lines if line.startswith(("import ", "from "))]
