"""Residual networks (He et al. 2016), laid out as in keras-resnet, which the paper used.

A block's features are named after it: ``conv2a`` … ``conv5c``, the output of its last ReLU. These
are keras-resnet's names of the same layers:

===================  =====================================================================
here                 keras-resnet 0.2
===================  =====================================================================
``conv1``            ``conv1``
``conv1_bn``         ``bn_conv1``
``conv4b``           ``res4b_relu``
``conv4b_1``         ``res4b_branch2a`` (``_2``: ``branch2b``, ``_3``: ``branch2c``)
``conv4b_1_bn``      ``bn4b_branch2a`` (``_2_bn``: ``branch2b``, ``_3_bn``: ``branch2c``)
``conv4a_shortcut``  ``res4a_branch1``, and ``bn4a_branch1`` for ``conv4a_shortcut_bn``
``conv4c`` …         ``res4b2`` … in ResNet101, which counts the blocks of stages 3 and 4
===================  =====================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from deepprofiler.learning.network import Network
from deepprofiler.registry import MODELS

# A block maps a tensor, its number of filters, its stride, its name and whether its shortcut is
# a projection.
Block = Callable[[Any, int, int, str, bool], Any]


@MODELS.register
def resnet18(input_shape: tuple[int, int, int], num_classes: int) -> Network:
    """ResNet18: about 11.2 million weights; ``conv4a`` gives 256 features.

    Expects channels scaled to about 0 … 1. Features are named after the eight residual blocks,
    ``conv2a`` … ``conv5b``, each the output of the block's last ReLU.
    """
    return _network("resnet18", input_shape, num_classes, _basic_block, (2, 2, 2, 2))


@MODELS.register
def resnet34(input_shape: tuple[int, int, int], num_classes: int) -> Network:
    """ResNet34: about 21.3 million weights; ``conv2a`` … ``conv2c``, ``conv3a`` … ``conv3d``, ….

    Expects channels scaled to about 0 … 1.
    """
    return _network("resnet34", input_shape, num_classes, _basic_block, (3, 4, 6, 3))


@MODELS.register
def resnet50(input_shape: tuple[int, int, int], num_classes: int) -> Network:
    """ResNet50: about 23.6 million weights; ``conv4a`` gives 1,024 features.

    Expects channels scaled to about 0 … 1. Weights of newer releases of the original
    DeepProfiler, and of ImageNet, are for ``resnet50v2``.
    """
    return _network("resnet50", input_shape, num_classes, _bottleneck_block, (3, 4, 6, 3))


@MODELS.register
def resnet101(input_shape: tuple[int, int, int], num_classes: int) -> Network:
    """ResNet101: about 42.6 million weights; as ``resnet50``, with ``conv4a`` … ``conv4w``."""
    return _network("resnet101", input_shape, num_classes, _bottleneck_block, (3, 4, 23, 3))


def _network(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    block: Block,
    depths: tuple[int, ...],
) -> Network:
    crops = keras.Input(input_shape, name="crops")
    x = _convolve(crops, 64, 7, 2, "conv1")
    x = layers.ReLU(name="conv1_relu")(_normalize(x, "conv1_bn"))
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
    for stage, depth in enumerate(depths):
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            label = f"conv{stage + 2}{chr(ord('a') + index)}"
            x = block(x, 64 * 2**stage, stride, label, index == 0)
    x = layers.GlobalAveragePooling2D(name="pool5")(x)
    backbone = keras.Model(crops, x, name="backbone")
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return Network(train=keras.Model(crops, logits, name=name), backbone=backbone)


def _basic_block(x: Any, filters: int, stride: int, name: str, projected: bool) -> Any:
    """Two 3 × 3 convolutions beside a shortcut."""
    y = _convolve(x, filters, 3, stride, f"{name}_1")
    y = layers.ReLU(name=f"{name}_1_relu")(_normalize(y, f"{name}_1_bn"))
    y = _normalize(_convolve(y, filters, 3, 1, f"{name}_2"), f"{name}_2_bn")
    return _join(x, y, filters, stride, name, projected)


def _bottleneck_block(x: Any, filters: int, stride: int, name: str, projected: bool) -> Any:
    """1 × 1, 3 × 3 and 1 × 1 convolutions beside a shortcut; the first one has the stride."""
    y = _convolve(x, filters, 1, stride, f"{name}_1")
    y = layers.ReLU(name=f"{name}_1_relu")(_normalize(y, f"{name}_1_bn"))
    y = _convolve(y, filters, 3, 1, f"{name}_2")
    y = layers.ReLU(name=f"{name}_2_relu")(_normalize(y, f"{name}_2_bn"))
    y = _normalize(_convolve(y, 4 * filters, 1, 1, f"{name}_3"), f"{name}_3_bn")
    return _join(x, y, 4 * filters, stride, name, projected)


def _join(x: Any, y: Any, filters: int, stride: int, name: str, projected: bool) -> Any:
    """Add a block's input, projected where its shape differs, to its output."""
    if projected:
        shortcut = _convolve(x, filters, 1, stride, f"{name}_shortcut")
        x = _normalize(shortcut, f"{name}_shortcut_bn")
    return layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([y, x]))


def _convolve(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    if kernel == 3 and stride == 2:
        # Symmetric padding as in keras-resnet: "same" would pad only below and to the right.
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        padding = "valid"
    else:
        padding = "same"
    return layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def _normalize(x: Any, name: str) -> Any:
    # Statistics follow within some tens of steps, so that short trainings can be used as well.
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)
