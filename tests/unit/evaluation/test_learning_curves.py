"""Learning curves are those of the run's own tables."""

import json
from pathlib import Path

import numpy as np

from fuse_examples.imaging.oai_example.evaluation.curve_figures import curve_figure
from fuse_examples.imaging.oai_example.evaluation.learning_curves import Curve, CurvePlot, plots_of_run, plots_of_runs


def records(folder: Path, best: dict[str, object] | None = None) -> Path:
    folder.mkdir()
    (folder / "history.csv").write_text(
        "epoch,step,dino/effective_rank,dino/student_entropy,dino/teacher_entropy,train/data_wait,train/loss,val/auc,val/auc/KL/side,val/loss\n"
        "1,10,3.5,6.1,6.0,0.2,3,0.5,0.4,3.5\n2,20,4.5,5.1,5.0,0.2,2,,,\n3,30,5.5,4.1,4.0,0.2,1,0.75,0.8,2\n"
    )
    (folder / "val_metrics.json").write_text(json.dumps(best or {"monitor": "val/auc", "epoch": 3}))
    return folder


def test_names_that_belong_together_share_a_plot_and_empty_cells_are_left_out(tmp_path: Path) -> None:
    plots = {plot.title: plot for plot in plots_of_run(records(tmp_path / "a"))}
    assert list(plots) == [
        "Loss", "AUC on the validation folds", "Entropy of the outputs, in nats", "Effective rank of the features",
    ]  # fmt: skip
    assert plots["Loss"].curves == {"training": Curve((1, 2, 3), (3, 2, 1)), "validation": Curve((1, 3), (3.5, 2))}
    assert plots["AUC on the validation folds"].curves == {"mean": Curve((1, 3), (0.5, 0.75)), "KL/side": Curve((1, 3), (0.4, 0.8))}
    assert set(plots["Entropy of the outputs, in nats"].curves) == {"teacher", "student"}
    assert {plot.best for plot in plots.values()} == {3}


def test_an_epoch_that_no_metric_chose_is_not_called_the_best(tmp_path: Path) -> None:
    assert {plot.best for plot in plots_of_run(records(tmp_path / "a", {"monitor": None, "epoch": 3}))} == {None}
    assert plots_of_run(tmp_path / "nothing") == []


def test_probes_have_their_intervals(tmp_path: Path) -> None:
    folder = records(tmp_path / "a")
    (folder / "probes.csv").write_text(
        "epoch,target,probe,value,low,high\n1,KL,knn_auc,0.5,0.4,0.6\n1,KL,linear_auc,0.6,,\n3,KL,knn_auc,0.7,0.6,0.8\n3,KL,linear_auc,,,\n"
    )
    (plot,) = [plot for plot in plots_of_run(folder) if plot.title.startswith("AUC of probes")]
    assert plot.curves == {"KL, k-NN": Curve((1, 3), (0.5, 0.7), (0.4, 0.6), (0.6, 0.8)), "KL, linear": Curve((1,), (0.6,), (0.6,), (0.6,))}


def test_of_several_runs_the_losses_and_means_stand_together(tmp_path: Path) -> None:
    plots = {plot.title: plot for plot in plots_of_runs([records(tmp_path / "a"), records(tmp_path / "b")])}
    assert list(plots["Loss"].curves) == ["run 1: training", "run 1: validation", "run 2: training", "run 2: validation"]
    assert list(plots["AUC on the validation folds"].curves) == ["run 1: mean", "run 2: mean"]
    assert plots_of_runs([tmp_path / "a"]) == plots_of_run(tmp_path / "a")


def test_curves_are_drawn_over_their_epochs_with_interval_and_best_epoch() -> None:
    curves = {"training": Curve([1, 2, 3], [3, 2, 1]), "validation": Curve([1, 3], [3, 2], [2.5, 1.5], [3.5, 2.5])}
    axes = curve_figure(CurvePlot("Loss", curves, 2)).axes[0]
    assert axes.lines[1].get_xydata().tolist() == [[1, 3], [3, 2]]
    assert axes.get_ylabel() == "Loss"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation", "best epoch: 2"]
    band = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
    assert {1.5, 2.5, 3.5} <= set(band[:, 1])
    assert list(axes.lines[2].get_xdata()) == [2, 2]
