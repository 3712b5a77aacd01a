"""What is looked at after every training step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import keras

from deepprofiler.errors import DataError
from deepprofiler.learning.batches import Batches

# Epoch and step (both from 1), steps an epoch, and the epoch's mean loss so far.
Progress = Callable[[int, int, int, float], None]


class Watch(keras.callbacks.Callback):
    """Stop at the first loss that is not finite, tell the progress, and time the data.

    Parameters
    ----------
    batches : Batches
        The training cells' batches.
    epoch, steps : int
        Number of the epoch, from 1, and its number of steps.
    broken : callable
        Makes the error of an epoch and step, both from 1, and of what is wrong.
    progress : callable, optional
        Told of each step.

    Attributes
    ----------
    waited : float
        Seconds that were spent waiting for batches.
    """

    def __init__(
        self,
        batches: Batches,
        epoch: int,
        steps: int,
        broken: Callable[[int, int, str], DataError],
        progress: Progress | None,
    ) -> None:
        super().__init__()
        self.waited = 0.0
        self._batches = batches
        self._epoch = epoch
        self._steps = steps
        self._broken = broken
        self._progress = progress
        self._asked = 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Note when the next batch is asked for."""
        self._asked = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Check the loss; ``batch`` is counted from 0."""
        self.waited += max(0.0, self._batches.ready - self._asked)
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise self._broken(self._epoch, batch + 1, f"the loss is {loss}")
        if self._progress is not None:
            self._progress(self._epoch, batch + 1, self._steps, loss)
