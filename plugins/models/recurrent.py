"""A recurrent network over the cells of one treatment (Caicedo et al. 2018, Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers, ops

from deepprofiler.errors import PluginError
from deepprofiler.learning.network import Network
from deepprofiler.registry import MODELS


class EachCell(layers.Layer):
    """An encoder of single cells, applied to each cell of a sequence.

    T becomes part of the batch: ``TimeDistributed`` would normalize each time step by itself.
    """

    def __init__(self, encoder: keras.Model, *, name: str) -> None:
        super().__init__(name=name)
        self.encoder = encoder

    def call(self, crops: Any) -> Any:
        """Map (B, T, S, S, C) to (B, T, D)."""
        shape = ops.shape(crops)
        vectors = self.encoder(ops.reshape(crops, (-1, *crops.shape[2:])))
        return ops.reshape(vectors, (shape[0], shape[1], vectors.shape[-1]))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return (B, T, D)."""
        return (*input_shape[:2], self.encoder.output_shape[-1])


@MODELS.register
def recurrent(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    backbone: str = "resnet18",
    params: Mapping[str, Any] | None = None,
    units: int = 256,
) -> Network:
    """Any model's backbone, and a GRU over T cells, many to one; for the generator ``sequence``.

    The GRU only regularizes training: features come from the backbone. The network does not depend
    on T.

    Parameters
    ----------
    input_shape : tuple of int
        (S, S, C) of one crop; ``train`` takes (B, T, S, S, C).
    num_classes : int
        K.
    backbone : str
        Name of a model that learns labels.
    params : mapping, optional
        Its parameters.
    units : int
        Size of the GRU's state.
    """
    inner = MODELS.build(backbone, input_shape, num_classes, params=params)
    if inner.target != "label":
        raise PluginError(f"recurrent: the backbone `{backbone}` does not learn labels")
    pooled = inner.backbone.output
    if len(pooled.shape) == 4:
        pooled = layers.GlobalAveragePooling2D()(pooled)
    encoder = keras.Model(inner.backbone.input, pooled, name="encoder")
    crops = keras.Input((None, *input_shape), name="crops")
    vectors = EachCell(encoder, name="each_cell")(crops)
    state = layers.GRU(units, name="gru")(vectors)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(state)
    return Network(
        train=keras.Model(crops, logits, name="recurrent"),
        backbone=inner.backbone,
        per_channel=inner.per_channel,
        pretrained=inner.pretrained,
    )
