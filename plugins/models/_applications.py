"""Networks of keras.applications as models: any number of channels, stable names of layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from deepprofiler.learning.network import Network

#: Mean and standard deviation of red, green and blue over ImageNet, of intensities 0 … 1.
MEANS, DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def application(
    build: Callable[..., keras.Model],
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    pretrained: str,
    scale: float | Sequence[float] | None = None,
    offset: float | Sequence[float] = 0.0,
) -> Network:
    """Make a model of a network of keras.applications, with ``pool5`` and a classifier.

    Parameters
    ----------
    build : callable
        A function of keras.applications.
    input_shape : tuple of int
        (S, S, C).
    num_classes : int
        K.
    pretrained : str
        URL of its weights without a head, trained on ImageNet.
    scale, offset : float or sequence of float, optional
        Crops become ``scale * crops + offset``, one value or one for each channel; by default they
        are not changed.

    Returns
    -------
    Network
    """
    crops = keras.Input(input_shape, name="crops")
    x = crops if scale is None else layers.Rescaling(scale, offset, name="range")(crops)
    body = _renamed(build(include_top=False, weights=None, input_tensor=x))
    pooled = layers.GlobalAveragePooling2D(name="pool5")(body.output)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(pooled)
    return Network(
        train=keras.Model(body.inputs[0], logits, name=build.__name__.lower()),
        backbone=keras.Model(body.inputs[0], pooled, name="backbone"),
        pretrained=pretrained,
    )


def normalization(channels: int) -> dict[str, list[float]]:
    """Return scale and offset from 0 … 1 to mean 0 and standard deviation 1 over ImageNet.

    Channel i is scaled as colour i mod 3, whose filters it takes.
    """
    places = [channel % 3 for channel in range(channels)]
    return {
        "scale": [1 / DEVIATIONS[place] for place in places],
        "offset": [-MEANS[place] / DEVIATIONS[place] for place in places],
    }


def _renamed(model: keras.Model) -> keras.Model:
    """Copy a model, with its automatic names counted from its own first layer.

    Keras counts over all models of a process: a second network would have other names. The model's
    own scaling layers are left out.
    """
    names = _stable_names(model.layers)

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        name = names.get(layer.name, layer.name)
        if name in ("rescaling", "normalization"):
            return layers.Identity(name=name)
        return type(layer).from_config({**layer.get_config(), "name": name})

    return keras.models.clone_model(model, clone_function=clone)


def _stable_names(all_layers: Sequence[Any]) -> dict[str, str]:
    """Map automatic names (``conv2d_17``) to their place among those of one kind."""
    numbers_by_kind: dict[str, list[int]] = {}
    for layer in all_layers:
        # Conv2D is conv2d, ZeroPadding2D zero_padding2d.
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()
        automatic = re.fullmatch(rf"{kind}(?:_(\d+))?", layer.name)
        if automatic:
            numbers_by_kind.setdefault(kind, []).append(int(automatic[1] or 0))
    return {
        _numbered(kind, number): _numbered(kind, place)
        for kind, numbers in numbers_by_kind.items()
        for place, number in enumerate(sorted(numbers))
    }


def _numbered(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind
