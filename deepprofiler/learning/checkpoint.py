"""Checkpoints: HDF5 files with all that is needed to resume training, or to profile.

Groups ``weights`` and ``optimizer`` hold one dataset per variable, numbered in order, with the
variable's name as an attribute. The attributes ``description`` and ``history`` are JSON. No code is
stored. Version 1 of the format, with nested settings and all attributes as JSON in one attribute
``about``, is still read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np

from deepprofiler.errors import DataError, require_system
from deepprofiler.files import open_versioned, replacing
from deepprofiler.learning.metrics import EpochMetrics
from deepprofiler.learning.network import Network, WeightsMismatchError

FORMAT = "deepprofiler-checkpoint"
VERSION = 2
_ADVICE = (
    "weights are read from checkpoints of this program, and from HDF5 files that `save_weights` or "
    "`save` of Keras 2 wrote; train writes checkpoints"
)
_RESUME_ADVICE = (
    "Training is resumed with the train.optimizer that it began with, and with float16 only where "
    "it began with that; `train --epoch 1` starts from scratch."
)


@dataclass(frozen=True)
class Description:
    """What weights belong to: they are used only where all of this is the same.

    Attributes
    ----------
    channels : tuple of str, optional
        Names of the C channels, in order.
    classes : tuple of str, optional
        Names of the K classes by code.
    settings : dict
        Key path of the configuration, such as ``crops.size``, to JSON value.
    seed : int, optional
        What initial weights, cells and augmentation were drawn with.
    cells : str, optional
        Number and digest of the training cells, where the checkpoint holds their labels.
    """

    channels: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    cells: str | None = None

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Description:
        """Read the JSON values of version 2."""
        channels, classes = values.get("channels"), values.get("classes")
        return cls(
            channels=None if channels is None else tuple(channels),
            classes=None if classes is None else tuple(classes),
            settings=dict(values.get("settings", {})),
            seed=values.get("seed"),
            cells=values.get("cells"),
        )

    @classmethod
    def from_version_1(cls, values: Mapping[str, Any]) -> Description:
        """Translate the nested settings of version 1; some were key paths already."""
        sections = ("prepare", "crops", "train.validation")
        names = {"model": "train.model", "generator": "train.generator"}
        settings: dict[str, Any] = {}
        for key, value in values.items():
            if key in sections:
                settings |= {f"{key}.{name}": nested for name, nested in value.items()}
            elif key in names or "." in key:
                settings[names.get(key, key)] = value
        return cls.from_values({**values, "settings": settings})

    def differences(self, expected: Description) -> list[Difference]:
        """Compare with what weights are to be used for.

        What ``expected`` leaves open is not compared, nor is a setting or seed that is not stored:
        an earlier version of this program did not store it.
        """
        plain: dict[str, Any] = json.loads(json.dumps(expected.settings))
        pairs = {
            "channels": (_listed(self.channels), _listed(expected.channels)),
            "classes": (_listed(self.classes), _listed(expected.classes)),
            **{
                key: (self.settings[key], value)
                for key, value in plain.items()
                if key in self.settings
            },
            "cells": (self.cells, expected.cells),
        }
        if self.seed is not None:
            pairs["seed"] = (self.seed, expected.seed)
        optional = ("channels", "classes", "cells", "seed")
        return [
            Difference(name, stored, value)
            for name, (stored, value) in pairs.items()
            if stored != value and not (name in optional and value is None)
        ]


class Difference(NamedTuple):
    """One value that is not that of a checkpoint."""

    name: str
    stored: Any
    expected: Any


class CheckpointMismatchError(DataError):
    """A checkpoint belongs to other channels, classes or settings.

    Attributes
    ----------
    path : Path
    differences : tuple of Difference
    """

    def __init__(self, path: Path, differences: Sequence[Difference]) -> None:
        listing = "\n".join(
            f"  {name}: {stored} in the checkpoint, {expected} here"
            for name, stored, expected in differences
        )
        super().__init__(
            f"{path} belongs to other settings:\n{listing}\n"
            "Use the same settings, or another experiment (--exp NAME)."
        )
        self.path = path
        self.differences = tuple(differences)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training between two epochs, without the weights.

    Attributes
    ----------
    epoch : int
        Number of finished epochs.
    description : Description
        What the weights belong to.
    history : list of EpochMetrics
        Metrics of each finished epoch.
    labels : (N, K) float32 array, optional
        Training labels, where the crop generator changes them.
    """

    epoch: int
    description: Description = field(default_factory=Description)
    history: list[EpochMetrics] = field(default_factory=list)
    labels: np.ndarray | None = None


def save(
    path: Path, checkpoint: Checkpoint, network: Network, optimizer: keras.Optimizer | None = None
) -> None:
    """Write a checkpoint whole or not at all."""
    description = {
        name: value for name, value in asdict(checkpoint.description).items() if value is not None
    }
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["epoch"] = checkpoint.epoch
        file.attrs["description"] = json.dumps(description)
        file.attrs["history"] = json.dumps([metrics.to_row() for metrics in checkpoint.history])
        _write_variables(file.create_group("weights"), network.train.weights)
        if optimizer is not None:
            _write_variables(file.create_group("optimizer"), optimizer.variables)
        if checkpoint.labels is not None:
            file["labels"] = checkpoint.labels


def read(path: Path) -> Checkpoint:
    """Read everything but the weights.

    Raises
    ------
    DataError
        The file is missing, damaged, not a checkpoint of this program, or of a newer version.
    """
    with _open(path) as file:
        try:
            if "about" in file.attrs:
                values = json.loads(file.attrs["about"])
                epoch, history = values["epoch"], values["history"]
                description = Description.from_version_1(values["about"])
            else:
                epoch, history = file.attrs["epoch"], json.loads(file.attrs["history"])
                description = Description.from_values(json.loads(file.attrs["description"]))
            return Checkpoint(
                int(epoch),
                description,
                [EpochMetrics.from_row(row) for row in history],
                file["labels"][()] if "labels" in file else None,
            )
        except (AttributeError, KeyError, ValueError, TypeError, OSError) as error:
            raise DataError(f"{path} is a damaged checkpoint: {error}") from None


def require(path: Path, stored: Description, expected: Description) -> None:
    """Compare what weights belong to with what they are to be used for.

    Parameters
    ----------
    path : Path
        Named in the error.
    stored : Description
        Of the checkpoint.
    expected : Description
        What it leaves open is not compared. The order of channels and classes counts.

    Raises
    ------
    CheckpointMismatchError
        Something differs; each difference is named with both values.
    """
    differences = stored.differences(expected)
    if differences:
        raise CheckpointMismatchError(path, differences)


def load(path: Path, network: Network, optimizer: keras.Optimizer | None = None) -> None:
    """Load weights and, where an optimizer is given, its state.

    All names and shapes are compared first, both ways: either everything is loaded or nothing.

    Parameters
    ----------
    path : Path
    network : Network
    optimizer : keras.Optimizer, optional
        It must have been built.

    Raises
    ------
    DataError
        The file cannot be read, or its variables are not those of the network or the optimizer.
    """
    with _open(path) as file:
        values = _matched(path, file, "weights", network.train.weights)
        if optimizer is not None:
            try:
                values += _matched(path, file, "optimizer", optimizer.variables)
            except DataError as error:
                raise DataError(f"{error}\n{_RESUME_ADVICE}") from None
    for variable, value in values:
        variable.assign(value)


def load_backbone(path: Path, network: Network) -> None:
    """Load a backbone's weights; a head of any number of classes is ignored.

    Raises
    ------
    DataError
        See :func:`load`.
    """
    backbone = network.backbone.weights
    paths = {variable.path for variable in backbone}
    head = {variable.path for variable in network.train.weights} - paths
    with _open(path) as file:
        values = _matched(path, file, "weights", backbone, head)
    for variable, value in values:
        variable.assign(value)


def digest(path: Path) -> str:
    """SHA-256 of the weights' names, shapes and values, as hexadecimal text."""
    result = hashlib.sha256()
    with _open(path) as file:
        for key in sorted(file["weights"]):
            dataset = file["weights"][key]
            result.update(f"{dataset.attrs['name']} {dataset.shape}".encode())
            result.update(np.ascontiguousarray(dataset[()]).tobytes())
    return result.hexdigest()


def _open(path: Path) -> h5py.File:
    try:
        return open_versioned(path, FORMAT, versions=range(1, VERSION + 1), advice=_ADVICE)
    except DataError:
        if _is_keras3(path):
            raise DataError(
                f"{path} is a weight file of Keras 3, which is not read; {_ADVICE}"
            ) from None
        raise


def _is_keras3(path: Path) -> bool:
    try:
        with h5py.File(path, "r") as file:
            return "layers" in file and not file.attrs
    except OSError:
        return False


def _listed(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else list(names)


def _write_variables(group: h5py.Group, variables: Sequence[keras.Variable]) -> None:
    names = [variable.path for variable in variables]
    duplicates = {name for name in names if names.count(name) > 1}
    if duplicates:
        raise ValueError(
            f"two variables are called {min(duplicates)}; give the layers different names"
        )
    for index, variable in enumerate(variables):
        dataset = group.create_dataset(f"{index:05d}", data=np.asarray(variable))
        dataset.attrs["name"] = variable.path


def _matched(
    path: Path,
    file: h5py.File,
    group: str,
    variables: Sequence[keras.Variable],
    head: Collection[str] = (),
) -> list[tuple[keras.Variable, np.ndarray]]:
    """Pair variables with the values in a file, which may also hold those of a head."""
    try:
        stored = {item.attrs["name"]: item[()] for item in file[group].values()}
    except (KeyError, OSError) as error:
        require_system(path, error)
        raise DataError(f"{path} has no usable `{group}`: {error}") from None
    stored = {name: value for name, value in stored.items() if name not in head}
    own = {variable.path: variable for variable in variables}
    problems = [f"{name} is missing in the file" for name in own if name not in stored]
    problems += [f"{name} is only in the file" for name in stored if name not in own]
    fitting = 0
    for name, variable in own.items():
        if name in stored:
            shapes = stored[name].shape, tuple(variable.shape)
            fitting += shapes[0] == shapes[1]
            if shapes[0] != shapes[1]:
                problems.append(f"{name} is {shapes[0]} in the file, {shapes[1]} in the network")
    if problems:
        raise WeightsMismatchError(path, fitting, len(own), group, problems)
    return [(variable, stored[name]) for name, variable in own.items()]
