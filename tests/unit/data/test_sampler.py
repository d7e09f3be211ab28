"""The order of a run's samples: a function of (seed, epoch), taken up anywhere, dealt out to ranks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_examples.imaging.oai_example.data.sampler import EpochSampler, Position, ResumableOrder, SampleKey
from fuse_examples.imaging.oai_example.errors import DataError

sizes = st.integers(1, 40)


def epoch_of(sampler: EpochSampler, epoch: int) -> list[list[SampleKey]]:
    sampler.set_epoch(epoch)
    return list(sampler)


@settings(deadline=None, max_examples=60)
@given(n_rows=sizes, batch=st.integers(1, 7), seed=st.integers(0, 9), epoch=st.integers(0, 5))
def test_each_epoch_is_a_permutation_and_the_last_batch_is_kept(n_rows: int, batch: int, seed: int, epoch: int) -> None:
    batches = epoch_of(EpochSampler(n_rows, batch, seed), epoch)
    assert sorted(key.row for keys in batches for key in keys) == list(range(n_rows))
    assert {key.epoch for keys in batches for key in keys} == {epoch}
    assert len(batches) == len(EpochSampler(n_rows, batch, seed)) == (n_rows + batch - 1) // batch
    assert all(len(keys) == batch for keys in batches[:-1])


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    whole = EpochSampler(20, 3, 1)
    first = epoch_of(whole, 4)
    epoch_of(whole, 5)
    assert epoch_of(EpochSampler(20, 3, 1), 4) == first == epoch_of(whole, 4)
    assert epoch_of(EpochSampler(20, 3, 2), 4) != first
    assert [[key.row for key in keys] for keys in epoch_of(whole, 5)] != [[key.row for key in keys] for keys in first]


@settings(deadline=None, max_examples=40)
@given(n_rows=sizes, batch=st.integers(1, 5), data=st.data())
def test_resumed_it_gives_the_rest_of_the_epoch_and_then_whole_ones(n_rows: int, batch: int, data: st.DataObject) -> None:
    whole = EpochSampler(n_rows, batch, 3)
    start = data.draw(st.integers(0, len(whole)))
    resumed = EpochSampler(n_rows, batch, 3, position=Position(2, start))
    assert len(resumed) == len(whole)
    assert epoch_of(resumed, 2) == epoch_of(whole, 2)[start:]
    assert epoch_of(resumed, 3) == epoch_of(whole, 3)


def test_an_iteration_under_way_does_not_follow_a_new_position() -> None:
    sampler = EpochSampler(6, 2, 0)
    under_way = iter(sampler)
    sampler.set_epoch(1)
    assert {key.epoch for keys in under_way for key in keys} == {0}


@settings(deadline=None, max_examples=60)
@given(n_rows=sizes, batch=st.integers(1, 4), world_size=st.integers(2, 4), epoch=st.integers(0, 2))
def test_the_kth_batches_of_the_ranks_are_the_kth_global_batch(n_rows: int, batch: int, world_size: int, epoch: int) -> None:
    together = epoch_of(EpochSampler(n_rows, batch * world_size, 5), epoch)
    ranks = [epoch_of(EpochSampler(n_rows, batch, 5, rank=rank, world_size=world_size), epoch) for rank in range(world_size)]
    assert {len(batches) for batches in ranks} == {len(together)}
    for index, whole in enumerate(together):
        shares = [batches[index] for batches in ranks]
        assert {key for share in shares for key in share} == set(whole)
        assert all(shares)
        if len(whole) >= world_size:  # no row twice, and no rank more than one row behind
            assert sum(map(len, shares)) == len(whole)
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_evaluation_is_in_order_and_the_same_in_every_epoch() -> None:
    sampler = EpochSampler(5, 2, 9, shuffle=False)
    expected = [[(0, 0, 0), (0, 1, 0)], [(0, 2, 0), (0, 3, 0)], [(0, 4, 0)]]
    assert epoch_of(sampler, 0) == expected
    assert epoch_of(sampler, 3) == expected


class Data(ResumableOrder):
    trainer = None


def test_a_resumed_data_module_takes_the_position_of_the_checkpoint() -> None:
    data = Data()
    data.load_state_dict({"epoch": 2, "batch": 3, "n_rows": 11, "global_batch": 2, "seed": 4})
    assert data.train_sampler(11, 2, 4).position == (2, 3)


def test_in_the_middle_of_an_epoch_other_rows_are_refused_and_between_epochs_taken() -> None:
    state = {"epoch": 2, "batch": 3, "n_rows": 11, "global_batch": 2, "seed": 4}
    data = Data()
    data.load_state_dict(state)
    with pytest.raises(DataError, match=r"stopped after batch 3 of epoch 3, with 11 training rows.*now there are 12 rows"):
        data.train_sampler(12, 2, 4)
    data.load_state_dict(state | {"batch": 0})
    assert data.train_sampler(12, 2, 4).position == (2, 0)


def test_rows_are_drawn_by_their_weights_and_a_repeated_row_says_so() -> None:
    weights = np.array([1.0] * 90 + [9.0] * 10)
    sampler = EpochSampler(100, 8, 3, weights=weights)
    keys = [key for epoch in range(40) for batch in epoch_of(sampler, epoch) for key in batch]
    assert len(keys) == len(set(keys)) == 4000  # no view twice
    assert np.mean([key.row >= 90 for key in keys]) == pytest.approx(0.5, abs=0.03)
    first = [key for batch in epoch_of(sampler, 7) for key in batch]
    for row in {key.row for key in first}:
        assert [key.repeat for key in first if key.row == row] == list(range(sum(key.row == row for key in first)))


def test_weighted_draws_depend_on_seed_and_epoch_alone_and_can_be_taken_up_anywhere() -> None:
    weights = np.arange(1.0, 21.0)
    whole = epoch_of(EpochSampler(20, 3, 1, weights=weights), 4)
    assert epoch_of(EpochSampler(20, 3, 1, weights=10 * weights, position=Position(4, 2)), 4) == whole[2:]
    assert epoch_of(EpochSampler(20, 3, 2, weights=weights), 4) != whole
    ranks = [epoch_of(EpochSampler(20, 3, 1, weights=weights, rank=rank, world_size=2), 4) for rank in range(2)]
    together = epoch_of(EpochSampler(20, 6, 1, weights=weights), 4)
    assert [sorted([*one, *two]) for one, two in zip(*ranks, strict=True)] == [sorted(batch) for batch in together]


@settings(deadline=None, max_examples=60)
@given(n_rows=sizes, batch=st.integers(1, 5), n_batches=st.integers(1, 9), weighted=st.booleans(), world_size=st.integers(1, 3))
def test_epochs_of_a_fixed_length_are_cut_from_pass_after_pass(
    n_rows: int, batch: int, n_batches: int, weighted: bool, world_size: int
) -> None:
    weights = np.arange(1.0, n_rows + 1) if weighted else None
    passes = EpochSampler(n_rows, n_rows, 3, weights=weights)
    stream = [key for number in range(300) for keys in epoch_of(passes, number) for key in keys]
    seen = []
    for epoch in range(4):
        ranks = [
            epoch_of(EpochSampler(n_rows, batch, 3, weights=weights, n_batches=n_batches, rank=rank, world_size=world_size), epoch)
            for rank in range(world_size)
        ]
        assert {len(one) for one in ranks} == {n_batches}
        assert all(len(keys) == batch for one in ranks for keys in one)
        for shares in zip(*ranks, strict=True):
            seen += [share[place] for place in range(batch) for share in shares]
    assert seen == stream[: len(seen)]
    assert len(set(seen)) == len(seen)  # no view twice


def test_an_epoch_of_a_fixed_length_can_be_taken_up_anywhere() -> None:
    whole = epoch_of(EpochSampler(3, 2, 1, n_batches=7), 2)
    assert epoch_of(EpochSampler(3, 2, 1, n_batches=7, position=Position(2, 4)), 2) == whole[4:]
    assert len(EpochSampler(3, 2, 1, n_batches=7)) == 7
