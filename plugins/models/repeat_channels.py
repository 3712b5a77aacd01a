"""A network for colour images, applied to each channel (the transfer-learning baseline)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers, ops

from deepprofiler.errors import PluginError
from deepprofiler.learning.network import Network
from deepprofiler.registry import MODELS


class Join(layers.Layer):
    """Put the features of a crop's channels side by side: (N · C, …, d) to (N, C · d)."""

    def __init__(self, channels: int, *, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self.channels = channels

    def call(self, features: Any) -> Any:
        """Average maps over rows and columns, then join."""
        if len(features.shape) == 4:
            features = ops.mean(features, axis=(1, 2))
        return ops.reshape(features, (-1, self.channels * features.shape[-1]))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[None, int]:
        """Return (N, C · d)."""
        return None, self.channels * (input_shape[-1] or 0)


class Last(layers.Layer):
    """Return the last of several inputs; the layers of all are part of the model."""

    def call(self, features: list[Any]) -> Any:
        """Return one of several (N, D)."""
        return features[-1]

    def compute_output_shape(self, input_shape: list[Any]) -> Any:
        """Return (N, D)."""
        return input_shape[-1]


@MODELS.register
def repeat_channels(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    backbone: str = "resnet50v2",
    params: Mapping[str, Any] | None = None,
) -> Network:
    """Any model for three channels, given each channel of a crop three times over.

    All channels go through the same weights; their features are joined in the order of
    ``dataset.channels`` and named by channel. Layers have the names that they have in the backbone,
    and C times as many features. With ``train.weights: imagenet`` its weights fit as they are.

    Parameters
    ----------
    input_shape : tuple of int
        (S, S, C).
    num_classes : int
        K.
    backbone : str
        Name of a model that learns labels.
    params : mapping, optional
        Its parameters.

    Raises
    ------
    PluginError
        The backbone does not learn labels, or treats channels one by one itself.
    """
    inner = MODELS.build(backbone, (*input_shape[:2], 3), num_classes, params=params)
    if inner.target != "label" or inner.per_channel:
        raise PluginError(
            f"repeat_channels: the backbone `{backbone}` must learn labels from whole crops"
        )
    names = [name for name, _ in inner.layers()]
    outputs = [inner.backbone.get_layer(name).output for name in names]
    # All layers at once: those that are not needed are left out when the graph runs.
    each_channel = keras.Model(inner.backbone.input, outputs, name="each_channel")
    crops = keras.Input(input_shape, name="crops")
    joined = [
        Join(input_shape[-1], name=name)(output)
        for name, output in zip(names, each_channel(_repeat(crops)), strict=True)
    ]
    features = Last(name="features", dtype="float32")(joined)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(features)
    return Network(
        train=keras.Model(crops, logits, name="repeat_channels"),
        backbone=keras.Model(crops, features, name="backbone"),
        per_channel=True,
        pretrained=inner.pretrained,
    )


def _repeat(crops: Any) -> Any:
    """Make one colour image of each channel: (N, S, S, C) to (N · C, S, S, 3)."""
    rows, columns = crops.shape[1:3]
    grey = ops.reshape(ops.transpose(crops, (0, 3, 1, 2)), (-1, rows, columns, 1))
    return ops.repeat(grey, 3, axis=-1)
