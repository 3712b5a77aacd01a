"""Names of layers in the original's weight files, and networks that are built from them."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from keras2_file import randomize, weights_of, write

from deepprofiler.config.original_layers import feature_layer, layer_names
from deepprofiler.errors import DataError
from deepprofiler.learning.keras_weights import load
from deepprofiler.registry import MODELS, discover

discover(None)
SIDE = 64


def keras_resnet(depth: int, channels: int) -> keras.Model:
    """The network of keras-resnet 0.2, from its description: names, strides and paddings."""
    bottleneck = depth >= 50
    depths = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]
    counted = {18: True, 50: False}[depth]

    def norm(x: Any, name: str) -> Any:
        return layers.BatchNormalization(epsilon=1e-5, name=name)(x)

    def conv(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
        if kernel == 3:
            x = layers.ZeroPadding2D(1, name=name.replace("res", "padding"))(x)
        return layers.Conv2D(filters, kernel, strides=stride, use_bias=False, name=name)(x)

    crops = keras.Input((SIDE, SIDE, channels), name="input_1")
    x = layers.Conv2D(64, 7, strides=2, padding="same", use_bias=False, name="conv1")(crops)
    x = layers.Activation("relu", name="conv1_relu")(norm(x, "bn_conv1"))
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
    for stage, count in enumerate(depths):
        for block in range(count):
            letter = f"b{block}" if block and counted else chr(ord("a") + block)
            place = f"{stage + 2}{letter}_branch"
            stride = 2 if stage and not block else 1
            width = 64 * 2**stage
            plan = [(width, 3, stride, "2a"), (width, 3, 1, "2b")]
            if bottleneck:
                plan = [(width, 1, stride, "2a"), (width, 3, 1, "2b"), (4 * width, 1, 1, "2c")]
            y = x
            for filters, kernel, step, branch in plan:
                y = norm(
                    conv(y, filters, kernel, step, f"res{place}{branch}"), f"bn{place}{branch}"
                )
                if branch != plan[-1][-1]:
                    y = layers.Activation("relu", name=f"res{place}{branch}_relu")(y)
            if not block:
                x = norm(conv(x, plan[-1][0], 1, stride, f"res{place}1"), f"bn{place}1")
            x = layers.Add(name=f"res{stage + 2}{letter}")([y, x])
            x = layers.Activation("relu", name=f"res{stage + 2}{letter}_relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool5")(x)
    return keras.Model(crops, layers.Dense(7, activation="softmax", name="ClassProb")(x))


@pytest.mark.parametrize(("depth", "layer"), [(18, "res4b1_relu"), (50, "res4b_relu")])
def test_files_of_keras_resnet(depth, layer, tmp_path):
    theirs = keras_resnet(depth, channels=5)
    randomize(theirs)
    path = write(tmp_path / "checkpoint_0030.hdf5", weights_of(theirs))
    ours = MODELS.build(f"resnet{depth}", (SIDE, SIDE, 5), 3)
    loaded = load(path, ours, names=layer_names)
    assert loaded.layers == sum(bool(w) for w in weights_of(theirs).values()) - 1
    crops = np.random.default_rng(0).random((2, SIDE, SIDE, 5), np.float32)
    for old, new in ((layer, feature_layer(layer)), ("pool5", "pool5")):
        expected = np.asarray(keras.Model(theirs.input, theirs.get_layer(old).output)(crops))
        found = np.asarray(
            keras.Model(ours.backbone.input, ours.backbone.get_layer(new).output)(crops)
        )
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_a_resnet50_of_keras_applications_is_no_efficientnet(tmp_path):
    """No name is the same, so nothing is loaded, and that is said."""
    blocks = {"conv2": 3, "conv3": 4, "conv4": 6, "conv5": 3}
    places = ["conv1"]
    for stage, depth in blocks.items():
        for block in range(1, depth + 1):
            shortcut = [0] if block == 1 else []
            places += [f"{stage}_block{block}_{branch}" for branch in (*shortcut, 1, 2, 3)]
    small = np.zeros(1, "f")
    file = {}
    for place in places:
        file[f"{place}_conv"] = [("kernel", np.zeros((1, 1, 1, 1), "f")), ("bias", small)]
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        file[f"{place}_bn"] = [(name, small) for name in names]
    file["predictions"] = [("kernel", np.zeros((1, 1000), "f")), ("bias", np.zeros(1000, "f"))]
    assert len(places) == 53
    path = write(tmp_path / "resnet50_weights_tf_dim_ordering_tf_kernels.h5", file)
    ours = MODELS.build("efficientnet_b0", (32, 32, 3), 2)
    before = [np.asarray(weight) for weight in ours.train.weights]
    layers_here = sum(bool(layer.weights) for layer in ours.backbone.layers)
    with pytest.raises(DataError) as error:
        load(path, ours, names=layer_names)
    message = str(error.value)
    assert f"0 of {layers_here} layers match, nothing was loaded" in message
    assert "stem_conv (3, 3, 3, 32) is missing in the file" in message
    assert "conv1_conv (1, 1, 1, 1) and (1,) is only in the file" in message
    for weight, value in zip(ours.train.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_names_of_resnet101():
    """It counts the later blocks of the two middle stages."""
    theirs, ours = ["conv1", "bn_conv1"], ["conv1", "conv1_bn"]
    for stage, (depth, counted) in enumerate(((3, 0), (4, 1), (23, 1), (3, 0)), 2):
        for block in range(depth):
            letter = "abcdefghijklmnopqrstuvw"[block]
            place = f"{stage}b{block}" if counted and block else f"{stage}{letter}"
            for branch, new in (("2a", "1"), ("2b", "2"), ("2c", "3"), ("1", "shortcut")):
                if block and branch == "1":
                    continue
                theirs += [f"res{place}_branch{branch}", f"bn{place}_branch{branch}"]
                ours += [f"conv{stage}{letter}_{new}", f"conv{stage}{letter}_{new}_bn"]
    found = layer_names([*theirs, "ClassProb"])
    assert [found[name] for name in theirs] == ours
    assert found["ClassProb"] == "ClassProb"
    assert layer_names(["conv1_conv", "conv2_block1_1_bn"]) == {}


def test_layers_of_features():
    assert feature_layer("res4b22_relu") == "conv4w"
    assert feature_layer("res4b1_relu") == "conv4b"
    assert feature_layer("res4a_relu") == "conv4a"
    assert feature_layer("block6a_activation") == "block6a_activation"


def test_automatic_names_are_counted_from_the_first():
    names = ["conv2d_204", "batch_normalization_9", "conv2d_205", "batch_normalization_10"]
    assert layer_names([*names, "conv_7b", "normalization"]) == {
        "conv2d_204": "conv2d",
        "conv2d_205": "conv2d_1",
        "batch_normalization_9": "batch_normalization",
        "batch_normalization_10": "batch_normalization_1",
        "normalization": None,
    }


def test_slashes_of_keras_2():
    names = ["conv1/conv", "conv1/bn", "conv2_block1_0_bn"]
    assert layer_names(names) == {"conv1/conv": "conv1_conv", "conv1/bn": "conv1_bn"}


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("densenet121", keras.applications.DenseNet121),
        pytest.param("resnet50v2", keras.applications.ResNet50V2, marks=pytest.mark.slow),
        pytest.param(
            "inception_resnet_v2", keras.applications.InceptionResNetV2, marks=pytest.mark.slow
        ),
    ],
)
def test_files_of_keras_applications(name, build, tmp_path):
    side = 75 if name == "inception_resnet_v2" else SIDE
    crops = keras.Input((side, side, 4))
    theirs = build(include_top=False, weights=None, input_tensor=crops, pooling="avg")
    theirs = keras.Model(crops, theirs.output)
    randomize(theirs)
    found = weights_of(theirs)
    if name == "densenet121":
        # As Keras 2, and the file of ImageNet, name its first layers.
        found = {re.sub("^conv1_", "conv1/", layer): values for layer, values in found.items()}
    found["ClassProb"] = [("kernel", np.zeros((2, 9), "f")), ("bias", np.zeros(9, "f"))]
    path = write(tmp_path / "checkpoint_0001.hdf5", found)
    ours = MODELS.build(name, (side, side, 4), 3)
    load(path, ours, names=layer_names)
    x = np.random.default_rng(0).random((2, side, side, 4), np.float32)
    expected = np.asarray(theirs(x))
    np.testing.assert_allclose(
        ours.backbone(x), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()
    )
