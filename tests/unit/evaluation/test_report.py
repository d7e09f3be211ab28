import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fuse_examples.imaging.oai_example.evaluation.report import Facts, Folded, Paragraph, Picture, Report, Row, Section, Table
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.run_facts import RunFacts
from fuse_examples.imaging.oai_example.evaluation.segmentation_report import write_segmentation_report
from fuse_examples.imaging.oai_example.evaluation.segmentation_results import CasePrediction, choose_examples, write_segmentation_results

EVIL = "\"><script>alert(1)</script>'&"
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Checks that tags nest and collects text, tables, images and every reference to something outside."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.cells: list[list[str]] = []
        self.text = ""
        self.references: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1][-1] += data
        if "style" not in self.open:
            self.text += data


def made_up(tmp_path: Path, n: int = 24) -> tuple[list[CasePrediction], dict, Page]:
    generator = np.random.default_rng(0)
    structures = ["femur", EVIL]
    cases = [
        CasePrediction(
            f"case{i}",
            f"{EVIL}{i // 2}",
            f"fold {EVIL}" if i < 4 else "4",
            i + 2,
            {"dice": dict(zip(structures, generator.uniform(0.4, 1, 2), strict=True))},
        )
        for i in range(n)
    ]
    cases.append(CasePrediction("odd", "p99", "4", n + 2, {"dice": {"femur": float("nan"), EVIL: 0.0}}))
    metrics = write_segmentation_results(tmp_path, cases, structures, Bootstrap(100))
    overlays = {case.name: b"\x89PNG" + role.encode() for role, case in choose_examples(cases).items()}
    run = RunFacts(
        f"knee {EVIL}", f"python segmentation.py {EVIL}", "best.ckpt", "a.csv", ["4"], {"torch": EVIL}, f"key: {EVIL}", [f"note {EVIL}"]
    )
    path = write_segmentation_report(tmp_path, run, cases, metrics, overlays)
    return cases, metrics, Page(path.read_text())


def test_every_figure_of_the_table_is_the_one_of_metrics_json(tmp_path: Path) -> None:
    _, metrics, page = made_up(tmp_path)
    for name, entry in metrics["dice"].items():
        interval = f"{entry['low']:.3f} to {entry['high']:.3f}"
        expected = [name, f"{entry['value']:.3f}", interval, str(entry["n_cases"]), str(entry["n_patients"]), str(entry["n_absent"])]
        assert expected in page.cells
    mean = metrics["dice"]["mean"]
    assert f"Mean Dice {mean['value']:.3f} (95 % confidence interval {mean['low']:.3f} to {mean['high']:.3f})" in page.text
    assert ["4", "21", "11"] in page.cells
    assert ["all", "25", "13"] in page.cells


def test_the_page_is_self_contained_and_everything_is_escaped(tmp_path: Path) -> None:
    cases, _, page = made_up(tmp_path)
    assert "script" not in page.tags
    assert page.text.count("<script>alert(1)</script>") >= 8  # as text: title, command, patients, structures, versions, configuration
    assert all(reference.startswith("data:") for reference in page.references)
    assert len([reference for reference in page.references if reference.startswith("data:image/png")]) == 4
    assert (tmp_path / "dice.png").read_bytes().startswith(b"\x89PNG")
    html = (tmp_path / "report.html").read_text()
    assert not re.findall(r"https?://", html)
    assert "Content-Security-Policy" in html
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    worst = choose_examples(cases)["worst"]
    assert f"Worst: {worst.name}, mean Dice {worst.mean():.3f}" in page.text
    assert f"note {EVIL}" in page.text


def test_without_intervals_the_reason_is_in_the_page(tmp_path: Path) -> None:
    _, metrics, page = made_up(tmp_path, n=6)
    assert metrics["dice"]["mean"]["low"] is None
    assert ["mean", f"{metrics['dice']['mean']['value']:.3f}", "–", "7", "4", "0"] in page.cells
    assert "no interval: 4 patients with a score; 10 are needed." in page.text
    assert "confidence interval" not in page.text.split("What was run")[0]


@pytest.mark.parametrize(
    "block",
    [
        Paragraph(EVIL),
        Paragraph(EVIL, EVIL),
        Facts({EVIL: EVIL}),
        Table([EVIL, EVIL], [[EVIL, EVIL]], EVIL),
        Picture(b"x", EVIL, EVIL),
        Folded(EVIL, EVIL),
        Section(EVIL, [Paragraph(EVIL)]),
        Row([Paragraph(EVIL)]),
    ],
    ids=lambda block: type(block).__name__,
)
def test_each_block_escapes_what_it_is_given(block, tmp_path: Path) -> None:
    Report(EVIL, EVIL, [Section("s", [block])]).write(tmp_path / "a.html")
    page = Page((tmp_path / "a.html").read_text())
    assert "script" not in page.tags
    assert EVIL in page.text
