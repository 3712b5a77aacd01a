"""Network: what a model plugin returns, and how features are taken from its layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from deepprofiler.errors import ConfigError, DataError, PluginError, nearest

_PROBLEMS_SHOWN = 5


class WeightsMismatchError(DataError):
    """A weight file does not fit a network; nothing was loaded.

    Attributes
    ----------
    path : Path
        The weight file.
    fitting, total : int
        How many of the network's layers or variables fit, of how many.
    problems : tuple of str
        What differs, one each.
    """

    def __init__(
        self, path: Path, fitting: int, total: int, unit: str, problems: Sequence[str]
    ) -> None:
        lines = list(problems[:_PROBLEMS_SHOWN])
        if len(problems) > _PROBLEMS_SHOWN:
            lines.append(f"and {len(problems) - _PROBLEMS_SHOWN} more")
        listing = "".join(f"\n  {line}" for line in lines)
        super().__init__(
            f"{path} does not fit the network: {fitting} of {total} {unit} match, nothing was "
            f"loaded{listing}"
        )
        self.path = path
        self.fitting = fitting
        self.total = total
        self.problems = tuple(problems)


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
        What ``train`` learns to predict.
    per_channel : bool
        Each layer's features are C blocks of equal width, one for each channel, in order.
    pretrained : str, optional
        URL of a Keras weight file for the backbone, without a head, trained on ImageNet.
    """

    train: keras.Model
    backbone: keras.Model
    target: Literal["label", "input"] = "label"
    per_channel: bool = False
    pretrained: str | None = None

    def layers(self) -> list[tuple[str, int]]:
        """Return name and number of features of every layer that features can be taken from."""
        return [
            (layer.name, int(layer.output.shape[-1]))
            for layer in self.backbone.layers
            if not isinstance(layer, keras.layers.InputLayer) and _is_feature(layer)
        ]

    def features(self, layers: Sequence[str]) -> keras.Model:
        """Make a model of the backbone up to the deepest of some layers.

        Parameters
        ----------
        layers : sequence of str
            Names of layers; maps (N, h, w, d) are averaged over h and w, vectors passed through.

        Returns
        -------
        keras.Model
            Maps crops (N, S, S, C) to features (N, D) float32, layer by layer in the given order.
            Deeper layers are not computed.

        Raises
        ------
        ConfigError
            A layer does not exist, or its output is neither a map nor a vector.
        """
        outputs = []
        for name in self._checked(layers):
            output = self.backbone.get_layer(name).output
            if len(output.shape) == 4:
                output = keras.layers.GlobalAveragePooling2D(dtype="float32")(output)
            outputs.append(output)
        joined = outputs[0] if len(outputs) == 1 else keras.layers.Concatenate()(outputs)
        return keras.Model(self.backbone.input, joined)

    def columns(self, layers: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return the columns [first, last + 1) of each layer in what :meth:`features` gives."""
        sizes = dict(self.layers())
        ranges, first = {}, 0
        for name in self._checked(layers):
            ranges[name] = (first, first + sizes[name])
            first += sizes[name]
        return ranges

    def feature_names(self, layers: Sequence[str], channels: Iterable[str]) -> list[str]:
        """Name the D features: ``<layer>_<index>``, or ``<layer>_<channel>_<index>``."""
        blocks = [f"_{channel}" for channel in channels] if self.per_channel else [""]
        return [
            f"{layer}{block}_{index}"
            for layer, (first, last) in self.columns(layers).items()
            for block in blocks
            for index in range((last - first) // len(blocks))
        ]

    def set_seeds(self, *key: int, part: Callable[[Any], Any] = lambda state: state) -> None:
        """Seed the random layers, such as dropout, whose state Keras does not save.

        Parameters
        ----------
        *key : int
            The seeds depend on these numbers alone.
        part : callable
            Returns the variable of one device; by default all devices have the same seeds.
        """
        weights = {id(weight) for weight in self.train.weights}
        states = [variable for variable in self.train.variables if id(variable) not in weights]
        for index, state in enumerate(states):
            seed = np.random.SeedSequence((*key, index)).generate_state(2)
            part(state).assign(seed.astype(state.dtype).reshape(state.shape))

    def _checked(self, layers: Sequence[str]) -> Sequence[str]:
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
    returned: Any, name: str, input_shape: tuple[int, int, int], classes: int
) -> Network:
    """Check what a model plugin returned.

    Parameters
    ----------
    returned : object
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
        It is not a :class:`Network`, or its shapes or weights are not those of the contract.
    """
    where = f"model `{name}`"
    if not isinstance(returned, Network):
        raise PluginError(
            f"{where} returns {type(returned).__name__}; it must return Network(train, backbone)"
        )
    inputs, outputs = returned.train.input_shape, returned.train.output_shape
    expected: tuple[int | None, ...] = inputs if returned.target == "input" else (None, classes)
    for part, shape, required in (
        ("its backbone takes", returned.backbone.input_shape, (None, *input_shape)),
        ("its `train` takes, for each cell,", inputs[-3:], input_shape),
        ("its `train` gives", outputs, expected),
    ):
        if tuple(shape) != tuple(required):
            raise PluginError(f"{where} does not fit: {part} {shape}, and must {required}")
    trained = {id(weight) for weight in returned.train.weights}
    untrained = [weight.path for weight in returned.backbone.weights if id(weight) not in trained]
    if untrained:
        raise PluginError(
            f"{where}: {len(untrained)} weights of its backbone are not part of `train` and would "
            f"never be trained or stored: {untrained[0]}, …; make both of the same layers"
        )
    paths = [weight.path for weight in returned.train.weights]
    duplicates = sorted({path for path in paths if paths.count(path) > 1})
    if duplicates:
        raise PluginError(
            f"{where}: two weights are called {duplicates[0]}; give the layers different names"
        )
    return returned


def _is_feature(layer: keras.layers.Layer) -> bool:
    shape: tuple[int | None, ...] = getattr(layer.output, "shape", ())
    return len(shape) in (2, 4) and shape[-1] is not None
