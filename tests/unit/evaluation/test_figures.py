import io

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from fuse_examples.imaging.oai_example.evaluation import figures
from fuse_examples.imaging.oai_example.evaluation.classification_metrics import precision_recall_curve


def test_box_plot_shows_every_score_and_its_median() -> None:
    scores = {"femoral_cartilage": [0.9, 0.5, 0.7, np.nan], "b" * 60: [0.2, 0.4], "none": [np.nan], "nothing": []}
    axes = figures.box_plot(scores, "Dice").axes[0]
    shown = [sorted(np.asarray(dots.get_offsets())[:, 0]) for dots in axes.collections]
    assert shown == [[0.5, 0.7, 0.9], [0.2, 0.4], [], []]
    medians = [line.get_xdata()[0] for line in axes.lines if line.get_linewidth() == 1.8 and len(line.get_xdata())]
    assert medians[:2] == [0.7, pytest.approx(0.3)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["femoral cartilage", "b" * 31 + "…", "none", "nothing"]
    assert axes.get_xlim() == (0, 1)
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first at the top
    negative = figures.box_plot({"a": [-0.5, 0.5]}, "kappa").axes[0]
    assert negative.get_xlim()[0] == -0.5
    assert figures.box_plot({"a": [10.0, 90.0]}, "mm", limits=None).axes[0].get_xlim()[1] > 90


def test_dots_of_a_box_lie_apart_and_in_their_row() -> None:
    axes = figures.box_plot({"a": [0.5] * 40, "b": [0.5] * 40}, "Dice").axes[0]
    for place, dots in enumerate(axes.collections):
        heights = np.sort(np.asarray(dots.get_offsets())[:, 1])
        assert np.diff(heights).min() > 0.002
        assert np.abs(heights - place).max() < 0.25


def test_the_area_under_the_precision_steps_is_the_average_precision() -> None:
    generator = np.random.default_rng(0)
    truth = generator.random(50) < 0.3
    score = np.round(generator.normal(size=50) + truth, 1)
    axes = figures.precision_recall_plot({"a": precision_recall_curve(truth, score)}, {"a": truth.mean()}).axes[0]
    line = axes.lines[0]
    assert line.get_drawstyle() == "steps-pre"
    x, y = line.get_xdata(), line.get_ydata()
    assert np.sum(np.diff(x) * y[1:]) == pytest.approx(average_precision_score(truth, score))
    assert list(axes.lines[1].get_ydata()) == [truth.mean()] * 2


def test_roc_plot_names_its_curves_and_chance() -> None:
    curve = (np.array([0, 0.2, 1]), np.array([0, 0.7, 1]))
    axes = figures.roc_plot({"mild (AUC 0.750)": curve, "severe": curve}).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["chance", "mild (AUC 0.750)", "severe"]
    assert np.array_equal(axes.lines[1].get_xydata(), np.stack(curve, axis=1))
    assert {line.get_linestyle() for line in axes.lines[1:]} == {"-", "--"}  # not by colour alone


def test_confusion_plot_counts_and_shades_by_row() -> None:
    counts = np.array([[3, 1], [0, 0]])
    axes = figures.confusion_plot(counts, ["1: Progression", "3: Non-exposed control group"]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["3\n75%", "1\n25%", "0\n0%", "0\n0%"]
    assert np.array_equal(axes.images[0].get_array(), [[0.75, 0.25], [0, 0]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1: Progression", "3: Non-exposed\ncontrol group"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "truth")


def test_pictures_do_not_depend_on_the_moment_or_on_pyplots_settings(tmp_path) -> None:
    def picture() -> bytes:
        return figures.png_bytes(figures.box_plot({"a": [0.5, 0.7]}, "Dice"))

    first = picture()
    assert first == picture()
    assert figures.save_png(figures.box_plot({"a": [0.5, 0.7]}, "Dice"), tmp_path / "new" / "a.png") == first
    assert (tmp_path / "new" / "a.png").read_bytes() == first
    assert Image.open(io.BytesIO(first)).size == (1080, 262)
