"""Networks with their weights, as the stages build them from the configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deepprofiler import __version__
from deepprofiler.learning import checkpoint
from deepprofiler.learning.device import set_seed
from deepprofiler.learning.extract import feature_function
from deepprofiler.learning.network import Network
from deepprofiler.project import Project
from deepprofiler.registry import MODELS, discover
from deepprofiler.stages.outcome import LOG

_PACKAGES = ("tensorflow", "keras", "numpy", "pandas", "scikit-image", "h5py")


@dataclass(frozen=True)
class Weights:
    """A network ready to give features.

    Attributes
    ----------
    function : callable
        (B, S, S, C) float32 crops to (B, D) float32 features.
    names : tuple of str
        D feature names.
    layers : dict
        Layer name to its [first, last + 1] columns.
    channels : tuple of str
    name, digest : str
        Name of the weights and the hash of their values.
    """

    function: Callable[[Any], Any]
    names: tuple[str, ...]
    layers: dict[str, list[int]]
    channels: tuple[str, ...]
    name: str
    digest: str


def find_plugins(project: Project) -> None:
    """Load all plugins; say which files of the project are executed."""
    for path in discover(project.plugins_folder):
        LOG.info("executing the project's own plugin %s", path)


def build_network(project: Project, classes: int) -> Network:
    """Build the configured model for the project's channels and crop size."""
    find_plugins(project)
    size = project.config.crops.size
    model = project.config.train.model
    shape = (size, size, len(project.index.channels))
    network: Network = MODELS.build(model.name, shape, classes, params=model.params)
    return network


def description(project: Project) -> dict[str, Any]:
    """Give what weights belong to: channels, crops and model."""
    config = project.config
    return {
        "channels": list(project.index.channels),
        "crops": config.crops.model_dump(include={"size", "rescale"}),
        "model": config.train.model.model_dump(),
    }


def trained_weights(project: Project, path: Path) -> Weights:
    """Load a checkpoint; the number of its classes is its own matter.

    Raises
    ------
    DataError
        It was trained on other channels or crops, or does not fit the model.
    """
    stored = checkpoint.read(path).about
    checkpoint.require(path, stored, description(project))
    network = build_network(project, len(stored["classes"]))
    checkpoint.load(path, network)
    return _weights(project, network, path.stem, checkpoint.digest(path))


def random_weights(project: Project, seed: int) -> Weights:
    """Build the network with untrained weights."""
    set_seed(seed)
    network = build_network(project, classes=2)
    made_of = f"{seed} {description(project)} {version('keras')}"
    return _weights(
        project, network, f"random-{seed}", hashlib.sha256(made_of.encode()).hexdigest()
    )


def _weights(project: Project, network: Network, name: str, digest: str) -> Weights:
    layers = project.config.profile.layers
    channels = project.index.channels
    return Weights(
        function=feature_function(network, layers, project.config.crops.rescale),
        names=tuple(network.feature_names(layers, channels)),
        layers={layer: list(ends) for layer, ends in network.columns(layers).items()},
        channels=channels,
        name=name,
        digest=digest,
    )


def versions() -> dict[str, str]:
    """Versions of this program and of what decides its numbers."""
    return {"deepprofiler": __version__, **{name: version(name) for name in _PACKAGES}}
