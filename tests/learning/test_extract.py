"""Features across site borders equal features one crop at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf
from tiny_screen import CHANNELS, SIZE, tiny

from deepprofiler.errors import ConfigError
from deepprofiler.learning.extract import extract, feature_function

SHAPE = (SIZE, SIZE, CHANNELS)


class Means:
    """A stand-in for a network: pixel means, and the shapes that it was called with."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        self.shapes.append(crops.shape)
        return crops.mean(axis=(1, 2))


def sites(counts: list[int], dtype: type = np.uint16) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 60000, (count, *SHAPE)).astype(dtype) for count in counts]


def test_full_memory_names_what_to_change() -> None:
    def full(crops: np.ndarray) -> np.ndarray:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    with pytest.raises(ConfigError, match=r"profile\.batch_size: 4 is too large for the memory of"):
        list(extract(sites([5]), full, 4))


@pytest.mark.parametrize(
    "counts",
    [[3, 5, 2], [4, 4], [0, 0, 9, 0, 1, 0], [17], [1] * 11, [0], [0, 0, 0], [], [4, 0], [0, 4]],
)
def test_every_site_gets_its_own_rows(counts: list[int]) -> None:
    crops = sites(counts)
    function = Means()
    found = list(extract(crops, function, 4))
    assert len(found) == len(counts)
    for features, site in zip(found, crops, strict=True):
        assert features.dtype == np.float32
        assert features.shape == (len(site), CHANNELS)
        truth = site.astype(np.float64).mean(axis=(1, 2))
        np.testing.assert_allclose(features, truth, rtol=1e-5)
    assert set(function.shapes) <= {(4, *SHAPE)}, "one shape, so that there is one graph"
    full = max(1, -(-sum(counts) // 4)) if counts else 0
    assert len(function.shapes) == full, "full batches across the borders of sites"


def test_sites_are_yielded_as_soon_as_they_are_done() -> None:
    """Bounded memory: no site is read before it is needed."""
    read: list[int] = []

    def reading() -> Iterator[np.ndarray]:
        for number, site in enumerate(sites([3] * 50)):
            read.append(number)
            yield site

    for number, _ in enumerate(extract(reading(), Means(), 4)):
        assert len(read) - number <= 3


def test_the_function_rescales_and_pools() -> None:
    network = tiny()
    crops = sites([6])[0]
    found = np.asarray(feature_function(network, ["relu", "conv"], "min-max")(crops))
    x = crops.astype(np.float64)
    low, high = x.min((1, 2), keepdims=True), x.max((1, 2), keepdims=True)
    scaled = (x - low) / (high - low)
    kernel = network.backbone.get_layer("conv").kernel.numpy()
    windows = np.lib.stride_tricks.sliding_window_view(scaled, (3, 3), axis=(1, 2))
    convolved = np.einsum("nyxckl,klcf->nyxf", windows, kernel)
    # A new normalization divides by √(1 + ε).
    activated = np.maximum(convolved / np.sqrt(1 + 1e-3), 0)
    truth = np.concatenate([activated.mean((1, 2)), convolved.mean((1, 2))], axis=1)
    np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-5)


def test_one_trace() -> None:
    function = feature_function(tiny(), ["pool"], "max")
    list(extract(sites([3, 6, 0, 8]), function, 4))
    assert function.experimental_get_tracing_count() == 1
