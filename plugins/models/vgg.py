"""VGG networks (Simonyan & Zisserman 2015), with layers named as in keras.applications.

The two dense layers follow a global average and not, as in 2015, the flattened map of 7 × 7: that
one would tie the network to crops of 224 pixels, and hold nine tenths of its weights.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from deepprofiler.learning.network import Network
from deepprofiler.registry import MODELS

_IMAGENET = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
    "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
# Of the channels blue, green and red over ImageNet, in grey levels 0 … 255.
_MEANS = (103.939, 116.779, 123.68)


@MODELS.register
def vgg11(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dense: int = 512,
    dropout: float = 0.5,
) -> Network:
    """VGG11 (A of the paper): 9.2 million weights below its dense layers.

    Expects channels scaled to about 0 … 1, and crops of at least 32 pixels. Features are
    ``block1_conv1`` … ``block5_pool``, ``pool5`` (the average of the last map, 512 of them), and
    the dense ``fc6`` and ``fc7``.

    Parameters
    ----------
    input_shape : tuple of int
        (S, S, C).
    num_classes : int
        K.
    dense : int
        Size of ``fc6`` and ``fc7``; 4096 in the paper.
    dropout : float
        Share of ``fc6`` and ``fc7`` that is dropped in training.
    """
    crops = keras.Input(input_shape, name="crops")
    return _network("vgg11", crops, crops, num_classes, (1, 1, 2, 2, 2), dense, dropout)


@MODELS.register
def vgg16(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dense: int = 512,
    dropout: float = 0.5,
    imagenet_range: bool = False,
) -> Network:
    """VGG16 (D of the paper): 14.7 million weights below its dense layers.

    See :func:`vgg11`.

    Parameters
    ----------
    input_shape : tuple of int
        (S, S, C).
    num_classes : int
        K.
    dense : int
        Size of ``fc6`` and ``fc7``; 4096 in the paper.
    dropout : float
        Share of ``fc6`` and ``fc7`` that is dropped in training.
    imagenet_range : bool
        Bring 0 … 1 to what the weights of ImageNet were trained on: grey levels less the means of
        blue, green and red; channel i counts as colour i mod 3, whose filters it takes. Only with
        these weights: a new network learns badly from such values.
    """
    crops = keras.Input(input_shape, name="crops")
    x = crops
    if imagenet_range:
        offsets = [-_MEANS[channel % 3] for channel in range(input_shape[-1])]
        x = layers.Rescaling(255.0, offsets, name="range")(crops)
    network = _network("vgg16", crops, x, num_classes, (2, 2, 3, 3, 3), dense, dropout)
    return Network(network.train, network.backbone, pretrained=_IMAGENET)


def _network(
    name: str,
    crops: Any,
    x: Any,
    num_classes: int,
    depths: tuple[int, ...],
    dense: int,
    dropout: float,
) -> Network:
    for block, depth in enumerate(depths, 1):
        for number in range(1, depth + 1):
            x = layers.Conv2D(
                64 * 2 ** min(block - 1, 3),
                3,
                padding="same",
                activation="relu",
                # Without normalization a signal would fade under the usual, smaller weights.
                kernel_initializer="he_normal",
                name=f"block{block}_conv{number}",
            )(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = layers.GlobalAveragePooling2D(name="pool5")(x)
    for number in (6, 7):
        if number == 7:
            x = layers.Dropout(dropout, name="fc6_dropout")(x)
        x = layers.Dense(
            dense, activation="relu", kernel_initializer="he_normal", name=f"fc{number}"
        )(x)
    backbone = keras.Model(crops, x, name="backbone")
    x = layers.Dropout(dropout, name="fc7_dropout")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return Network(keras.Model(crops, logits, name=name), backbone)
