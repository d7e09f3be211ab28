import base64
import hashlib
import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fuse_examples.imaging.oai_example.evaluation.learning_curves import Curve, CurvePlot
from fuse_examples.imaging.oai_example.evaluation.painting import StructureLegend
from fuse_examples.imaging.oai_example.evaluation.report import (
    Block,
    Facts,
    Folded,
    Paragraph,
    Picture,
    Report,
    Row,
    Section,
    Subsection,
    Table,
)
from fuse_examples.imaging.oai_example.evaluation.report_style import SCRIPT
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.run_facts import RunFacts
from fuse_examples.imaging.oai_example.evaluation.segmentation_report import write_segmentation_report
from fuse_examples.imaging.oai_example.evaluation.segmentation_results import CasePrediction, shown_cases, write_segmentation_results

EVIL = "\"><script>alert(1)</script>'&"
VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Checks that tags nest and collects text, tables, images and every reference to something outside."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.cells: list[list[str]] = []
        self.text = ""
        self.references: list[str] = []
        self.scripts: list[str] = []
        self.headings: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)
        if tag == "img":
            assert dict(attrs).get("alt") is not None
        if tag == "th":
            assert dict(attrs)["scope"] in ("col", "row")
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
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" not in self.open:
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
    pictures: dict[str, list[Block]] = {case.name: [Picture(b"\x89PNG" + rank.encode(), rank)] for rank, case in shown_cases(cases)}
    run = RunFacts(
        f"knee {EVIL}",
        f"python segmentation.py {EVIL}",
        "2026-01-02",
        "best.ckpt",
        "a.csv",
        ["4"],
        {"Network": EVIL},
        {"training": {EVIL: [7, 5]}},
        3,
        {"torch": EVIL, "commit": "0123abc"},
        f"key: {EVIL}",
        [f"note {EVIL}"],
        [CurvePlot(EVIL, {EVIL: Curve([1, 2], [0.5, 0.25])})],
    )
    path = write_segmentation_report(tmp_path, run, cases, metrics, pictures)
    return cases, metrics, Page(path.read_text())


def test_every_figure_of_the_table_is_the_one_of_metrics_json(tmp_path: Path) -> None:
    _, metrics, page = made_up(tmp_path)
    for name, entry in metrics["dice"].items():
        interval = f"{entry['low']:.3f} to {entry['high']:.3f}"
        expected = [name, f"{entry['value']:.3f}", interval, str(entry["n_cases"]), str(entry["n_patients"]), str(entry["n_absent"])]
        assert expected in page.cells
    mean = metrics["dice"]["mean"]
    assert f"Mean Dice {mean['value']:.3f} (95 % confidence interval {mean['low']:.3f} to {mean['high']:.3f})" in page.text
    assert ["test", "4", "21", "11"] in page.cells
    assert ["test", "all", "25", "13"] in page.cells
    assert ["training", EVIL, "7", "5"] in page.cells


def test_every_figure_in_millimetres_and_millilitres_is_the_one_of_metrics_json(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    metrics_of = {
        "surface_dice": ("femur", "cartilage"),
        "hd95_mm": ("femur", "cartilage"),
        "assd_mm": ("femur", "cartilage"),
        "volume_error_ml": ("femur", "cartilage"),
        "absolute_volume_error_ml": ("femur", "cartilage"),
        "thickness_error_mm": ("cartilage",),
        "absolute_thickness_error_mm": ("cartilage",),
    }
    cases = []
    for number in range(24):
        scores = {
            metric: dict(zip(names, generator.normal(0, 3, len(names)).tolist(), strict=True)) for metric, names in metrics_of.items()
        }
        dice = {"femur": 0.5 + number / 60, "cartilage": 0.3 + number / 60}
        cases.append(CasePrediction(f"case{number}", f"p{number}", "4", number + 2, {"dice": dice, **scores}))
    write_segmentation_results(tmp_path, cases, ["femur", "cartilage"], Bootstrap(100))
    written = json.loads((tmp_path / "metrics.json").read_text())
    page = Page(write_segmentation_report(tmp_path, RunFacts("knee"), cases, written, {}).read_text())
    tables = (("surface_dice", "hd95_mm", "assd_mm"), tuple(metrics_of)[3:5], tuple(metrics_of)[5:])
    for table in tables:
        for structure in ("mean", "femur", "cartilage"):
            entries = [written[metric].get(structure) for metric in table]
            told = ["" if one is None else f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})" for one in entries]
            assert ([structure, *told] in page.cells) == any(told)
    few = cases[:4]
    written = write_segmentation_results(tmp_path, few, ["femur", "cartilage"], Bootstrap(100))
    page = Page(write_segmentation_report(tmp_path, RunFacts("knee"), few, written, {}).read_text())
    assert ["femur", *(f"{written[metric]['femur']['value']:.3f}" for metric in tables[0])] in page.cells  # no interval, no empty brackets


def test_the_page_is_self_contained_and_everything_is_escaped(tmp_path: Path) -> None:
    _, _, page = made_up(tmp_path)
    assert page.scripts == [SCRIPT]
    assert page.text.count("<script>alert(1)</script>") >= 8  # as text: title, command, patients, structures, versions, configuration
    assert all(reference.startswith(("data:", "#section-")) for reference in page.references)
    assert len([reference for reference in page.references if reference.startswith("data:image/png")]) == 9  # a curve, a box plot, 7 cases
    assert (tmp_path / "dice.png").read_bytes().startswith(b"\x89PNG")
    html = (tmp_path / "report.html").read_text()
    assert not re.findall(r"https?://", html)
    allowed = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'" in html
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert f"note {EVIL}" in page.text
    assert "0123abc" in page.text


def test_headings_come_in_order_and_the_contents_lead_to_every_section(tmp_path: Path) -> None:
    _, _, page = made_up(tmp_path)
    assert page.headings[0] == "h1"
    assert page.headings.count("h1") == 1
    assert all(int(after[1]) <= int(before[1]) + 1 for before, after in itertools.pairwise(page.headings))
    links = [reference for reference in page.references if reference.startswith("#")]
    assert [link.removeprefix("#") for link in links] == re.findall(r'<section id="([^"]+)"', (tmp_path / "report.html").read_text())
    assert len(links) == page.headings.count("h2")


def test_the_worst_five_come_first_then_the_median_and_the_best(tmp_path: Path) -> None:
    cases, _, page = made_up(tmp_path)
    ranked = sorted((case for case in cases), key=lambda case: case.mean())
    titles = re.findall(r"(Lowest|2nd lowest|3rd lowest|4th lowest|5th lowest|Median|Highest): (\w+), mean Dice ([\d.]+)", page.text)
    chosen = [*ranked[:5], ranked[12], ranked[-1]]
    names = ["Lowest", "2nd lowest", "3rd lowest", "4th lowest", "5th lowest", "Median", "Highest"]
    assert titles == [(name, case.name, f"{case.mean():.3f}") for name, case in zip(names, chosen, strict=True)]
    few = shown_cases(cases[:3])
    assert [rank for rank, _ in few] == ["lowest", "2nd lowest, median", "3rd lowest, highest"]
    assert [rank for rank, _ in shown_cases(cases[:1])] == ["lowest, median, highest"]
    assert shown_cases([cases[-1], replace(cases[0], scores={"dice": {"femur": float("nan")}})]) == [("lowest, median, highest", cases[-1])]


def test_plots_that_would_make_the_page_too_large_are_left_out_from_the_end_and_named(tmp_path: Path) -> None:
    plots = [Picture(bytes([65 + number]) * 3000, f"alt {number}", f"Plot {number}.", file=f"{number}.png") for number in range(3)]
    report = Report("Test", "", [Section("a", [plots[0], Row([plots[1]])]), Section("b", [Subsection("c", [plots[2]])])])
    bare = len(Report("Test", "", [Section("a", []), Section("b", [])]).html())
    report.write(tmp_path / "a.html", bare + 6000)
    page = Page((tmp_path / "a.html").read_text())
    assert page.tags.count("img") == 1
    assert "Plot 1. Left out to keep this page small; see 1.png." in page.text
    assert "Plot 2. Left out to keep this page small; see 2.png." in page.text
    assert len((tmp_path / "a.html").read_bytes()) <= bare + 6000


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
        Subsection(EVIL, [Paragraph(EVIL)]),
        StructureLegend([(1, EVIL), (9, EVIL)]),
        Row([Paragraph(EVIL)]),
    ],
    ids=lambda block: type(block).__name__,
)
def test_each_block_escapes_what_it_is_given(block, tmp_path: Path) -> None:
    Report(EVIL, EVIL, [Section("s", [block])]).write(tmp_path / "a.html")
    page = Page((tmp_path / "a.html").read_text())
    assert page.scripts == [SCRIPT]
    assert EVIL.replace("_", " ") in page.text
