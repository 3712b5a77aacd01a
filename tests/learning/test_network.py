"""Networks: names of layers, features and columns."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tiny_screen import CHANNELS, SIZE, tiny

from deepprofiler.errors import ConfigError, PluginError
from deepprofiler.learning import devices as device
from deepprofiler.learning.network import Network, require_network


def test_layers_and_columns() -> None:
    network = tiny()
    assert network.layers() == [("conv", 6), ("bn", 6), ("relu", 6), ("pool", 6)]
    assert network.columns(["pool", "conv"]) == {"pool": (0, 6), "conv": (6, 12)}
    names = network.feature_names(["pool", "conv"], ["DNA", "ER"])
    assert names == [f"pool_{i}" for i in range(6)] + [f"conv_{i}" for i in range(6)]


def test_order_of_layers_is_the_order_of_columns() -> None:
    network = tiny()
    crops = np.random.default_rng(0).random((3, SIZE, SIZE, CHANNELS), np.float32)
    both = network.features(["pool", "conv"])(crops).numpy()
    np.testing.assert_array_equal(both[:, :6], network.features(["pool"])(crops).numpy())
    np.testing.assert_array_equal(both[:, 6:], network.features(["conv"])(crops).numpy())


def test_per_channel_names() -> None:
    network = tiny()
    wrapped = Network(network.train, network.backbone, per_channel=True)
    names = wrapped.feature_names(["pool"], ["DNA", "ER"])
    assert names == [f"pool_{channel}_{i}" for channel in ("DNA", "ER") for i in range(3)]


def test_unknown_layers() -> None:
    network = tiny()
    with pytest.raises(ConfigError, match="no layer `pol`; nearest is `pool`; there are conv, bn"):
        network.features(["conv", "pol"])
    with pytest.raises(ConfigError, match="names a layer twice"):
        network.columns(["conv", "conv"])


def test_seeds_are_set_from_numbers() -> None:
    network = tiny(dropout=0.5)
    ones = np.random.default_rng(0).random((50, SIZE, SIZE, CHANNELS), np.float32)

    def draw(*key: int) -> np.ndarray:
        network.set_seeds(*key)
        before = network.train(ones, training=True).numpy()
        network.train(ones, training=True)
        return before

    def only_dropout(*key: int) -> np.ndarray:
        moving = [w.numpy() for w in network.train.weights]
        found = draw(*key)
        for weight, value in zip(network.train.weights, moving, strict=True):
            weight.assign(value)
        return found

    np.testing.assert_array_equal(only_dropout(1, 2), only_dropout(1, 2))
    assert (only_dropout(1, 2) != only_dropout(1, 3)).any()


def test_device_is_named() -> None:
    assert keras.config.backend() == "tensorflow"
    assert device.describe().startswith(("CPU, ", "GPU, "))
    assert "Keras 3" in device.describe()
    with pytest.raises(ConfigError, match="--gpu 99: this machine has"):
        device.choose("99")


def test_set_seed_decides_initial_weights() -> None:
    def built(seed: int) -> np.ndarray:
        device.set_seed(seed)
        layer = keras.layers.Dense(4)
        layer.build((None, 3))
        return layer.kernel.numpy()

    np.testing.assert_array_equal(built(1), built(1))
    assert (built(1) != built(2)).any()


def test_networks_that_do_not_fit() -> None:
    shape = (SIZE, SIZE, CHANNELS)
    network = tiny()
    assert require_network(network, "tiny", shape, 3) is network
    other = tiny()

    def refused(found: object, said: str, classes: int = 3) -> None:
        with pytest.raises(PluginError, match=f"model `tiny`.*{said}"):
            require_network(found, "tiny", shape, classes)

    refused(network.train, r"returns Functional; it must return Network\(train, backbone\)")
    refused(network, r"`train` gives \(None, 3\), and must \(None, 4\)", classes=4)
    refused(Network(network.train, other.backbone), r"5 weights of its backbone .*: conv/kernel")
    refused(Network(network.train, network.backbone, target="input"), r"`train` gives \(None, 3\)")
    larger = keras.Sequential([keras.Input((SIZE + 1, SIZE, CHANNELS)), keras.layers.Flatten()])
    refused(Network(network.train, larger), r"backbone takes \(None, 9, 8, 2\)")
    crops, inside = keras.Input(shape), keras.Input(shape)
    nested = keras.Model(inside, keras.layers.Conv2D(2, 1, name="conv")(inside))
    x = keras.layers.Conv2D(4, 1, name="conv")(nested(crops))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(crops, keras.layers.Dense(3)(x))
    refused(Network(model, keras.Model(crops, x)), "two weights are called conv/")
