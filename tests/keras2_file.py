"""Writes weight files as ``save_weights`` of Keras 2 does: attributes and groups by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

# Keras 2 lists trainable weights first, and calls a depthwise kernel so.
_ORDER = ("depthwise_kernel", "kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
Weights = Mapping[str, Sequence[tuple[str, np.ndarray]]]


def weights_of(model: Any, skip: Sequence[str] = ()) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Names and values of each layer's weights, in Keras 2's order; empty where it has none.

    Layers whose names begin like one of ``skip`` are left out.
    """
    found = {}
    for layer in model.layers:
        if layer.name.startswith(tuple(skip)):
            continue
        values = {weight.name: np.asarray(weight) for weight in layer.weights}
        assert set(values) <= set(_ORDER), values.keys()
        found[layer.name] = [(name, values[name]) for name in _ORDER if name in values]
    return found


def randomize(model: Any, seed: int = 0) -> None:
    """Give weights values of their own, also those that begin as 0 or 1."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name not in _ORDER:
            continue
        if weight.name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, weight.shape)
        elif weight.name.endswith("kernel"):
            value = rng.normal(0, np.prod(weight.shape[:-1]) ** -0.5, weight.shape)
        else:
            value = rng.normal(0, 0.1, weight.shape)
        weight.assign(value.astype(np.float32))


def write(path: Path, weights: Weights) -> Path:
    """Write a file of these layers."""
    with h5py.File(path, "w") as file:
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.15.0"
        file.attrs["layer_names"] = [name.encode() for name in weights]
        for layer, values in weights.items():
            group = file.create_group(layer)
            names = [f"{layer}_1/{name}:0" for name, _ in values]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, (_, value) in zip(names, values, strict=True):
                group[name] = value
    return path
