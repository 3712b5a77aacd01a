"""Train on one device and on two, which are processors, and write what came of it.

Run as ``python several_devices.py FOLDER``: a process of its own, since devices are chosen at its
start.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tiny_screen import (
    CHANNELS,
    CLASSES,
    SIZE,
    Screen,
    Softening,
    changed,
    destination,
    make_screen,
    tiny,
)

from deepprofiler.learning.checkpoint import Description
from deepprofiler.learning.devices import make_strategy, precision, set_seeds
from deepprofiler.learning.fit import fit, share_overflow
from deepprofiler.learning.learning_settings import Constant, Cosine, Optimizer, Train
from deepprofiler.learning.network import Network

SETTINGS = Train(
    epochs=2,
    steps=4,
    batch_size=12,
    learning_rate=0.05,
    schedule=Cosine(warmup=0.5),
    optimizer=Optimizer(weight_decay=1e-2),
    label_smoothing=0.1,
)
ADAM = {"optimizer": {"name": "adam", "weight_decay": 1e-2}, "learning_rate": 0.01}


def plain() -> Network:
    """Without batch normalization, with a penalty on weights."""
    keras.utils.set_random_seed(0)
    crops = keras.Input((SIZE, SIZE, CHANNELS), name="crops")
    x = keras.layers.Conv2D(6, 3, kernel_regularizer="l2", activation="relu", name="conv")(crops)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    logits = keras.layers.Dense(len(CLASSES), name="logits")(x)
    return Network(keras.Model(crops, logits, name="plain"), keras.Model(crops, x))


def train(
    folder: Path, name: str, strategy: tf.distribute.Strategy, screen: Screen, **changes: Any
) -> None:
    """Train a network of its own and write its weights, as ``<name>.npz``."""
    with strategy.scope():
        network = plain() if name.startswith("plain") else tiny()
        history = fit(
            network,
            Softening(),
            screen.data,
            changed(SETTINGS, **changes),
            destination(folder / name),
            Description(seed=3),
        )
    losses = [[row.loss, row.accuracy, row.monitored_loss] for row in history.epochs]
    weights = {str(number): np.asarray(w) for number, w in enumerate(network.train.weights)}
    np.savez(folder / f"{name}.npz", losses=np.array(losses), **weights)


def seeds(strategy: tf.distribute.Strategy) -> np.ndarray:
    """State of a dropout layer on each device."""
    with strategy.scope():
        network = tiny(dropout=0.5)
    set_seeds(network, strategy, 3, 1)
    state = network.train.get_layer("dropout").seed_generator.state
    return np.array([part.numpy() for part in strategy.experimental_local_results(state.value)])


def overflowed(strategy: tf.distribute.Strategy, value: float) -> np.ndarray:
    """Gradients of both devices, where one of the second's is ``value``."""

    @tf.function(autograph=False)
    def run() -> Any:
        return strategy.run(on_one)

    def on_one() -> Any:
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        return share_overflow([tf.ones([2]), None, tf.where(number == 1, value, [3.0])])

    first, nothing, second = run()
    assert nothing is None
    parts = [strategy.experimental_local_results(part) for part in (first, second)]
    return np.array([np.concatenate(device) for device in zip(*parts, strict=True)])


def main() -> None:
    folder = Path(sys.argv[1])
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    screen = make_screen()
    strategies = {
        "one": make_strategy(1),
        "two": tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    }
    for name, strategy in strategies.items():
        train(folder / name, "plain", strategy, screen)
        train(folder / name, "normalized", strategy, screen, **ADAM)
        with precision("float16"):
            train(folder / name, "plain-half", strategy, screen)
    two = strategies["two"]
    # Constant rates, so that the first epoch is the same whatever the number of epochs.
    constant = {**ADAM, "schedule": Constant()}
    train(folder / "whole", "normalized", two, screen, **constant)
    train(folder / "parts", "normalized", two, screen, epochs=1, **constant)
    train(folder / "parts", "normalized", two, screen, **constant)
    np.savez(
        folder / "parts.npz",
        seeds_one=seeds(strategies["one"]),
        seeds_two=seeds(two),
        fine=overflowed(two, 2.0),
        infinite=overflowed(two, np.inf),
    )


if __name__ == "__main__":
    main()
