"""Inception-ResNet v2 (Szegedy et al. 2017)."""

from __future__ import annotations

import keras

from deepprofiler.errors import PluginError
from deepprofiler.learning.network import Network
from deepprofiler.plugins.models._applications import application
from deepprofiler.registry import MODELS

_IMAGENET = (
    "https://storage.googleapis.com/tensorflow/keras-applications/inception_resnet_v2/"
    "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
_SMALLEST = 75


@MODELS.register
def inception_resnet_v2(
    input_shape: tuple[int, int, int], num_classes: int, *, imagenet_range: bool = False
) -> Network:
    """Inception-ResNet v2, with the names of layers of keras.applications; 54 million weights.

    Expects channels scaled to about 0 … 1. Layers without a name of their own are numbered from
    the network's first: ``conv2d``, ``conv2d_1``, ….

    Parameters
    ----------
    input_shape : tuple of int
        (S, S, C).
    num_classes : int
        K.
    imagenet_range : bool
        Stretch 0 … 1 to −1 … 1, the range that the weights of ImageNet were trained on.

    Raises
    ------
    PluginError
        The crops are smaller than 75 pixels.
    """
    if min(input_shape[:2]) < _SMALLEST:
        raise PluginError(
            f"inception_resnet_v2: crops of {input_shape[0]} pixels are too small, the network "
            f"needs {_SMALLEST}; set crops.size or crops.resize"
        )
    return application(
        keras.applications.InceptionResNetV2,
        input_shape,
        num_classes,
        pretrained=_IMAGENET,
        **({"scale": 2.0, "offset": -1.0} if imagenet_range else {}),
    )
