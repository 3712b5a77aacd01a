"""A convolutional autoencoder: learns without labels, by reconstructing its input."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from deepprofiler.errors import PluginError
from deepprofiler.learning.network import Network
from deepprofiler.registry import MODELS


@MODELS.register
def autoencoder(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    conv_blocks: int = 4,
    feature_dim: int = 128,
    filters: int = 32,
) -> Network:
    """Convolutions and max pooling down to a vector, and back; ``encoded`` is that vector.

    Layout and names of the parameters are those of the original DeepProfiler's autoencoder. The
    output is linear, so that it can follow crops scaled by any rule.

    Parameters
    ----------
    input_shape : tuple of int
        (S, S, C); S must be divisible by 2 ** ``conv_blocks``.
    num_classes : int
        K; not used.
    conv_blocks : int
        Number of times the resolution is halved.
    feature_dim : int
        Number of features of the layer ``encoded``.
    filters : int
        Filters of the first block; each next one has twice as many.

    Raises
    ------
    PluginError
        S is not divisible by 2 ** ``conv_blocks``.
    """
    side, channels = input_shape[0], input_shape[-1]
    if conv_blocks < 1 or side % 2**conv_blocks:
        raise PluginError(
            f"autoencoder: a side of {side} pixels cannot be halved {conv_blocks} times; set "
            f"crops.size to a multiple of {2 ** max(conv_blocks, 1)}, or change conv_blocks (1 or "
            "more)"
        )
    crops = keras.Input(input_shape, name="crops")
    x = crops
    for block in range(1, conv_blocks + 1):
        x = layers.Conv2D(filters * 2 ** (block - 1), 3, padding="same", name=f"conv{block}")(x)
        x = _activate(x, f"conv{block}")
        x = layers.MaxPooling2D(2, name=f"pool{block}")(x)
    shape = x.shape[1:]
    x = layers.Flatten(name="flatten")(x)
    encoded = layers.Dense(feature_dim, name="encoded")(x)
    size = shape[0] * shape[1] * shape[2]
    x = layers.Reshape(shape, name="unflatten")(layers.Dense(size, name="decoded")(encoded))
    for block in range(conv_blocks, 0, -1):
        x = layers.Conv2DTranspose(
            filters * 2 ** (block - 1), 3, padding="same", name=f"deconv{block}"
        )(x)
        x = layers.UpSampling2D(2, name=f"unpool{block}")(_activate(x, f"deconv{block}"))
    image = layers.Conv2D(channels, 3, padding="same", dtype="float32", name="image")(x)
    return Network(
        train=keras.Model(crops, image, name="autoencoder"),
        backbone=keras.Model(crops, encoded, name="backbone"),
        target="input",
    )


def _activate(x: Any, name: str) -> Any:
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
