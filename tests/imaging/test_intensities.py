"""Percentiles of counts, against NumPy's on the values themselves; images of 8 bits."""

from __future__ import annotations

import numpy as np
import pytest

from deepprofiler.imaging.intensities import Histogram, to_8bit

RANKS = (0, 0.01, 1, 25, 50, 75, 99, 99.99, 100)


def of(*arrays: np.ndarray) -> Histogram:
    histogram = Histogram()
    for array in arrays:
        histogram.add(array)
    return histogram


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.bool_])
def test_small_integers_are_exact(dtype):
    rng = np.random.default_rng(0)
    limits = (0, 2) if dtype is np.bool_ else (np.iinfo(dtype).min, np.iinfo(dtype).max + 1)
    values = rng.integers(*limits, 99_991).astype(dtype)
    expected = np.percentile(values.astype(int), RANKS, method="inverted_cdf")
    assert [of(values).percentile(rank) for rank in RANKS] == expected.tolist()


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(0, 1e-3, 99_991),
        np.random.default_rng(0).normal(5e4, 1e4, 99_991).astype(np.float32),
        np.random.default_rng(0).integers(-(2**31), 2**31, 99_991).astype(np.int32),
        np.random.default_rng(0).integers(0, 2**32, 99_991).astype(np.uint32),
        np.random.default_rng(0).lognormal(0, 10, 99_991),
        np.random.default_rng(0).random(99_991).astype(np.float16),
    ],
)
def test_other_types_are_exact_to_a_relative_bin(values):
    histogram = of(values)
    expected = np.percentile(values.astype(float), RANKS, method="inverted_cdf")
    for rank, value in zip(RANKS, expected, strict=True):
        assert histogram.percentile(rank) == pytest.approx(value, rel=2**-11)


def test_whole_numbers_in_floats_are_exact():
    values = np.random.default_rng(0).integers(-4096, 4097, 99_991).astype(np.float32)
    expected = np.percentile(values, RANKS, method="inverted_cdf")
    assert [of(values).percentile(rank) for rank in RANKS] == expected.tolist()


def test_types_are_merged_by_value():
    whole, broken = np.arange(0, 100, dtype=np.uint8), np.arange(100, 200, dtype=np.float32)
    merged = of(broken)
    merged.merge(of(whole))
    merged.merge(Histogram())
    for rank in (0, 10, 50, 90, 99):
        assert merged.percentile(rank) == 2 * rank


def test_merging_leaves_the_other_alone():
    first, second = of(np.zeros(3, np.uint8)), of(np.ones(3, np.uint8))
    empty = Histogram()
    empty.merge(second)
    empty.merge(first)
    assert second.percentile(0) == 1


def test_empty_histogram_has_no_percentile():
    with pytest.raises(ValueError, match="empty"):
        Histogram().percentile(50)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float64])
def test_8bit_is_linear_and_clipped(dtype):
    values = np.array([0, 99, 100, 108, 116, 2100, 4100, 4101, 30000])
    image = np.tile(values, (9, 1))[..., None].astype(dtype)
    pixels, clipped = to_8bit(image, np.array([[100.0, 4100.0]]))
    np.testing.assert_array_equal(pixels[0, :, 0], [0, 0, 0, 1, 1, 128, 255, 255, 255])
    assert clipped[0] == pytest.approx(4 / 9)


def test_8bit_of_equal_and_reversed_limits():
    image = np.full((4, 4, 1), 7, np.uint16)
    assert not to_8bit(image, np.array([[7, 7]]))[0].any()
    with pytest.raises(ValueError, match="reversed"):
        to_8bit(image, np.array([[8, 7]]))
