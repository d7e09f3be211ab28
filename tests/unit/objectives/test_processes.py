"""What processes hold together, with a stand-in for the others."""

import pytest
import torch

from fuse_examples.imaging.oai_example.objectives.processes import rows_of_all, weight_of_process

CPU = torch.device("cpu")


def stand_in(monkeypatch: pytest.MonkeyPatch, others: list[int]) -> None:
    """Processes beside this one that hold numbers of rows."""

    def all_reduce(value: torch.Tensor, op: object) -> None:
        value.copy_(value + sum(others) if op == torch.distributed.ReduceOp.SUM else torch.tensor(max(float(value), *map(float, others))))

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1 + len(others))
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)


@pytest.mark.parametrize("counts", [[1, 1], [3, 1], [0, 2], [4, 0, 1], [2, 3, 5, 7]])
def test_the_mean_over_processes_of_weighted_means_is_the_mean_of_all_rows(monkeypatch: pytest.MonkeyPatch, counts: list[int]) -> None:
    rows = [torch.arange(count, dtype=torch.float64) + 10 * number for number, count in enumerate(counts)]
    total = 0.0
    for number, count in enumerate(counts):
        stand_in(monkeypatch, counts[:number] + counts[number + 1 :])
        assert rows_of_all(count, CPU) == sum(counts)
        total += weight_of_process(count, sum(counts)) * (float(rows[number].mean()) if count else 0.0)
    assert total / len(counts) == pytest.approx(float(torch.cat(rows).mean()), rel=1e-12)


def test_where_no_process_holds_rows_all_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, [0, 0])
    assert rows_of_all(0, CPU) == 0


def test_one_process_counts_for_itself() -> None:
    assert (rows_of_all(3, CPU), rows_of_all(0, CPU)) == (3, 0)
    assert weight_of_process(3, 3) == 1.0
