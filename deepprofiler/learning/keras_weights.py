"""Weight files of Keras 2: those of the original DeepProfiler, and those trained on ImageNet.

Files of ImageNet are downloaded once, into Keras's own cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import h5py
import keras
import numpy as np

from deepprofiler.errors import DataError, require_system
from deepprofiler.files import replacing
from deepprofiler.learning.network import Network, WeightsMismatchError

# Maps the names of a file's layers to a network's, where they differ; None: a layer to leave out.
LayerNames = Callable[[Sequence[str]], Mapping[str, str | None]]
Arrays = list[np.ndarray]


@dataclass(frozen=True)
class LoadedWeights:
    """Which weights were loaded from a file.

    Attributes
    ----------
    layers : int
        Number of layers that were loaded.
    digest : str
        SHA-256 of their names, shapes and values, as hexadecimal text.
    not_loaded : tuple of str
        Dense layers at the end of the network that the file does not have; they keep their
        weights.
    """

    layers: int
    digest: str
    not_loaded: tuple[str, ...] = ()


def is_keras2(path: Path) -> bool:
    """Tell from its content whether a file is a weight file of Keras 2."""
    try:
        with h5py.File(path, "r") as file:
            return "layer_names" in _root(file).attrs
    except OSError:
        return False


def load(
    path: Path, network: Network, *, names: LayerNames, repeat_filters: bool = False
) -> LoadedWeights:
    """Load a backbone's weights: all of them, or nothing.

    Names and shapes are compared first, both ways. Dense layers at the end that only one of the
    two has are a head, of any number of classes: the file's is ignored, the network's is kept.

    Parameters
    ----------
    path : Path
        The file.
    network : Network
        Only its backbone is loaded.
    names : callable
        Translates names of layers.
    repeat_filters : bool
        The file is for three channels and the network for C: channel i of its first layer takes
        the filters of channel i mod 3, times 3/C, so that its sums stay as large.

    Returns
    -------
    LoadedWeights

    Raises
    ------
    DataError
        The file cannot be read, or does not fit (:class:`WeightsMismatchError`).
    """
    stored = _read(path, names)
    # A layer without weights may bear the name of one inside a model.
    own = {layer.name: _variables(layer) for layer in _layers(network.backbone) if layer.weights}
    if repeat_filters:
        first, variables = next(iter(own.items()))
        if first in stored:
            stored[first][0] = _repeated(stored[first][0], tuple(variables[0].shape))
    stored = _without_head(stored, own)
    body = _without_head(own, stored)
    _require_fit(path, stored, body)
    digest = hashlib.sha256()
    for name in sorted(body):
        for variable, value in zip(body[name], stored[name], strict=True):
            variable.assign(value)
            digest.update(f"{name} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
    not_loaded = tuple(name for name in own if name not in body)
    return LoadedWeights(len(body), digest.hexdigest(), not_loaded)


def _root(file: h5py.File) -> h5py.Group:
    """Return the group of weights; ``Model.save`` puts it beside the optimizer's."""
    return file.get("model_weights", file)


def _read(path: Path, names: LayerNames) -> dict[str, Arrays]:
    """Read the arrays of each layer that has any, in the file's order, by the network's names."""
    stored: dict[str, Arrays] = {}
    try:
        with h5py.File(path, "r") as file:
            root = _root(file)
            for name in _texts(root, "layer_names"):
                weights = _texts(root[name], "weight_names")
                if weights:
                    stored[name] = [np.asarray(root[name][weight]) for weight in weights]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, KeyError) as error:
        require_system(path, error)
        raise DataError(f"{path} is not a whole weight file of Keras 2: {error}") from None
    translated = {name: name for name in stored} | dict(names(list(stored)))
    return {own: stored[name] for name, own in translated.items() if own is not None}


def _texts(group: h5py.Group, name: str) -> list[str]:
    """Read a list of names; Keras cuts a long one into ``layer_names0``, ``layer_names1``, …."""
    if name in group.attrs:
        parts = [group.attrs[name]]
    else:
        parts = []
        while f"{name}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{name}{len(parts)}"])
    return [x.decode() if isinstance(x, bytes) else str(x) for part in parts for x in part]


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yield a model's layers; a model among them is replaced by its layers."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def _variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return a layer's weights in the order of Keras 2."""
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _repeated(kernel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Repeat (h, w, 3, F) filters for C channels, where only this differs."""
    if kernel.ndim != 4 or kernel.shape[2] != 3 or shape == kernel.shape:
        return kernel
    if (*shape[:2], 3, *shape[3:]) != kernel.shape:
        return kernel
    channels = shape[2]
    return kernel[:, :, np.arange(channels) % 3] * kernel.dtype.type(3 / channels)


def _without_head(layers: dict[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out dense layers at the end that the others do not have."""
    body = dict(layers)
    for name in reversed(layers):
        if name in others or len(layers[name][0].shape) != 2:
            break
        del body[name]
    return body


def _require_fit(path: Path, stored: Mapping[str, Arrays], body: Mapping[str, Any]) -> None:
    differing = [
        f"{name} is {_shapes(stored[name])} in the file, {_shapes(body[name])} in the network"
        for name in body
        if name in stored and _shapes(stored[name]) != _shapes(body[name])
    ]
    missing = [
        f"{name} {_shapes(variables)} is missing in the file"
        for name, variables in body.items()
        if name not in stored
    ]
    surplus = [
        f"{name} {_shapes(arrays)} is only in the file"
        for name, arrays in stored.items()
        if name not in body
    ]
    fitting = len(body) - len(differing) - len(missing)
    pairs = (line for pair in zip_longest(missing, surplus) for line in pair if line)
    problems = [*differing, *pairs]
    if problems or not body:
        raise WeightsMismatchError(path, fitting, len(body), "layers", problems)


def _shapes(arrays: Sequence[Any]) -> str:
    return " and ".join(str(tuple(array.shape)) for array in arrays)


# Longest wait for the server, in seconds.
_TIMEOUT = 5.0


def cached(address: str) -> Path:
    """Return where the file of a URL is cached: in ``~/.keras/models``, as by Keras.

    The environment variable ``KERAS_HOME`` names another folder than ``~/.keras``.
    """
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(home) / "models" / PurePosixPath(urlsplit(address).path).name


def fetch(address: str) -> Path:
    """Return the file of a URL, downloaded if it is not in the cache.

    Raises
    ------
    DataError
        It cannot be downloaded; the message names the path where the file may be put.
    """
    path = cached(address)
    if path.exists():
        return path
    try:
        with (
            urlopen(address, timeout=_TIMEOUT) as response,
            replacing(path) as temporary,
            temporary.open("wb") as file,
        ):
            shutil.copyfileobj(response, file)
            # A connection that breaks off looks like the end of the file.
            if file.tell() != int(response.headers.get("Content-Length", file.tell())):
                raise OSError("the connection broke off")
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise DataError(
            f"{address} cannot be downloaded ({reason}); download it elsewhere and put it at {path}"
        ) from None
    return path
