"""Residual networks that normalize first (He et al. 2016, *Identity mappings*).

They are the networks of ``resnet`` in the original DeepProfiler since it moved to TensorFlow 2: its
weight files fit by the names of layers.
"""

from __future__ import annotations

from collections.abc import Callable

import keras

from deepprofiler.learning.network import Network
from deepprofiler.plugins.models._applications import application
from deepprofiler.registry import MODELS

_IMAGENET = (
    "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
    "{name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
)


@MODELS.register
def resnet50v2(
    input_shape: tuple[int, int, int], num_classes: int, *, imagenet_range: bool = False
) -> Network:
    """ResNet50V2, with the names of layers of keras.applications; 23.6 million weights.

    Expects channels scaled to about 0 … 1, and crops of at least 32 pixels. ``post_relu``, or
    ``pool5``, gives 2,048 features.

    Parameters
    ----------
    input_shape : tuple of int
        (S, S, C).
    num_classes : int
        K.
    imagenet_range : bool
        Stretch 0 … 1 to −1 … 1, the range that the weights of ImageNet were trained on. The
        original DeepProfiler did not.
    """
    return _network(keras.applications.ResNet50V2, input_shape, num_classes, imagenet_range)


@MODELS.register
def resnet101v2(
    input_shape: tuple[int, int, int], num_classes: int, *, imagenet_range: bool = False
) -> Network:
    """ResNet101V2, 42.6 million weights; see :func:`resnet50v2`."""
    return _network(keras.applications.ResNet101V2, input_shape, num_classes, imagenet_range)


@MODELS.register
def resnet152v2(
    input_shape: tuple[int, int, int], num_classes: int, *, imagenet_range: bool = False
) -> Network:
    """ResNet152V2, 58.3 million weights; see :func:`resnet50v2`."""
    return _network(keras.applications.ResNet152V2, input_shape, num_classes, imagenet_range)


def _network(
    build: Callable[..., keras.Model],
    input_shape: tuple[int, int, int],
    num_classes: int,
    imagenet_range: bool,
) -> Network:
    return application(
        build,
        input_shape,
        num_classes,
        pretrained=_IMAGENET.format(name=build.__name__.lower()),
        **({"scale": 2.0, "offset": -1.0} if imagenet_range else {}),
    )
