"""Weight files of Keras 2: everything fits, or nothing is loaded."""

from __future__ import annotations

import pickle
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras2_file import randomize, weights_of, write
from tiny_screen import CHANNELS, SIZE, tiny

from deepprofiler.errors import DataError
from deepprofiler.learning.keras_weights import is_keras2, load
from deepprofiler.learning.network import Network

CROPS = np.random.default_rng(0).random((4, SIZE, SIZE, CHANNELS), np.float32)


def plain(names: Any) -> dict[str, str | None]:
    return {}


@pytest.fixture
def source() -> Network:
    network = tiny(classes=4)
    randomize(network.train, seed=5)
    return network


def values(network: Network) -> list[np.ndarray]:
    return [np.asarray(weight) for weight in network.train.weights]


def test_a_backbone_whatever_the_head(source, tmp_path):
    whole = write(tmp_path / "whole.h5", weights_of(source.train))
    bare = write(tmp_path / "bare.h5", weights_of(source.backbone))
    assert is_keras2(whole)
    digests = set()
    for path in (whole, bare):
        for classes in (2, 4, 490):
            network = tiny(classes=classes, seed=classes)
            head = np.asarray(network.train.get_layer("logits").kernel)
            loaded = load(path, network, names=plain)
            assert (loaded.layers, loaded.not_loaded) == (2, ())
            np.testing.assert_array_equal(network.backbone(CROPS), source.backbone(CROPS))
            np.testing.assert_array_equal(network.train.get_layer("logits").kernel, head)
            digests.add(loaded.digest)
    assert len(digests) == 1
    randomize(source.train, seed=6)
    other = load(write(whole, weights_of(source.train)), network, names=plain).digest
    assert other not in digests


def test_a_saved_model_and_cut_lists_of_names(source, tmp_path):
    path = write(tmp_path / "weights.h5", weights_of(source.train))
    with h5py.File(path, "r+") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:2], names[2:]
    network = tiny()
    load(path, network, names=plain)
    np.testing.assert_array_equal(network.backbone(CROPS), source.backbone(CROPS))
    write(path, weights_of(source.train))
    with h5py.File(path, "r+") as file:
        group = file.create_group("model_weights")
        for name in [name for name in file if name != "model_weights"]:
            file.move(name, f"model_weights/{name}")
        group.attrs["layer_names"] = file.attrs["layer_names"]
        del file.attrs["layer_names"]
    assert is_keras2(path)
    network = tiny(seed=9)
    load(path, network, names=plain)
    np.testing.assert_array_equal(network.backbone(CROPS), source.backbone(CROPS))


def refused(path: Any, network: Network) -> str:
    """The message; nothing was loaded."""
    before = values(network)
    with pytest.raises(DataError) as caught:
        load(path, network, names=plain)
    for old, new in zip(before, values(network), strict=True):
        np.testing.assert_array_equal(old, new)
    return str(caught.value)


def test_all_layers_renamed(source, tmp_path):
    renamed = {f"x_{name}": found for name, found in weights_of(source.train).items()}
    message = refused(write(tmp_path / "a.h5", renamed), tiny())
    assert "0 of 2 layers match, nothing was loaded" in message
    assert "conv (3, 3, 2, 6) is missing in the file" in message
    assert "x_conv (3, 3, 2, 6) is only in the file" in message


def test_half_of_the_layers(source, tmp_path):
    half = weights_of(source.train)
    del half["bn"]
    message = refused(write(tmp_path / "a.h5", half), tiny())
    assert "1 of 2 layers match, nothing was loaded" in message
    assert "bn (6,) and (6,) and (6,) and (6,) is missing in the file" in message


def test_other_shapes(source, tmp_path):
    message = refused(write(tmp_path / "a.h5", weights_of(source.train)), tiny(filters=7))
    assert "0 of 2 layers match" in message
    assert "conv is (3, 3, 2, 6) in the file, (3, 3, 2, 7) in the network" in message


def test_cut_in_half_and_pickled(source, tmp_path):
    path = write(tmp_path / "cut.h5", weights_of(source.train))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert not is_keras2(path)
    assert "cut.h5 is not a whole weight file" in refused(path, tiny())

    class Trap:
        def __reduce__(self) -> Any:
            return (tmp_path.joinpath("opened").touch, ())

    trap = tmp_path / "trap.hdf5"
    trap.write_bytes(pickle.dumps(Trap()))
    assert not is_keras2(trap)
    assert "trap.hdf5 is not a whole weight file" in refused(trap, tiny())
    assert not (tmp_path / "opened").exists()
    assert not is_keras2(tmp_path / "none.h5")
    assert "does not exist" in refused(tmp_path / "none.h5", tiny())


def colour(channels: int) -> Network:
    crops = keras.Input((SIZE, SIZE, channels), name="crops")
    x = keras.layers.Conv2D(6, 3, name="conv")(crops)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    dense = keras.layers.Dense(4, name="fc")(x)
    logits = keras.layers.Dense(3, name="logits")(dense)
    return Network(keras.Model(crops, logits), keras.Model(crops, dense))


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_filters_are_repeated(channels, tmp_path):
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(3, 3, 3, 6)).astype("f"), rng.normal(size=6).astype("f")
    path = write(tmp_path / "rgb.h5", {"conv": [("kernel", kernel), ("bias", bias)]})
    network = colour(channels)
    loaded = load(path, network, names=plain, repeat_filters=True)
    assert loaded.not_loaded == ("fc",)
    found = np.asarray(network.backbone.get_layer("conv").kernel)
    for channel in range(channels):
        expected = kernel[:, :, channel % 3] * (3 / channels)
        np.testing.assert_allclose(found[:, :, channel], expected, rtol=1e-6)
    if channels != 3:
        message = refused(path, colour(channels))
        assert f"conv is (3, 3, 3, 6) and (6,) in the file, (3, 3, {channels}, 6)" in message


def test_layers_of_a_model_within(source, tmp_path):
    path = write(tmp_path / "inner.h5", weights_of(source.backbone))
    inner = tiny().backbone
    crops = keras.Input((SIZE, SIZE, CHANNELS))
    features = inner(crops)
    outer = Network(
        keras.Model(crops, keras.layers.Dense(2, name="logits")(features)),
        keras.Model(crops, features),
    )
    load(path, outer, names=plain)
    np.testing.assert_allclose(outer.backbone(CROPS), source.backbone(CROPS), rtol=1e-6)
