"""The report in a real browser, where one is installed."""

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fuse_examples.imaging.oai_example.evaluation.figures import box_plot, png_bytes
from fuse_examples.imaging.oai_example.evaluation.report import Facts, Folded, Picture, Report, Section, Table

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr",
)  # fmt: skip


def browse(tmp_path: Path, *words: str) -> str:
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *words, (tmp_path / "report.html").as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stderr


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_the_page_shows_its_picture_without_an_error_in_light_and_dark(tmp_path: Path) -> None:
    picture = Picture(png_bytes(box_plot({"a": [0.5, 0.7]}, "Dice")), "dots", "caption")
    blocks = [Facts({"Command": "python a.py"}), Table(["a", "b"], [["x", "0.5"]]), picture, Folded("Configuration", "a: 1")]
    Report("Test", "subtitle", [Section("All", blocks)]).write(tmp_path / "report.html")
    brightness = {}
    for scheme, flag in (("light", "1"), ("dark", "0")):
        target = tmp_path / f"{scheme}.png"
        log = browse(tmp_path, f"--blink-settings=preferredColorScheme={flag}", "--window-size=900,700", f"--screenshot={target}")
        assert "CONSOLE" not in log, log
        shot = np.asarray(Image.open(io.BytesIO(target.read_bytes())).convert("L"), dtype=float)
        brightness[scheme] = float(np.median(shot))
        assert len(np.unique(shot)) > 50  # the plot and its text, not an empty frame
    assert brightness["light"] > 230
    assert brightness["dark"] < 60
