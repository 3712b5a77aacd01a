"""The numbers of training, and the optimizer that they make."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import keras


class Schedule(Protocol):
    """What every schedule can do."""

    def rate(
        self, first: float, epochs: int, steps: int, step: int, losses: Sequence[float]
    ) -> float:
        """Give the learning rate of one step.

        Parameters
        ----------
        first : float
            The recipe's learning rate.
        epochs, steps : int
            Number of epochs in all, and of steps an epoch.
        step : int
            Number of the step, from 1, counted over all epochs.
        losses : sequence of float
            Loss of each finished epoch, on validation cells if there are any.
        """


@dataclass(frozen=True)
class Constant:
    """The same rate throughout."""

    def rate(
        self, first: float, epochs: int, steps: int, step: int, losses: Sequence[float]
    ) -> float:
        """See :class:`Schedule`."""
        return first


@dataclass(frozen=True)
class Cosine:
    """A linear rise, then half a cosine wave down to 0, which the step after the last would have.

    Source: Loshchilov and Hutter 2017 (SGDR), without restarts.

    Attributes
    ----------
    warmup : float
        Epochs in which the rate grows by equal amounts from step to step, up to the recipe's.
    """

    warmup: float = 0.0

    def rate(
        self, first: float, epochs: int, steps: int, step: int, losses: Sequence[float]
    ) -> float:
        """See :class:`Schedule`."""
        rise = self.warmup * steps
        if step <= rise:
            return first * step / rise
        share = (step - 1 - rise) / (epochs * steps - rise)
        return first * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Steps:
    """Another rate from given epochs on.

    Attributes
    ----------
    epochs : tuple of int
        Numbers of the epochs, ascending, from 1.
    factor : float
        The rate is multiplied by it at each of them; not looked at where there are ``rates``.
    rates : tuple of float, optional
        The rate from each of them on.
    """

    epochs: tuple[int, ...]
    factor: float = 0.1
    rates: tuple[float, ...] | None = None

    def rate(
        self, first: float, epochs: int, steps: int, step: int, losses: Sequence[float]
    ) -> float:
        """See :class:`Schedule`."""
        reached = sum(number <= len(losses) + 1 for number in self.epochs)
        if self.rates is None:
            return first * self.factor**reached
        return self.rates[reached - 1] if reached else first


@dataclass(frozen=True)
class Plateau:
    """A lower rate whenever the loss has not fallen for some epochs.

    As Keras's ``ReduceLROnPlateau`` with ``min_delta=0``.

    Attributes
    ----------
    patience : int
        Epochs without a lower loss, after which the rate falls and the count begins anew.
    factor : float
        What the rate is multiplied by.
    """

    patience: int = 3
    factor: float = 0.5

    def rate(
        self, first: float, epochs: int, steps: int, step: int, losses: Sequence[float]
    ) -> float:
        """See :class:`Schedule`."""
        rate, best, waited = first, math.inf, 0
        for loss in losses:
            best, waited = (loss, 0) if loss < best else (best, waited + 1)
            if waited == self.patience:
                rate, waited = rate * self.factor, 0
        return rate


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
        Examples a batch, B; on several devices, of all together.
    optimizer : {"sgd", "adam", "adamw"}
    learning_rate, momentum, weight_decay : float
        ``momentum`` is of ``sgd`` alone. ``weight_decay`` times the learning rate is the share of
        every weight, biases too, that is taken away before each step, apart from the gradient
        (Loshchilov and Hutter 2019), so that ``adam`` with it is ``adamw``.
    schedule : Schedule
        How the learning rate changes: one of :mod:`deepprofiler.learning.optimizer`.
    label_smoothing : float
        Share of each label that is spread over all classes.
    patience : int, optional
        Stop after so many epochs without a lower loss.
    top_k : int
        A validation cell also counts as right if its class is among the k likeliest.
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
    schedule: Schedule = field(default_factory=Constant)
    label_smoothing: float = 0.0
    patience: int | None = None
    top_k: int = 5
    seed: int = 0


def make_optimizer(recipe: Recipe, network: keras.Model) -> keras.Optimizer:
    """Make a new optimizer with its state; a network of half precision gets a loss scale.

    float16 has no gradients below 6e-8: the loss is multiplied by a scale that is halved whenever
    a gradient is not finite, and doubled after 2000 steps without one.
    """
    rate, decay = recipe.learning_rate, recipe.weight_decay
    optimizer: keras.Optimizer
    # Named, since names that count up would differ between two runs in one process.
    if recipe.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(
            rate, recipe.momentum, weight_decay=decay or None, name="sgd"
        )
    elif recipe.optimizer == "adam":
        optimizer = keras.optimizers.Adam(rate, weight_decay=decay or None, name="adam")
    else:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=decay, name="adamw")
    if network.dtype_policy.compute_dtype == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
    optimizer.build(network.trainable_variables)
    return optimizer


def make_loss(recipe: Recipe, target: Literal["label", "input"]) -> Callable[[Any, Any], Any]:
    """Make the function of targets (B, …) and what a network gives that is to become small.

    For labels the mean cross-entropy, from logits; for inputs the mean squared error.
    """

    def cross_entropy(labels: Any, logits: Any) -> Any:
        return keras.ops.mean(
            keras.losses.categorical_crossentropy(
                labels, logits, from_logits=True, label_smoothing=recipe.label_smoothing
            )
        )

    def squared_error(wanted: Any, made: Any) -> Any:
        return keras.ops.mean(keras.losses.mean_squared_error(wanted, made))

    # Not Keras's loss objects, which divide by the number of devices on their own.
    return cross_entropy if target == "label" else squared_error
