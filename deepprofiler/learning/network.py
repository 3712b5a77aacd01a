"""What a model plugin returns, and how features are taken out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from deepprofiler.errors import ConfigError, PluginError, nearest


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
    pretrained : str, optional
        Address of a Keras weight file without head, trained on ImageNet, for the backbone.
    """

    train: keras.Model
    backbone: keras.Model
    target: Literal["label", "input"] = "label"
    per_channel: bool = False
    pretrained: str | None = None

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

    def set_seeds(self, *key: int, part: Callable[[Any], Any] = lambda state: state) -> None:
        """Seed dropout and the like, whose state Keras does not save, from some numbers.

        Parameters
        ----------
        *key : int
            What decides the seeds.
        part : callable
            Gives the variable of one device; by default all devices have the same seeds.
        """
        weights = {id(weight) for weight in self.train.weights}
        states = [variable for variable in self.train.variables if id(variable) not in weights]
        for index, state in enumerate(states):
            words = np.random.SeedSequence((*key, index)).generate_state(2)
            part(state).assign(words.astype(state.dtype).reshape(state.shape))

    def _known(self, layers: Sequence[str]) -> Sequence[str]:
        names = [name for name, _ in self.layers()]
        for layer in layers:
            if layer not in names:
                raise ConfigError(
                    f"profile.layers: the network has no layer `{layer}`{nearest(layer, names)}; "
                    f"there are {', '.join(names)}"
                )
        if len(set(layers)) < len(layers):
            raise ConfigError(f"profile.layers names a layer twice: {', '.join(layers)}")
        return layers


def require_network(
    found: Any, name: str, input_shape: tuple[int, int, int], classes: int
) -> Network:
    """Give what a model plugin returned, where it is a network that fits.

    Parameters
    ----------
    found : object
        What the plugin returned.
    name : str
        The model's name.
    input_shape : tuple of int
        (S, S, C) that the model was built for.
    classes : int
        Number of classes K.

    Returns
    -------
    Network

    Raises
    ------
    PluginError
        It is no network, or its shapes or weights are not those of the contract.
    """
    where = f"model `{name}`"
    if not isinstance(found, Network):
        raise PluginError(
            f"{where} returns {type(found).__name__}; it must return Network(train, backbone)"
        )
    taken, given = found.train.input_shape, found.train.output_shape
    expected: tuple[int | None, ...] = taken if found.target == "input" else (None, classes)
    for what, shape, right in (
        ("its backbone takes", found.backbone.input_shape, (None, *input_shape)),
        ("its `train` takes, for each cell,", taken[-3:], input_shape),
        ("its `train` gives", given, expected),
    ):
        if tuple(shape) != tuple(right):
            raise PluginError(f"{where} does not fit: {what} {shape}, and must {right}")
    trained = {id(weight) for weight in found.train.weights}
    alone = [weight.path for weight in found.backbone.weights if id(weight) not in trained]
    if alone:
        raise PluginError(
            f"{where}: {len(alone)} weights of its backbone are not part of `train` and would "
            f"never be trained or stored: {alone[0]}, …; make both of the same layers"
        )
    paths = [weight.path for weight in found.train.weights]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise PluginError(f"{where}: two weights are called {twice[0]}; name the layers apart")
    return found


def _is_feature(layer: keras.layers.Layer) -> bool:
    shape: tuple[int | None, ...] = getattr(layer.output, "shape", ())
    return len(shape) in (2, 4) and shape[-1] is not None
