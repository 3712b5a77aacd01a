"""Densely connected networks (Huang et al. 2017)."""

from __future__ import annotations

import keras

from deepprofiler.learning.network import Network
from deepprofiler.plugins.models._applications import application, normalization
from deepprofiler.registry import MODELS

_IMAGENET = (
    "https://storage.googleapis.com/tensorflow/keras-applications/densenet/"
    "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5"
)


@MODELS.register
def densenet121(
    input_shape: tuple[int, int, int], num_classes: int, *, imagenet_range: bool = False
) -> Network:
    """DenseNet121, with the names of layers of keras.applications; ``relu`` gives 1,024 features.

    Expects channels scaled to about 0 … 1, and crops of at least 32 pixels.

    Parameters
    ----------
    input_shape : tuple of int
        (S, S, C).
    num_classes : int
        K.
    imagenet_range : bool
        Bring 0 … 1 to mean 0 and deviation 1 over ImageNet, as its weights expect. The original
        DeepProfiler did not.
    """
    return application(
        keras.applications.DenseNet121,
        input_shape,
        num_classes,
        pretrained=_IMAGENET,
        **(normalization(input_shape[-1]) if imagenet_range else {}),
    )
