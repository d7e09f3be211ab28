"""The report in a real browser, where one is installed."""

import base64
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from chromium import Tab, browser, needs_chromium

from fuse_examples.imaging.oai_example.evaluation.overlay import PLANES
from fuse_examples.imaging.oai_example.evaluation.painting import painted_areas, painted_lines
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.run_facts import RunFacts
from fuse_examples.imaging.oai_example.evaluation.segmentation_report import write_segmentation_report
from fuse_examples.imaging.oai_example.evaluation.segmentation_results import CasePrediction, write_segmentation_results
from fuse_examples.imaging.oai_example.evaluation.slices import LayerOfSlices, stack_of
from fuse_examples.imaging.oai_example.geometry.volume import Grid, Volume

pytestmark = needs_chromium
N_SLICES, START = 7, 3
SHOWN = "[...document.querySelectorAll('.slice')].map((slice, n) => slice.checkVisibility() ? n : -1).filter((n) => n >= 0).join()"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmentation report with one case to scroll through; each slice is brighter than the one before."""
    folder = tmp_path_factory.mktemp("report")
    cases = [CasePrediction(f"case{n}", f"p{n}", "4", n + 2, {"dice": {"femur": 0.5 + n / 50}}) for n in range(12)]
    metrics = write_segmentation_results(folder, cases, ["femur"], Bootstrap(50))
    affine = np.diag([3.0, 1.0, 1.0, 1.0])
    scan = Volume(np.indices((N_SLICES, 20, 20))[0] * 10.0, affine, Grid((N_SLICES, 20, 20), affine))
    labels = np.zeros(scan.array.shape, dtype=np.uint8)
    labels[:, 5:15, 5:15] = 1
    layers = [LayerOfSlices("truth", painted_areas(labels, PLANES[0])), LayerOfSlices("prediction", painted_lines(labels, PLANES[0]))]
    pictures = {"case0": [stack_of("case0", scan, layers, START, 10**6, PLANES[0])]}
    run = RunFacts("knees", configuration="key: 1\n" * 200, versions={"torch": "2"})
    return write_segmentation_report(folder, run, cases, metrics, pictures)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.fixture
def tab(chromium: Tab, page: Path) -> Tab:
    """The page, loaded anew."""
    chromium.events.clear()
    chromium.open(page)
    return chromium


def test_nothing_complains_and_nothing_is_asked_of_a_network(tab: Tab) -> None:
    assert tab.complaints() == []
    assert tab.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert tab.evaluate("document.querySelector('.headline').textContent").startswith("Mean Dice 0.610 (95 % confidence interval ")


def test_what_is_amiss_in_a_page_would_be_seen(tab: Tab, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text('<script>console.error("x"); nothing()</script><img src="http://127.0.0.1:9/a.png">')
    tab.events.clear()
    tab.open(tmp_path / "bad.html")
    complaints = str(tab.complaints())
    assert [word for word in ("'type': 'error'", "ReferenceError", "http://127.0.0.1:9/a.png") if word not in complaints] == []


def test_slices_scroll_by_wheel_keys_and_slider(tab: Tab) -> None:
    assert tab.evaluate(SHOWN) == str(START)
    tab.turn_wheel(".view", 100)
    assert tab.evaluate(SHOWN) == str(START + 1)
    tab.turn_wheel(".view", -100)
    tab.turn_wheel(".view", -100)
    assert tab.evaluate(SHOWN) == str(START - 1)
    before = bright(tab)
    tab.click(".view")
    tab.press("ArrowDown")
    tab.press("ArrowDown")
    assert tab.evaluate(SHOWN) == str(START + 1)
    assert bright(tab) > before + 10  # the picture itself has changed
    tab.press("End")
    assert tab.evaluate(SHOWN) == str(N_SLICES - 1)
    tab.press("ArrowDown")
    assert tab.evaluate(SHOWN) == str(N_SLICES - 1)
    tab.press("Home")
    assert tab.evaluate(SHOWN) == "0"
    told = "document.querySelector('output').textContent"
    assert tab.evaluate(told) == "sagittal, slice 1 of 7 from the patient's left, x = 0.0 mm"
    tab.evaluate("document.querySelector('input[type=range]').focus()")
    tab.press("ArrowUp")
    assert tab.evaluate(SHOWN) == "1"
    assert tab.evaluate("document.querySelector('input[type=range]').getAttribute('aria-valuetext')") == tab.evaluate(told)
    assert tab.complaints() == []


def test_the_page_scrolls_on_where_the_slices_end(tab: Tab) -> None:
    tab.click(".view")
    tab.press("End")
    before = tab.evaluate("window.scrollY")
    tab.turn_wheel(".view", 200)
    tab.evaluate("new Promise((done) => setTimeout(done, 500))")
    assert tab.evaluate("window.scrollY") > before


def test_boxes_hide_and_show_what_lies_over_the_scan(tab: Tab) -> None:
    layers = "[0, 1].map((n) => document.querySelector(`.slice:not([hidden]) .layer-${n}`).checkVisibility()).join()"
    assert tab.evaluate(layers) == "true,true"
    tab.click("input[type=checkbox]")
    assert tab.evaluate(layers) == "false,true"
    tab.turn_wheel(".view", 100)
    assert tab.evaluate(layers) == "false,true"
    tab.click("input[type=checkbox]")
    assert tab.evaluate(layers) == "true,true"


def test_without_scripts_the_start_slice_stands_there_without_controls(tab: Tab, page: Path) -> None:
    tab.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.events.clear()
        tab.open(page)
        # The debugger's own expressions still run.
        assert tab.evaluate(SHOWN) == str(START)
        assert not tab.evaluate("document.querySelector('.controls').checkVisibility()")
    finally:
        tab.send("Emulation.setScriptExecutionDisabled", value=False)


def test_it_is_light_or_dark_as_the_reader_wishes_and_light_on_paper(tab: Tab) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        tab.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        shot = np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("L"), dtype=float)
        brightness[scheme] = float(np.median(shot))
        assert len(np.unique(shot)) > 50  # text and plots, not an empty frame
    assert brightness["light"] > 230
    assert brightness["dark"] < 60
    tab.send("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "light"}])
    assert tab.evaluate("getComputedStyle(document.querySelector('.controls')).display") == "none"
    assert tab.evaluate("document.querySelector('.printed-position').checkVisibility()")
    for whole in (".part", ".scroll", "figure"):  # a heading stays with its case, a table's head with its rows
        assert tab.evaluate(f"getComputedStyle(document.querySelector('{whole}')).breakInside") == "avoid"
    tab.send("Emulation.setEmulatedMedia", media="", features=[])


def test_a_narrow_screen_has_no_sideways_scrolling(tab: Tab) -> None:
    tab.send("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    tab.send("Emulation.clearDeviceMetricsOverride")


def bright(tab: Tab) -> float:
    x, y = tab.middle(".view")
    clip = {"x": x - 200, "y": y - 200 + tab.evaluate("window.scrollY"), "width": 60, "height": 60, "scale": 1}
    shot = tab.send("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
    return float(np.asarray(Image.open(io.BytesIO(base64.b64decode(shot))).convert("L")).mean())
