"""The map of features against scikit-learn's PCA, and the report of a pre-training test against metrics.json."""

from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from fuse_examples.imaging.oai_example.data.cases import Case
from fuse_examples.imaging.oai_example.evaluation.embedding_map import REST, map_figure, principal_map
from fuse_examples.imaging.oai_example.evaluation.embeddings import write_embedding_results
from fuse_examples.imaging.oai_example.evaluation.overlay import PLANES, cut, planes_figure
from fuse_examples.imaging.oai_example.evaluation.pretraining_report import write_pretraining_report
from fuse_examples.imaging.oai_example.evaluation.probes import Embedded
from fuse_examples.imaging.oai_example.evaluation.run_facts import RunFacts
from fuse_examples.imaging.oai_example.geometry.volume import Grid, Volume

EVIL = "<KL>/side"


def features(n: int = 30) -> np.ndarray:
    generator = np.random.default_rng(0)
    return (generator.normal(size=(n, 6)) * (5, 3, 1, 1, 1, 0.1) @ generator.normal(size=(6, 6)) + 7).astype(np.float32)


def test_the_map_is_that_of_principal_components() -> None:
    found, reference = principal_map(features()), PCA(n_components=2).fit(features().astype(float))
    theirs = reference.transform(features().astype(float))
    for axis in range(2):
        assert np.allclose(np.abs(found.places[:, axis]), np.abs(theirs[:, axis]), atol=1e-4)
        assert abs(np.corrcoef(found.places[:, axis], theirs[:, axis])[0, 1]) == pytest.approx(1)
    assert np.allclose(found.shares, reference.explained_variance_ratio_)
    assert np.array_equal(found.places, principal_map(features()).places)


@pytest.mark.parametrize("rows", [np.ones((4, 3)), np.array([[1.0, 2.0]]), np.arange(5.0)[:, None]])
def test_features_of_fewer_directions_have_a_map_too(rows: np.ndarray) -> None:
    found = principal_map(rows)
    assert np.isfinite(found.places).all()
    assert found.places.shape == (len(rows), 2)
    assert np.allclose(found.places[:, 1], 0)
    assert isinstance(map_figure(found, ["a"] * len(rows), "all"), Figure)


def test_dots_lie_where_their_cases_are_in_the_shape_of_their_group() -> None:
    found, groups = principal_map(features()), [f"g{number % 15:02d}" for number in range(30)]
    axes = map_figure(found, groups, "group").axes[0]
    drawn = np.concatenate([np.asarray(dots.get_offsets()) for dots in axes.collections])
    assert np.allclose(np.sort(drawn, axis=0), np.sort(found.places, axis=0))
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts[0] == "g00 (2)"
    assert len(texts) == 13
    assert texts[-1] == f"{REST} (6)"
    first = np.asarray(axes.collections[0].get_offsets())
    assert np.allclose(first, found.places[[0, 15]])


def case(number: int) -> Case:
    truth = {EVIL: "high" if number % 3 else None}
    return Case(number + 2, f"case{number}", f"p{number // 2}", Path("a.nii"), None, str(number % 2), truth)


def written(folder: Path, probes: dict[str, Any] | None, targets: list[str]) -> tuple[dict[str, Any], str]:
    cases = [case(number) for number in range(30)]
    metrics = write_embedding_results(folder, Embedded(cases, features()), probes)
    views = planes_figure([("the scan", Volume(np.random.default_rng(0).normal(size=(4, 6, 8)), np.eye(4), Grid((4, 6, 8), np.eye(4))))])
    write_pretraining_report(folder, RunFacts("dino", test_folds=["0", "1"]), cases, metrics, principal_map(features()), targets, views)
    return metrics, unescape((folder / "report.html").read_text())


def test_the_figures_are_those_of_metrics_json(tmp_path: Path) -> None:
    one = {"value": 0.75, "low": 0.6, "high": 0.9, "n_cases": 30, "n_patients": 15}
    nothing = {"value": None, "low": None, "high": None, "n_cases": 30, "n_patients": 15, "note": "undefined: not every class has cases"}
    probes = {EVIL: {"knn_auc": one, "linear_auc": nothing}, "rules": {"knn_auc": "a rule", "auc": "another"}}
    metrics, text = written(tmp_path, probes, [EVIL])
    assert f"Effective rank {metrics['effective_rank']:.1f} of 6" in text
    assert f'<th scope="row">effective rank</th><td>{metrics["effective_rank"]:.3f}</td>' in text
    assert f"<td>{metrics['mean_std']:.4f}</td>" in text
    assert f'<th scope="row">{EVIL}, k-NN</th><td>0.750</td><td>0.600 to 0.900</td><td>30</td><td>15</td>' in text
    assert "undefined: not every class has cases" in text
    assert "a rule" in text
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["embedding__KL__side.png", "views.png"]
    assert "30 cases of 15 patients, test folds: 0, 1" in text
    assert EVIL not in (tmp_path / "report.html").read_text()


def test_without_labels_the_map_is_coloured_by_fold(tmp_path: Path) -> None:
    _, text = written(tmp_path, None, [])
    assert (tmp_path / "embedding.png").exists()
    assert "Coloured by fold." in text
    assert "What can be read" not in text


def test_views_show_their_middle_slices_with_letters_on_every_one() -> None:
    scan = Volume(np.random.default_rng(0).normal(size=(5, 7, 9)), np.diag([3.0, 1, 1, 1]), Grid((5, 7, 9), np.diag([3.0, 1, 1, 1])))
    figure = planes_figure([("a", scan), ("b", replace(scan, array=scan.array * 2))])
    assert len(figure.axes) == 6
    for axes, plane in zip(figure.axes, [*PLANES, *PLANES], strict=True):
        assert [text.get_text() for text in axes.texts] == list(plane.edges)
    shown = np.asarray(figure.axes[1].images[0].get_array())
    assert np.array_equal(shown, cut(scan.array, PLANES[1], 3))
    assert figure.axes[1].get_title() == "a, 15 x 7 x 9 mm"
