"""Fixtures of the whole suite. Real data: set REAL_DATA_DIR; see docs/real_data.md for where it comes from."""

import os
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
