"""What a network says of cells shown as they are, without augmentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from deepprofiler.learning.batches import Batches
from deepprofiler.learning.metrics import accuracies
from deepprofiler.learning.network import Network


class Validator:
    """A network's answers, compiled once.

    Parameters
    ----------
    network : Network
    loss : callable
        Targets (B, …) and what the network gives to the mean loss.
    top_k : int
        See :func:`deepprofiler.learning.metrics.accuracies`.
    """

    def __init__(self, network: Network, loss: Callable[[Any, Any], Any], top_k: int) -> None:
        model = network.train
        self._target = network.target
        self._loss = loss
        self._top_k = top_k
        self._predict = tf.function(
            lambda x: tf.cast(model(x, training=False), tf.float32),
            input_signature=[tf.TensorSpec(model.input_shape, model.input.dtype)],
        )

    def figures(self, batches: Batches) -> dict[str, float]:
        """Mean loss over all cells and, for labels, the accuracies."""
        cells = batches.cells
        total, answers = 0.0, []
        for x, y in batches.validation():
            made = self._predict(x)
            total += float(self._loss(y, made)) * len(made)
            if self._target == "label":
                answers.append(made.numpy())
        figures = {"val_loss": total / len(cells)}
        if self._target == "label":
            figures |= accuracies(np.concatenate(answers), cells.label, self._top_k)
        return figures

    def probabilities(self, batches: Batches, positions: np.ndarray) -> np.ndarray:
        """Class probabilities (n, K) of the cells at some positions."""
        shown = batches.validation(positions)
        return np.concatenate([tf.nn.softmax(self._predict(x)).numpy() for x, _ in shown])
