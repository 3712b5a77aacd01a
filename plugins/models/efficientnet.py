"""EfficientNets (Tan & Le 2019); B0 is the network of the published Cell Painting CNN."""

from __future__ import annotations

from collections.abc import Callable

import keras

from deepprofiler.learning.network import Network
from deepprofiler.plugins.models._applications import application, normalization
from deepprofiler.registry import MODELS

_IMAGENET = "https://storage.googleapis.com/keras-applications/efficientnetb{size}_notop.h5"
_BUILD = (
    keras.applications.EfficientNetB0,
    keras.applications.EfficientNetB1,
    keras.applications.EfficientNetB2,
    keras.applications.EfficientNetB3,
    keras.applications.EfficientNetB4,
    keras.applications.EfficientNetB5,
    keras.applications.EfficientNetB6,
    keras.applications.EfficientNetB7,
)


def _register(size: int) -> Callable[..., Network]:
    def model(
        input_shape: tuple[int, int, int], num_classes: int, *, imagenet_range: bool = False
    ) -> Network:
        return application(
            _BUILD[size],
            input_shape,
            num_classes,
            pretrained=_IMAGENET.format(size=size),
            **(normalization(input_shape[-1]) if imagenet_range else {}),
        )

    model.__name__ = model.__qualname__ = f"efficientnet_b{size}"
    model.__doc__ = f"""EfficientNet-B{size}, with the names of layers of keras.applications.

    Expects channels scaled to about 0 … 1 and, as the original DeepProfiler, changes nothing about
    them: the scaling that keras.applications puts inside is left out.

    Parameters
    ----------
    input_shape : tuple of int
        (S, S, C).
    num_classes : int
        K.
    imagenet_range : bool
        Bring 0 … 1 to mean 0 and deviation 1 over ImageNet, as its weights expect.
    """
    return MODELS.register(model)


efficientnets = [_register(size) for size in range(len(_BUILD))]
