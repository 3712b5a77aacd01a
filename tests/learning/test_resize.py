"""Crops resized for the network: closed forms, Pillow, and the same in training and profiling."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from tiny_screen import CHANNELS, SIZE, make_screen

from deepprofiler.learning.augment import centre, resize
from deepprofiler.learning.batches import Batches, CropView
from deepprofiler.learning.crop_generator import CropGenerator
from deepprofiler.learning.extract import extract, feature_function
from deepprofiler.learning.learning_settings import Augmentation
from deepprofiler.learning.network import Network
from deepprofiler.learning.sampling import Cells, balanced


class Single(CropGenerator):
    def draw(self, cells: Cells, size: int, rng: np.random.Generator) -> np.ndarray:
        return balanced(cells, size, rng)[:, np.newaxis]

    def combine(self, crops: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        return crops[:, 0], labels[:, 0]


def noise(side: int) -> np.ndarray:
    return np.random.default_rng(side).random((3, side, side, 2), dtype=np.float32)


def seen(side: int) -> Network:
    """A network whose features are the pixels of its input."""
    crops = keras.Input((side, side, CHANNELS))
    pixels = keras.layers.Flatten(name="pixels")(crops)
    logits = keras.layers.Dense(3)(pixels)
    return Network(keras.Model(crops, logits), keras.Model(crops, pixels))


@pytest.mark.parametrize("side", [5, 16, 40])
def test_a_constant_stays_constant(side):
    crops = np.full((2, 16, 16, 3), 0.7, np.float32)
    found = np.asarray(resize(crops, side))
    assert found.shape == (2, side, side, 3)
    np.testing.assert_allclose(found, 0.7, rtol=1e-6)


def test_a_ramp():
    x = np.arange(16, dtype=np.float32)
    crops = np.broadcast_to(x[None, None, :, None], (1, 16, 16, 1))
    # Pixel j of the larger image lies at (j + 1/2)/2 - 1/2; nothing is known beyond the border.
    larger = np.clip((np.arange(32) + 0.5) / 2 - 0.5, 0, 15)
    np.testing.assert_allclose(resize(crops, 32).numpy()[0, 7, :, 0], larger, rtol=1e-5)
    # A pixel of the smaller image is the mean of the two that it covers, but at the border.
    smaller = resize(crops, 8).numpy()[0, :, :, 0]
    np.testing.assert_allclose(smaller[3, 1:-1], np.arange(8)[1:-1] * 2 + 0.5, rtol=1e-5)
    np.testing.assert_allclose(smaller - smaller[:1], 0, atol=1e-5)


def test_shrinking_averages():
    """A checkerboard finer than the samples becomes grey, not another pattern."""
    board = (np.indices((64, 64)).sum(0) % 2).astype(np.float32)[None, :, :, None]
    found = resize(board, 16).numpy()
    np.testing.assert_allclose(found, 0.5, atol=0.02)


@pytest.mark.parametrize(("before", "after"), [(64, 24), (64, 32), (24, 64), (33, 32), (8, 80)])
def test_pillow_agrees(before, after):
    crops = noise(before)
    found = resize(crops, after).numpy()
    for crop, small in zip(crops, found, strict=True):
        for channel in range(2):
            image = Image.fromarray(crop[:, :, channel])
            truth = np.asarray(image.resize((after, after), Image.Resampling.BILINEAR))
            np.testing.assert_allclose(small[:, :, channel], truth, atol=1e-5)


def test_the_same_side_changes_nothing():
    crops = noise(16)
    assert resize(crops, 16) is crops
    assert resize(crops, None) is crops


@pytest.mark.parametrize("side", [5, SIZE, 12])
def test_training_and_profiling_show_the_network_the_same(side):
    screen, network = make_screen(per_class=4), seen(side)
    augmentation = Augmentation(shift=1)
    batches = Batches(
        Single(),
        network,
        screen.gather,
        screen.validation,
        CropView(SIZE, "min-max", augmentation, resize=side),
        5,
    )
    batches.check()
    shown = np.concatenate([x.numpy() for x, _ in batches.validation()])
    assert shown.shape == (len(screen.validation), side, side, CHANNELS)
    crops = centre(screen.gather(screen.validation.row)[0], SIZE)
    function = feature_function(network, ["pixels"], "min-max", SIZE)
    (features,) = extract([crops], function, 5)
    np.testing.assert_allclose(features, shown.reshape(len(shown), -1), atol=1e-6)
    training, _ = next(iter(batches.training(0, 1, 1)))
    assert training.shape == (5, side, side, CHANNELS)
    # Scaled first: each channel fills 0 to 1, which shrinking then narrows.
    if side == SIZE:
        np.testing.assert_allclose([shown.min(), shown.max()], [0, 1], atol=1e-6)
    elif side < SIZE:
        assert 0 < shown.min() < shown.max() < 1


def test_without_a_size_crops_are_those_of_the_network():
    function = feature_function(seen(6), ["pixels"], "none")
    crops = np.random.default_rng(0).random((2, 6, 6, CHANNELS), np.float32)
    np.testing.assert_array_equal(function(crops), crops.reshape(2, -1))
