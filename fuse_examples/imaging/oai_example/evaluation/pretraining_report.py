"""The report of a pre-training test; every figure in it is read from the content of metrics.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.evaluation.embedding_map import PrincipalMap, map_figure
from fuse_examples.imaging.oai_example.evaluation.figures import save_png
from fuse_examples.imaging.oai_example.evaluation.plain_words import DIRECTIONS, reading_section
from fuse_examples.imaging.oai_example.evaluation.report import Block, Paragraph, Picture, Report, Row, Section, Table
from fuse_examples.imaging.oai_example.evaluation.run_facts import (
    RunFacts,
    curves_section,
    data_section,
    interval_text,
    notes_of,
    repeat_section,
    run_section,
    three_digits,
)

PROBES = {"knn_auc": "k-NN", "linear_auc": "linear"}
UNKNOWN = "no value"


def write_pretraining_report(
    folder: Path,
    run: RunFacts,
    cases: Sequence[Case],
    metrics: Mapping[str, Any],
    embedding: PrincipalMap,
    targets: Sequence[str],
    views: Figure,
) -> Path:
    """Write report.html and its pictures (views.png, embedding.png or embedding_<target>.png) into the test folder.

    Args:
        folder: the test folder.
        run: what was run.
        cases: the embedded cases.
        metrics: what `write_embedding_results` returned.
        embedding: where the cases lie.
        targets: columns that colour the map; none colours it by fold.
        views: what the network learns from.
    """
    sections = [
        _headline(metrics),
        run_section(run),
        data_section(cases, run),
        curves_section(run),
        _statistics(metrics),
        *_probes(metrics),
        _embedding(folder, cases, embedding, targets),
        _views(folder, views),
        _reading(metrics),
        repeat_section(run),
    ]
    path = folder / "report.html"
    folds = f", test folds: {', '.join(run.test_folds)}" if run.test_folds else ""
    subtitle = f"{metrics['n_cases']} cases of {metrics['n_patients']} patients{folds}"
    Report(f"Pre-training test: {run.experiment}", subtitle, sections).write(path)
    return path


def _headline(metrics: Mapping[str, Any]) -> Section:
    rank, most = metrics["effective_rank"], min(metrics["n_cases"], metrics["n_features"])
    words = (
        f"The network was pre-trained without labels. Its {metrics['n_features']} features of {metrics['n_cases']} test scans use about "
        f"{rank:.1f} independent directions, where {most} is the most there can be and 1 would mean that all scans look the same to it."
    )
    return Section("Result", [Paragraph(f"Effective rank {rank:.1f} of {most}", "headline"), Paragraph(words)])


def _statistics(metrics: Mapping[str, Any]) -> Section:
    rows = [
        ["effective rank", three_digits(metrics["effective_rank"])],
        ["mean standard deviation", f"{metrics['mean_std']:.4f}"],
        ["the same, evenly spread", f"{metrics['n_features'] ** -0.5:.4f}"],
        ["features", str(metrics["n_features"])],
        ["cases", str(metrics["n_cases"])],
        ["patients", str(metrics["n_patients"])],
    ]
    return Section("Features of the test scans", [Table(["figure", "value"], rows)])


def _probes(metrics: Mapping[str, Any]) -> list[Section]:
    """How well simple classifiers read labelled columns from the features; none without `probe_targets`."""
    found = {name: entry for name, entry in metrics.get("probes", {}).items() if name != "rules"}
    if not found:
        return []
    entries = {f"{target}, {PROBES[probe]}": one for target, probes in found.items() for probe, one in probes.items()}
    rows = [
        [name, three_digits(one["value"]), interval_text(one), str(one["n_cases"]), str(one["n_patients"])] for name, one in entries.items()
    ]
    table = Table(["probe", "AUC", "95 % interval", "cases", "patients"], rows)
    words = Paragraph("Probes learn from the features of the training cases and are scored on the test cases.", "note")
    return [Section("What can be read from the features", [table, *(Paragraph(text, "note") for text in notes_of(entries)), words])]


def _embedding(folder: Path, cases: Sequence[Case], embedding: PrincipalMap, targets: Sequence[str]) -> Section:
    pictures: list[Block] = []
    for column in targets or ("fold",):
        groups = [case.fold if not targets else case.targets.get(column) or UNKNOWN for case in cases]
        file = "embedding.png" if not targets else f"embedding_{_plain(column)}.png"
        png = save_png(map_figure(embedding, groups, column), folder / file)
        alt = f"The test cases in the plane of the features' two main directions, coloured by {column}"
        pictures.append(Picture(png, alt, f"Coloured by {column}.", 560, file=file))
    words = "Each dot is a test case, in the plane of the two directions along which the features vary most (PCA). Near dots look alike to "
    words += "the network. Clusters of one colour say that it tells these values apart without having been told of them."
    return Section("Map of the features", [Paragraph(words), Row(pictures)])


def _views(folder: Path, figure: Figure) -> Section:
    png = save_png(figure, folder / "views.png")
    alt = "Middle slices in three planes of the first test scan, of its large views and of its small views"
    words = "What the network learns from: large and small views cut out of one scan and changed at random, drawn here from the first test "
    words += "scan as in training. The network learns to give all of them the same description."
    words += " Views are shown in the patient's directions, so a mirrored one is not seen to be mirrored."
    return Section("Views", [Paragraph(words), Picture(png, alt, DIRECTIONS, 760, "scan", "views.png")])


def _reading(metrics: Mapping[str, Any]) -> Section:
    how = {name.replace("_", " "): text for name, text in metrics["rules"].items()}
    how |= {PROBES.get(name, name): text for name, text in metrics.get("probes", {}).get("rules", {}).items()}
    return reading_section(["effective rank", *(["k-NN, linear", "AUC"] if "probes" in metrics else [])], how=how)


def _plain(name: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-._" else "_" for sign in name)
