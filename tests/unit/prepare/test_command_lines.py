"""The preparing commands as a user starts them: help at once, without anything heavy."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PREPARE = ROOT / "fuse_examples" / "imaging" / "oai_example" / "prepare"
COMMANDS = ("check", "decathlon", "dicom", "imorphics", "nnunet", "oai", "split")
HEAVY = ("torch", "pytorch_lightning", "monai", "numpy", "pandas", "nibabel", "matplotlib", "pydicom", "scipy", "h5py")
REPORT = """
import sys
from fuse_examples.imaging.oai_example.prepare.{name} import main
try:
    main(["--help"])
finally:
    print(sorted({{module.split(".")[0] for module in sys.modules}} & set({heavy})), file=sys.stderr)
"""

commands = pytest.mark.parametrize("name", COMMANDS)


@commands
def test_help_imports_nothing_heavy(name: str) -> None:
    code = REPORT.format(name=name, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert done.stdout.startswith(f"usage: python -m fuse_examples.imaging.oai_example.prepare.{name}")


@commands
def test_the_entry_is_short(name: str) -> None:
    assert len((PREPARE / f"{name}.py").read_text().splitlines()) < 60


def test_no_command_is_left_out() -> None:
    entries = {path.stem for path in PREPARE.glob("*.py") if "__main__" in path.read_text()}
    assert entries - {"synthetic_knee", "demo_verdict"} == set(COMMANDS)
