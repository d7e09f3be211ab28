"""What a study tells of its search."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from fuse_examples.imaging.oai_example.stages.study import results


@pytest.mark.parametrize(
    ("rates", "told"),
    [
        ((1e-3,), []),
        ((1e-4, 1e-3, 3e-3), []),
        ((1e-3, 3e-3), ["scratch: the search took 0.001, the smallest of the learning rates tried; one beyond it may be better."]),
        ((1e-3, 1e-4), ["scratch: the search took 0.001, the largest of the learning rates tried; one beyond it may be better."]),
    ],
)
def test_a_rate_at_the_end_of_a_search_is_told_where_there_was_one(
    rates: tuple[float, ...], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "found_rates", lambda folder, grid: {"scratch": 1e-3})
    study = SimpleNamespace(folder=Path("study"), grid=SimpleNamespace(learning_rates=rates))
    assert results._at_the_end(study) == told  # type: ignore[arg-type]
