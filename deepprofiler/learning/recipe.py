"""The numbers of training, and the optimizer that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    epochs : int
        Number of epochs in all; training goes on from the last one that is finished.
    steps : int, optional
        Batches an epoch; none: as many as show N cells.
    batch_size : int
        Examples a batch, B.
    optimizer : {"sgd", "adam", "adamw"}
    learning_rate, momentum, weight_decay : float
        ``momentum`` is of ``sgd`` alone.
    schedule : {"constant", "cosine"}
        ``cosine`` lets the learning rate fall to 0 over all epochs.
    label_smoothing : float
        Share of each label that is spread over all classes.
    patience : int, optional
        Stop after so many epochs without a lower loss.
    seed : int
        Decides cells, augmentation and dropout; not the initial weights.
    """

    epochs: int
    steps: int | None = None
    batch_size: int = 32
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    label_smoothing: float = 0.0
    patience: int | None = None
    seed: int = 0


def make_optimizer(recipe: Recipe, steps: int) -> keras.Optimizer:
    """Make a new optimizer, for so many steps an epoch."""
    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, recipe.epochs * steps)
    decay = recipe.weight_decay or None
    # Named, since names that count up would differ between two runs in one process.
    if recipe.optimizer == "sgd":
        return keras.optimizers.SGD(rate, recipe.momentum, weight_decay=decay, name="sgd")
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(rate, weight_decay=decay, name="adam")
    return keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, name="adamw")
