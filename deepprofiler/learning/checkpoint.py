"""Weights on disk: an HDF5 file with all that is needed to go on, or to profile.

``weights`` and ``optimizer`` hold one dataset per variable, numbered in order, with the
variable's name as an attribute; the file's attribute ``about`` is JSON. No code is stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.files import replacing
from deepprofiler.learning.formats import does_not_fit, require_format
from deepprofiler.learning.network import Network

FORMAT = "deepprofiler-checkpoint"
VERSION = 1
#: Which weight files can be used.
_READ = (
    "files that are read: checkpoints of this program, and HDF5 files that `save_weights` or "
    "`save` of Keras 2 wrote"
)
_GO_ON = (
    "Training goes on with the train.optimizer that it began with, and with float16 only where it "
    "began with that; `train --epoch 1` starts anew."
)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of itself.

    Attributes
    ----------
    epoch : int
        Number of finished epochs.
    about : dict
        What the caller stored: ``classes`` and ``channels`` in order, crop settings, model and
        generator with their parameters (JSON values).
    history : list of dict
        Figures of each finished epoch.
    labels : (N, K) float32 array, optional
        Training labels, where the crop generator changes them.
    """

    epoch: int
    about: dict[str, Any]
    history: list[dict[str, float]] = field(default_factory=list)
    labels: np.ndarray | None = None


def save(
    path: Path, checkpoint: Checkpoint, network: Network, optimizer: keras.Optimizer | None = None
) -> None:
    """Write a checkpoint whole or not at all."""
    about = {
        "format": FORMAT,
        "version": VERSION,
        "epoch": checkpoint.epoch,
        "about": checkpoint.about,
        "history": checkpoint.history,
    }
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["about"] = json.dumps(about)
        _write(file.create_group("weights"), network.train.weights)
        if optimizer is not None:
            _write(file.create_group("optimizer"), optimizer.variables)
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
            if "about" not in file.attrs and "layers" in file:
                raise DataError(f"{path} is a weight file of Keras 3, which is not read; {_READ}")
            about = json.loads(file.attrs["about"])
            require_format(path, about, FORMAT, VERSION)
            labels = file["labels"][()] if "labels" in file else None
            return Checkpoint(about["epoch"], about["about"], about["history"], labels)
        except (KeyError, ValueError, TypeError, OSError) as error:
            raise DataError(f"{path} is not a checkpoint of deepprofiler: {error}") from None


def require(path: Path, stored: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Compare what a checkpoint was made for with what it is to be used for.

    Parameters
    ----------
    path : Path
        Named in the error.
    stored : mapping
        ``about`` of the checkpoint.
    expected : mapping
        The keys that must agree (JSON values or tuples).

    Raises
    ------
    DataError
        Some differ; each is named with both values. The order of lists counts.
    """
    plain = json.loads(json.dumps(expected))
    differing = [
        f"  {key}: {stored.get(key)} in the checkpoint, {value} here"
        for key, value in plain.items()
        if stored.get(key) != value
    ]
    if differing:
        listing = "\n".join(differing)
        raise DataError(
            f"{path} was made for something else:\n{listing}\n"
            "Use the same settings, or another experiment (--exp NAME)."
        )


def load(path: Path, network: Network, optimizer: keras.Optimizer | None = None) -> None:
    """Load weights, and the optimizer's state where one is given, which must have been built.

    All names and shapes are compared first, both ways: either everything is loaded or nothing.

    Raises
    ------
    DataError
        The file cannot be read, or its variables are not those of the network.
    """
    with _open(path) as file:
        todo = _matched(path, file, "weights", network.train.weights)
        if optimizer is not None:
            try:
                todo += _matched(path, file, "optimizer", optimizer.variables)
            except DataError as error:
                raise DataError(f"{error}\n{_GO_ON}") from None
    for variable, value in todo:
        variable.assign(value)


def load_backbone(path: Path, network: Network) -> None:
    """Load a backbone's weights; a head of any number of classes is passed over.

    Raises
    ------
    DataError
        See :func:`load`.
    """
    body = network.backbone.weights
    own = {variable.path for variable in body}
    head = {variable.path for variable in network.train.weights} - own
    with _open(path) as file:
        todo = _matched(path, file, "weights", body, head)
    for variable, value in todo:
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
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; run train first") from None
    except OSError as error:
        raise DataError(f"{path} is not a whole HDF5 file: {error}") from None


def _write(group: h5py.Group, variables: Sequence[keras.Variable]) -> None:
    names = [variable.path for variable in variables]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"two variables are called {sorted(twice)[0]}; name the layers apart")
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
    """Pair a network's variables with the values in a file, which may hold those of a head too."""
    try:
        stored = {item.attrs["name"]: item[()] for item in file[group].values()}
    except (KeyError, OSError) as error:
        raise DataError(f"{path} has no usable `{group}`: {error}") from None
    stored = {name: value for name, value in stored.items() if name not in head}
    wanted = {variable.path: variable for variable in variables}
    problems = [f"{name} is missing in the file" for name in wanted if name not in stored]
    problems += [f"{name} is only in the file" for name in stored if name not in wanted]
    fitting = 0
    for name, variable in wanted.items():
        if name in stored:
            shapes = stored[name].shape, tuple(variable.shape)
            fitting += shapes[0] == shapes[1]
            if shapes[0] != shapes[1]:
                problems.append(f"{name} is {shapes[0]} in the file, {shapes[1]} in the network")
    if problems:
        raise does_not_fit(path, fitting, len(wanted), group, problems)
    return [(variable, stored[name]) for name, variable in wanted.items()]
