import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fuse_examples.imaging.oai_example.data.intensity import measure, normalisation, statistics_from

DTYPES = [np.int16, np.uint16, np.uint8, np.float32]


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, (3, 4, 5), elements=None if dtype != np.float32 else st.floats(-1e4, 1e4, width=32))
    ),
    st.tuples(st.floats(0, 40), st.floats(60, 100)),
)
def test_statistics_equal_numpys(array: np.ndarray, percentiles: tuple[float, float]) -> None:
    found = measure(array, percentiles)
    assert np.allclose((found.low, found.high), np.percentile(array.astype(np.float64), percentiles), rtol=1e-5, atol=1e-3)
    assert (found.minimum, found.maximum) == (array.min(), array.max())
    assert np.isclose(found.mean, array.astype(np.float64).mean(), rtol=1e-6, atol=1e-6)
    assert np.isclose(found.std, array.astype(np.float64).std(), rtol=1e-6, atol=1e-6)
    assert statistics_from(found.as_dict()) == found


def test_percentiles_map_to_zero_and_one_and_are_clipped() -> None:
    array = np.arange(1001, dtype=np.int16).reshape(7, 11, 13)
    normalise = normalisation(measure(array, (1, 99)), "percentile")
    assert normalise.background == 10
    assert torch.allclose(normalise(torch.tensor([0.0, 10, 500, 990, 2000])), torch.tensor([0, 0, 0.5, 1, 1]))


def test_a_binary_shape_falls_back_to_its_extremes() -> None:
    shape = np.zeros((20, 20, 20), dtype=np.uint8)
    shape[4:6, 4:6, 4:6] = 255  # 0.1 % of the voxels, so that both percentiles are 0
    statistics = measure(shape, (0.5, 99.5))
    assert statistics.low == statistics.high == 0
    normalise = normalisation(statistics, "percentile")
    assert torch.allclose(normalise(torch.tensor([0.0, 51, 255])), torch.tensor([0.0, 0.2, 1]))


def test_window_and_zscore() -> None:
    array = np.random.default_rng(0).normal(40, 7, (9, 9, 9)).astype(np.float32)
    statistics = measure(array, (0, 100))
    window = normalisation(statistics, "window", (-100, 300))
    assert torch.allclose(window(torch.tensor([-500.0, 100, 300])), torch.tensor([0, 0.5, 1]))
    scores = normalisation(statistics, "zscore")(torch.from_numpy(array.copy()))
    assert abs(float(scores.mean())) < 1e-5
    assert abs(float(scores.std(correction=0)) - 1) < 1e-5


def test_the_window_method_needs_a_window() -> None:
    with pytest.raises(ValueError, match="needs a window"):
        normalisation(measure(np.arange(8).reshape(2, 2, 2), (0, 100)), "window")
