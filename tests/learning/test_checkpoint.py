"""Checkpoints: everything comes back, or nothing is loaded."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from tiny_screen import CHANNELS, SIZE, tiny

from deepprofiler.errors import DataError
from deepprofiler.learning import checkpoint
from deepprofiler.learning.checkpoint import Checkpoint, Description, Difference
from deepprofiler.learning.learning_settings import Optimizer, Train
from deepprofiler.learning.metrics import EpochMetrics
from deepprofiler.learning.optimizer import make_optimizer

SETTINGS = {"crops.size": 128, "train.model": {"name": "resnet18", "params": {}}}
STATE = Checkpoint(
    4,
    Description(("DNA", "ER"), ("a", "é"), SETTINGS, seed=3),
    [EpochMetrics(1, 1.5, 0.5, None, 0.01, 2, 1.0, 32.0, 0.1)],
)
ADAM = Train(optimizer=Optimizer(name="adam"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "last.h5", STATE, tiny(seed=1))
    return tmp_path / "last.h5"


def values(model: keras.Model) -> list[np.ndarray]:
    return [weight.numpy() for weight in model.weights]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all((a == b).all() for a, b in zip(first, second, strict=True))


def test_files_of_keras_3_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    tiny().train.save_weights(path)
    with pytest.raises(
        DataError, match=r"Keras 3, which is not read; weights are read from .*Keras 2"
    ):
        checkpoint.read(path)


def test_round_trip(path: Path) -> None:
    assert checkpoint.read(path) == STATE
    network = tiny(seed=2)
    checkpoint.load(path, network)
    assert same(values(network.train), values(tiny(seed=1).train))
    assert [item.name for item in path.parent.iterdir()] == ["last.h5"]


def test_optimizer_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "last.h5"
    network = tiny()
    optimizer = make_optimizer(ADAM, network.train)
    network.train.compile(optimizer, "mse")
    rng = np.random.default_rng(0)
    data = rng.random((8, SIZE, SIZE, CHANNELS)), rng.random((8, 3))
    network.train.fit(*data, verbose=0)
    labels = rng.random((5, 3)).astype(np.float32)
    checkpoint.save(path, Checkpoint(1, labels=labels), network, optimizer)
    np.testing.assert_array_equal(checkpoint.read(path).labels, labels)

    other = tiny()
    again = make_optimizer(ADAM, other.train)
    checkpoint.load(path, other, again)
    assert int(again.iterations) == 1
    for a, b in zip(optimizer.variables, again.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    with pytest.raises(DataError, match="optimizer match, nothing was loaded"):
        checkpoint.load(path, other, make_optimizer(Train(), other.train))


def test_a_checkpoint_without_optimizer_state(path: Path) -> None:
    other = tiny()
    with pytest.raises(DataError, match="no usable `optimizer`"):
        checkpoint.load(path, other, make_optimizer(Train(), other.train))


def test_nothing_is_half_loaded(path: Path) -> None:
    network = tiny(filters=7, seed=2)
    before = values(network.train)
    with pytest.raises(DataError) as error:
        checkpoint.load(path, network)
    message = str(error.value)
    assert "1 of 7 weights match, nothing was loaded" in message
    assert "conv/kernel is (3, 3, 2, 6) in the file, (3, 3, 2, 7) in the network" in message
    assert "and 1 more" in message
    assert same(before, values(network.train))


@pytest.mark.parametrize(("change", "said"), [
    ("renamed", "0 of 7 weights match"),
    ("fewer", "is missing in the file"),
    ("more", "extra/kernel is only in the file"),
])  # fmt: skip
def test_names_are_compared_both_ways(path: Path, change: str, said: str) -> None:
    with h5py.File(path, "r+") as file:
        group = file["weights"]
        if change == "renamed":
            for item in group.values():
                item.attrs["name"] = "other/" + item.attrs["name"]
        elif change == "fewer":
            for key in list(group)[3:]:
                del group[key]
        else:
            group.create_dataset("99999", data=np.ones(3)).attrs["name"] = "extra/kernel"
    network = tiny(seed=2)
    before = values(network.train)
    with pytest.raises(DataError, match=said):
        checkpoint.load(path, network)
    assert same(before, values(network.train))


def test_other_files_are_refused(path: Path) -> None:
    whole = path.read_bytes()
    pickled = pickle.dumps({"weights": [1, 2, 3]})
    for content in (whole[: len(whole) // 2], b"", pickled):
        path.write_bytes(content)
        for action in (checkpoint.read, checkpoint.digest, lambda p: checkpoint.load(p, tiny())):
            with pytest.raises(DataError, match=r"last\.h5 is not a readable HDF5 file"):
                action(path)
    with h5py.File(path, "w") as file:
        file["data"] = 5
    with pytest.raises(DataError, match="is not a file of the format deepprofiler-checkpoint"):
        checkpoint.read(path)
    with h5py.File(path, "r+") as file:
        file.attrs.update({"format": checkpoint.FORMAT, "version": checkpoint.VERSION})
    with pytest.raises(DataError, match="is a damaged checkpoint"):
        checkpoint.read(path)
    with pytest.raises(DataError, match="no usable `weights`"):
        checkpoint.load(path, tiny())
    path.unlink()
    with pytest.raises(DataError, match="does not exist; weights are read from"):
        checkpoint.read(path)


@pytest.mark.parametrize(("key", "value", "said"), [
    ("version", checkpoint.VERSION + 1, "newer release"),
    ("format", "deepprofiler-cells", "is not a file of the format"),
])  # fmt: skip
def test_other_formats_are_refused(path: Path, key: str, value: object, said: str) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs[key] = value
    with pytest.raises(DataError, match=said):
        checkpoint.read(path)


def test_differences_are_named_with_both_values(path: Path) -> None:
    same = Description(("DNA", "ER"), settings={"crops.size": 128})
    checkpoint.require(path, STATE.description, same)
    other = Description(("ER", "DNA"), ("a",), {"crops.size": 64}, seed=4)
    with pytest.raises(checkpoint.CheckpointMismatchError) as error:
        checkpoint.require(path, STATE.description, other)
    assert error.value.differences == (
        Difference("channels", ["DNA", "ER"], ["ER", "DNA"]),
        Difference("classes", ["a", "é"], ["a"]),
        Difference("crops.size", 128, 64),
        Difference("seed", 3, 4),
    )
    assert "channels: ['DNA', 'ER'] in the checkpoint, ['ER', 'DNA'] here" in str(error.value)
    assert "crops.size: 128 in the checkpoint, 64 here" in str(error.value)


def test_what_is_not_stored_is_not_compared() -> None:
    """A setting that an earlier version did not store; channels were always stored."""
    new = Description(("DNA",), settings={"train.controls": True}, seed=3)
    assert Description(("DNA",)).differences(new) == []
    assert Description().differences(new) == [Difference("channels", None, ["DNA"])]


def test_version_1_is_read(path: Path) -> None:
    nested = {
        "channels": ["DNA", "ER"],
        "classes": ["a", "é"],
        "prepare": {"illumination": True, "compress": False},
        "crops": {"size": 128, "rescale": "min-max"},
        "model": {"name": "resnet18", "params": {}},
        "generator": {"name": "single", "params": {}},
        "crops.mode": "cells",
        "train.validation": {"by": None, "values": [], "fraction": 0.1},
        "seed": 3,
    }
    row = {"epoch": 1, "loss": 1.5, "val_loss": 1.25, "val_accuracy": 0.5}
    with h5py.File(path, "r+") as file:
        for key in list(file.attrs):
            del file.attrs[key]
        file.attrs["about"] = json.dumps(
            {
                "format": "deepprofiler-checkpoint",
                "version": 1,
                "epoch": 1,
                "about": nested,
                "history": [row],
            }
        )
    found = checkpoint.read(path)
    assert found.epoch == 1
    assert found.description == Description(
        ("DNA", "ER"),
        ("a", "é"),
        {
            "prepare.illumination": True,
            "prepare.compress": False,
            "crops.size": 128,
            "crops.rescale": "min-max",
            "train.model": {"name": "resnet18", "params": {}},
            "train.generator": {"name": "single", "params": {}},
            "crops.mode": "cells",
            "train.validation.by": None,
            "train.validation.values": [],
            "train.validation.fraction": 0.1,
        },
        seed=3,
    )
    assert found.history[0].monitored_loss == 1.25
    network = tiny(seed=2)
    checkpoint.load(path, network)
    assert same(values(network.train), values(tiny(seed=1).train))


def test_digest_is_of_the_values(path: Path, tmp_path: Path) -> None:
    first = checkpoint.digest(path)
    checkpoint.save(tmp_path / "copy.h5", Checkpoint(9, Description(seed=1)), tiny(seed=1))
    assert checkpoint.digest(tmp_path / "copy.h5") == first
    checkpoint.save(tmp_path / "copy.h5", STATE, tiny(seed=2))
    assert checkpoint.digest(tmp_path / "copy.h5") != first


def test_an_interrupted_save_leaves_the_last(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def interrupted(group: h5py.Group, variables: list) -> None:
        group["half"] = 1
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "_write_variables", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, STATE, tiny(seed=2))
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["last.h5"]
