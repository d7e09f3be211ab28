"""The figures of an epoch whose batches several processes have seen."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from fuse_examples.imaging.oai_example.objectives.dino_loss import DINOLoss
from fuse_examples.imaging.oai_example.tasks.dino_alarms import EpochFigures
from fuse_examples.imaging.oai_example.tasks.dino_watch import DINOWatch

NETWORK = nn.Linear(2, 2)


def watch_of(batches: range, *, with_cells: bool) -> DINOWatch:
    watch = DINOWatch()
    watch.begin_epoch(NETWORK, NETWORK)
    for number in batches:
        generator = torch.Generator().manual_seed(number)
        features, teacher = torch.randn(4, 6, generator=generator), torch.randn(2, 2, 5, generator=generator)
        student = torch.randn(3, 2, 5, generator=generator)
        criterion = DINOLoss(5)
        watch.batch_figures(torch.tensor(float(number)), features, *criterion.distributions(student, teacher, 0.1), criterion.center)
        if with_cells:
            watch.patch_figures(torch.tensor(float(number)), torch.softmax(torch.randn(number + 1, 5, generator=generator), dim=-1))
    watch.step_done(skipped=False)
    watch.step_done(skipped=True)
    return watch


def in_two_processes(monkeypatch: pytest.MonkeyPatch, here: DINOWatch, there: DINOWatch) -> EpochFigures | None:
    def all_gather_object(states: list[Any], state: Any) -> None:
        states[:] = [copy.deepcopy(state), there.state_dict()]

    monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather_object)
    return here.epoch_figures(NETWORK, NETWORK, 2)


@pytest.mark.parametrize("cells", [True, False])
def test_figures_are_those_of_one_process_with_all_batches(monkeypatch: pytest.MonkeyPatch, cells: bool) -> None:
    whole = watch_of(range(6), with_cells=cells).epoch_figures(NETWORK, NETWORK)
    figures = in_two_processes(monkeypatch, watch_of(range(2), with_cells=cells), watch_of(range(2, 6), with_cells=cells))
    assert whole is not None
    assert figures is not None
    assert (figures.n_features, figures.n_prototypes, figures.n_steps, figures.n_skipped) == (24, 5, 2, 1)
    for name in ("loss", "teacher_entropy", "largest_share", "prototypes_used", "effective_rank", "between_scans"):
        assert getattr(figures, name) == pytest.approx(getattr(whole, name), rel=1e-5), name
    assert (figures.patch is None) == (not cells)
    if figures.patch is not None and whole.patch is not None:
        for name in ("loss", "teacher_entropy", "largest_share"):
            assert getattr(figures.patch, name) == pytest.approx(getattr(whole.patch, name), rel=1e-5), name


def test_a_process_whose_batches_were_all_damaged_has_the_figures_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    damaged, sound = watch_of(range(0), with_cells=True), watch_of(range(3), with_cells=True)
    figures = in_two_processes(monkeypatch, damaged, sound)
    assert figures is not None
    assert figures.loss == pytest.approx(1.0)
    assert figures.n_features == 12


def test_a_batch_of_one_scan_does_not_tell_how_far_scans_differ() -> None:
    watch, alone = DINOWatch(), torch.softmax(torch.randn(2, 1, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    pair = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).expand(2, 2, 2)
    watch.batch_figures(torch.tensor(0.0), torch.randn(2, 3), alone[..., :2], alone[..., :2].log(), torch.zeros(1))
    unknown = watch.epoch_figures(NETWORK, NETWORK)
    assert unknown is not None
    assert math.isnan(unknown.between_scans)
    watch.batch_figures(torch.tensor(0.0), torch.randn(4, 3), pair, pair, torch.zeros(1))
    figures = watch.epoch_figures(NETWORK, NETWORK)
    assert figures is not None
    assert figures.between_scans == pytest.approx(math.log(2))


def test_a_teacher_that_has_moved_once_does_not_stand_still_also_after_a_resumption() -> None:
    teacher, watch = copy.deepcopy(NETWORK), DINOWatch()

    def epoch(watch: DINOWatch) -> bool:
        watch.begin_epoch(NETWORK, teacher)
        watch.step_done(skipped=True)
        watch.batch_figures(torch.tensor(1.0), torch.randn(4, 6), torch.rand(2, 2, 5), torch.rand(3, 2, 5), torch.zeros(1, 1, 5))
        figures = watch.epoch_figures(NETWORK, teacher)
        assert figures is not None
        return figures.teacher_moved

    assert not epoch(watch)
    assert not epoch(watch)
    with torch.no_grad():
        teacher.weight.add_(1)
    resumed = DINOWatch()
    resumed.load_state_dict(copy.deepcopy(watch.state_dict()))
    assert [epoch(one) for one in (watch, watch, resumed, resumed)] == [True] * 4
