"""What a model plugin returns, and how features are taken out of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

import keras
import numpy as np

from deepprofiler.errors import ConfigError


@dataclass(frozen=True)
class Network:
    """Two Keras models that share weights.

    Attributes
    ----------
    train : keras.Model
        Maps what the crop generator combines to logits (B, K), or, with ``target="input"``, to
        its own input. Only its weights are checkpointed.
    backbone : keras.Model
        Maps single crops (N, S, S, C) through named layers.
    target : {"label", "input"}
        What ``train`` learns to give.
    per_channel : bool
        Each layer's features are C blocks of equal width, one a channel, in channel order.
    """

    train: keras.Model
    backbone: keras.Model
    target: Literal["label", "input"] = "label"
    per_channel: bool = False

    def layers(self) -> list[tuple[str, int]]:
        """Name and number of features of every layer that features can be taken from."""
        return [
            (layer.name, int(layer.output.shape[-1]))
            for layer in self.backbone.layers
            if not isinstance(layer, keras.layers.InputLayer) and _is_feature(layer)
        ]

    def features(self, layers: Sequence[str]) -> keras.Model:
        """Cut the backbone after the deepest of some layers.

        Parameters
        ----------
        layers : sequence of str
            Names of layers; maps (N, h, w, d) are averaged over h and w, vectors passed through.

        Returns
        -------
        keras.Model
            Maps crops (N, S, S, C) to features (N, D) float32, layer by layer in the given order.
            Nothing beyond the deepest layer is computed.

        Raises
        ------
        ConfigError
            A layer does not exist or gives no features.
        """
        outputs = []
        for name in self._known(layers):
            output = self.backbone.get_layer(name).output
            if len(output.shape) == 4:
                output = keras.layers.GlobalAveragePooling2D(dtype="float32")(output)
            outputs.append(output)
        joined = outputs[0] if len(outputs) == 1 else keras.layers.Concatenate()(outputs)
        return keras.Model(self.backbone.input, joined)

    def columns(self, layers: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Range of columns [first, last + 1) of each layer in what :meth:`features` gives."""
        sizes = dict(self.layers())
        ranges, first = {}, 0
        for name in self._known(layers):
            ranges[name] = (first, first + sizes[name])
            first += sizes[name]
        return ranges

    def feature_names(self, layers: Sequence[str], channels: Iterable[str]) -> list[str]:
        """Names of the D features: ``<layer>_<index>``, or ``<layer>_<channel>_<index>``."""
        blocks = [f"_{channel}" for channel in channels] if self.per_channel else [""]
        return [
            f"{layer}{block}_{index}"
            for layer, (first, last) in self.columns(layers).items()
            for block in blocks
            for index in range((last - first) // len(blocks))
        ]

    def set_seeds(self, *key: int) -> None:
        """Seed dropout and the like, whose state Keras does not save, from some numbers."""
        weights = {id(weight) for weight in self.train.weights}
        states = [variable for variable in self.train.variables if id(variable) not in weights]
        for index, state in enumerate(states):
            words = np.random.SeedSequence((*key, index)).generate_state(2)
            state.assign(words.astype(state.dtype).reshape(state.shape))

    def _known(self, layers: Sequence[str]) -> Sequence[str]:
        names = [name for name, _ in self.layers()]
        for layer in layers:
            if layer not in names:
                close = get_close_matches(layer, names, n=1, cutoff=0.4)
                advice = f"nearest is `{close[0]}`; " if close else ""
                raise ConfigError(
                    f"profile.layers: the network has no layer `{layer}`; {advice}"
                    f"there are {', '.join(names)}"
                )
        if len(set(layers)) < len(layers):
            raise ConfigError(f"profile.layers names a layer twice: {', '.join(layers)}")
        return layers


def _is_feature(layer: keras.layers.Layer) -> bool:
    shape: tuple[int | None, ...] = getattr(layer.output, "shape", ())
    return len(shape) in (2, 4) and shape[-1] is not None
