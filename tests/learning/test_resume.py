"""The shipped models around others, and the autoencoder, go on from a checkpoint bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tiny_screen import CHANNELS, CLASSES, SETTINGS, SIZE, changed, destination, make_screen

from deepprofiler.learning import checkpoint
from deepprofiler.learning.fit import fit
from deepprofiler.learning.network import Network
from deepprofiler.registry import CROP_GENERATORS, MODELS, discover

_INNER = '''\
"""Everything whose state must be kept: batch normalization, and dropout's random numbers."""

import keras

from deepprofiler.learning.network import Network
from deepprofiler.registry import MODELS


@MODELS.register
def inner(input_shape, num_classes):
    """Build the network."""
    crops = keras.Input(input_shape, name="crops")
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(crops)
    x = keras.layers.BatchNormalization(momentum=0.9, name="bn")(x)
    x = keras.layers.Dropout(0.3, name="dropout")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    logits = keras.layers.Dense(num_classes, name="logits")(x)
    return Network(keras.Model(crops, logits), keras.Model(crops, x))
'''


@pytest.fixture
def inner(tmp_path: Path) -> None:
    """Register a small model to build others around."""
    path = tmp_path / "plugins" / "models" / "inner.py"
    path.parent.mkdir(parents=True)
    path.write_text(_INNER)
    discover(tmp_path / "plugins")


@pytest.mark.usefixtures("inner")
@pytest.mark.parametrize(
    ("name", "params", "generator", "several"),
    [
        ("recurrent", {"backbone": "inner", "units": 5}, "sequence", {"length": 3}),
        ("autoencoder", {"conv_blocks": 2, "feature_dim": 6, "filters": 4}, "single", {}),
        ("repeat_channels", {"backbone": "inner"}, "single", {}),
    ],
)
def test_one_epoch_and_one_more_are_two(
    tmp_path: Path, name: str, params: dict[str, Any], generator: str, several: dict[str, Any]
) -> None:
    screen = make_screen(per_class=16)

    def train(folder: Path, epochs: int, seed: int) -> Network:
        keras.utils.set_random_seed(seed)
        network: Network = MODELS.build(name, (SIZE, SIZE, CHANNELS), len(CLASSES), params=params)
        fit(
            network,
            CROP_GENERATORS.build(generator, params=several),
            screen.data,
            changed(SETTINGS, epochs=epochs, optimizer={"name": "adam"}),
            destination(folder),
        )
        return network

    whole = train(tmp_path / "whole", 2, seed=0)
    first = [weight.numpy() for weight in train(tmp_path / "parts", 1, seed=0).train.weights]
    # Another initialization: all must come from the checkpoint.
    parts = train(tmp_path / "parts", 2, seed=99)
    for a, b in zip(whole.train.weights, parts.train.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert any((a != b.numpy()).any() for a, b in zip(first, parts.train.weights, strict=True))
    digests = {
        checkpoint.digest(tmp_path / part / "checkpoint" / "last.h5") for part in ("whole", "parts")
    }
    assert len(digests) == 1
