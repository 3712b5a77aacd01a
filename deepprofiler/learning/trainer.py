"""One training step, and an epoch of them: on one device or on several, always the same way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from deepprofiler.learning.distribute import own_share
from deepprofiler.learning.network import Network

# Epoch and step (both from 1), steps an epoch, and the epoch's mean loss so far.
Progress = Callable[[int, int, int, float], None]


class NotFiniteError(Exception):
    """The loss of a step is not a number, or infinite.

    Attributes
    ----------
    step : int
        Its number in the epoch, from 1.
    loss : float
    """

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"the loss of step {step} is {loss}")
        self.step = step
        self.loss = loss


@dataclass(frozen=True)
class Passed:
    """What an epoch came to.

    Attributes
    ----------
    loss : float
        Mean over steps.
    accuracy : float
        Share of examples whose likeliest class is the likeliest of their label.
    waited : float
        Seconds spent waiting for batches.
    rate : float
        Learning rate of the last step.
    """

    loss: float
    accuracy: float
    waited: float
    rate: float


class Trainer:
    """A network, its optimizer and its loss, as one compiled step.

    Parameters
    ----------
    network : Network
        Built within the strategy's scope.
    optimizer : keras.Optimizer
        Built.
    loss : callable
        Targets (B, …) and what the network gives to the mean loss.
    strategy : tf.distribute.Strategy
        Where the step is computed.
    """

    def __init__(
        self,
        network: Network,
        optimizer: keras.Optimizer,
        loss: Callable[[Any, Any], Any],
        strategy: tf.distribute.Strategy,
    ) -> None:
        self._network = network
        self._optimizer = optimizer
        self._loss = loss
        self._strategy = strategy
        # XLA makes convolutions on processors twenty times slower.
        self._step = tf.function(self._on_all, autograph=False, jit_compile=False)

    def epoch(
        self,
        batches: Iterable[tuple[Any, Any]],
        rate: Callable[[int], float],
        progress: Callable[[int, float], None],
    ) -> Passed:
        """Take a step with each batch.

        Parameters
        ----------
        batches : iterable of (x, y)
            Whole batches; each device cuts its share out.
        rate : callable
            Learning rate of each step, counted from 1.
        progress : callable
            Told of each step and the mean loss so far.

        Raises
        ------
        NotFiniteError
            At the first step whose loss is not finite.
        """
        total = right = shown = waited = now = 0.0
        step = 0
        asked = time.perf_counter()
        for step, (x, y) in enumerate(batches, 1):
            waited += time.perf_counter() - asked
            now = rate(step)
            self._optimizer.learning_rate = now
            loss, correct = (float(value) for value in self._step(x, y))
            if not math.isfinite(loss):
                raise NotFiniteError(step, loss)
            total += loss
            right += correct
            shown += len(x)
            progress(step, total / step)
            asked = time.perf_counter()
        return Passed(total / step, right / shown, waited, now)

    def _on_all(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Take a step; give the batch's loss and its number of right answers."""
        results = self._strategy.run(self._on_one, args=(x, y))
        loss, right = (
            self._strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None) for value in results
        )
        return loss, right

    def _on_one(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Take one device's part of a step."""
        model = self._network.train
        count = tf.distribute.get_replica_context().num_replicas_in_sync
        x, y = own_share(x), own_share(y)
        with tf.GradientTape() as tape:
            made = tf.cast(model(x, training=True), tf.float32)
            # With what layers add to the loss, such as weight penalties; shares are equal, so the
            # mean over all devices is that over the batch.
            loss = tf.add_n([self._loss(y, made), *model.losses]) / count
            scaled = self._optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        if count > 1 and isinstance(self._optimizer, keras.optimizers.LossScaleOptimizer):
            gradients = spoiled_alike(gradients)
        self._optimizer.apply(gradients, model.trainable_variables)
        right = tf.zeros([])
        if self._network.target == "label":
            same = tf.equal(tf.argmax(made, axis=-1), tf.argmax(y, axis=-1))
            right = tf.reduce_sum(tf.cast(same, tf.float32))
        return loss, right


def spoiled_alike(gradients: list[Any]) -> list[Any]:
    """Make the gradients of all devices not finite where those of one are not.

    The optimizer looks at each device's own before it adds them up, and skips the step.
    """
    here = tf.add_n([tf.reduce_sum(0 * gradient) for gradient in gradients if gradient is not None])
    everywhere = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, here)
    return [None if gradient is None else gradient + everywhere for gradient in gradients]
