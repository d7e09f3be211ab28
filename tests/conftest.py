"""Fixtures of the whole suite. Real data: set REAL_DATA_DIR; see docs/real_data.md for where it comes from."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans, or a skip with the reason (a failure where REAL_DATA_REQUIRED is set)."""
    folder = os.environ.get("REAL_DATA_DIR")
    if folder and Path(folder).is_dir():
        return Path(folder).resolve()
    if os.environ.get("REAL_DATA_REQUIRED"):
        pytest.fail("REAL_DATA_REQUIRED is set, but REAL_DATA_DIR names no folder")
    pytest.skip("needs REAL_DATA_DIR")


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder with `file`, which may not be read, and `closed/file`, in a folder that may not be entered; they hold for root too."""
    own = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "closed").mkdir()
        for path in (folder / "file", folder / "closed" / "file"):
            path.write_bytes(b"content")
        (folder / "file").chmod(0)
        (folder / "closed").chmod(0)
        folder.chmod(0o755)
        if own == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(own)
            (folder / "closed").chmod(0o700)
