"""The optimizer and the loss of training, made of its settings.

Apart from the loop that uses them: what is minimized and by which rule is changed, and tested,
without the order of epochs and files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import keras

from deepprofiler.learning.learning_settings import Train


def make_optimizer(settings: Train, network: keras.Model) -> keras.Optimizer:
    """Make an optimizer with its state; that of a network of half precision scales the loss.

    Weight decay is decoupled from the gradient (Loshchilov and Hutter 2019), so that ``adam``
    with it is ``adamw``; biases decay as well. float16 has no gradients below 6e-8: the loss is
    multiplied by a scale that is halved whenever a gradient is not finite, and doubled after 2000
    steps without one.
    """
    rate, decay = settings.learning_rate, settings.optimizer.weight_decay
    optimizer: keras.Optimizer
    # Named, since names that count up would differ between two trainings in one process.
    if settings.optimizer.name == "sgd":
        optimizer = keras.optimizers.SGD(
            rate, settings.optimizer.momentum, weight_decay=decay or None, name="sgd"
        )
    elif settings.optimizer.name == "adam":
        optimizer = keras.optimizers.Adam(rate, weight_decay=decay or None, name="adam")
    else:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=decay, name="adamw")
    if network.dtype_policy.compute_dtype == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
    optimizer.build(network.trainable_variables)
    return optimizer


def make_loss(settings: Train, target: Literal["label", "input"]) -> Callable[[Any, Any], Any]:
    """Make the loss: a function of targets (B, …) and of what a network gives.

    For labels it is the mean cross-entropy, from logits; for inputs the mean squared error.
    """

    def cross_entropy(labels: Any, logits: Any) -> Any:
        return keras.ops.mean(
            keras.losses.categorical_crossentropy(
                labels, logits, from_logits=True, label_smoothing=settings.label_smoothing
            )
        )

    def squared_error(inputs: Any, outputs: Any) -> Any:
        return keras.ops.mean(keras.losses.mean_squared_error(inputs, outputs))

    # Not Keras's loss objects, which divide by the number of devices on their own.
    return cross_entropy if target == "label" else squared_error
