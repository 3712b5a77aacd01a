"""Training: epochs of batches, validation, checkpoints and logs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deepprofiler.errors import DataError, PluginError, plugin_code
from deepprofiler.learning import checkpoint as checkpoints
from deepprofiler.learning.batches import Batches, Gather, Look, reading
from deepprofiler.learning.checkpoint import Checkpoint
from deepprofiler.learning.device import enough_memory
from deepprofiler.learning.distribute import (
    agreed,
    is_chief,
    require_equal_shares,
    set_seeds,
    synchronize,
    wait,
)
from deepprofiler.learning.generator import CropGenerator
from deepprofiler.learning.history import History, best_epoch, is_over, watched_losses
from deepprofiler.learning.network import Network
from deepprofiler.learning.recipe import Recipe, make_loss, make_optimizer
from deepprofiler.learning.record import Record
from deepprofiler.learning.sampling import Cells
from deepprofiler.learning.trainer import NotFiniteError, Progress, Trainer
from deepprofiler.learning.validate import Validator

LOG = logging.getLogger("deepprofiler")


def fit(
    network: Network,
    generator: CropGenerator,
    *,
    gather: Gather,
    training: Cells,
    validation: Cells | None,
    classes: Sequence[str],
    look: Look,
    recipe: Recipe,
    about: Mapping[str, Any],
    last: Path,
    best: Path,
    figures: Path,
    logs: Path,
    fresh: bool = False,
    progress: Progress | None = None,
    strategy: tf.distribute.Strategy | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> History:
    """Train a network, or go on from its last checkpoint.

    Resumed training gives the same weights, bit for bit on one machine, as uninterrupted
    training: everything random is decided by (seed, epoch, step).

    Parameters
    ----------
    network : Network
        Its weights are changed.
    generator : CropGenerator
        Chooses and combines cells.
    gather : callable
        As :meth:`CellStore.gather`.
    training : Cells
        The cells to learn from; every class must have one.
    validation : Cells, optional
        Cells to watch; each is shown once an epoch.
    classes : sequence of str
        Names of the K classes by code.
    look : Look
        Crop size, rescale rule and augmentation.
    recipe : Recipe
        Numbers of training.
    about : mapping
        Stored in the checkpoints (JSON values): channels in order, model, generator, crop
        settings. Training goes on only where it is the same.
    last, best : Path
        Checkpoints of the last finished epoch, and of the one with the lowest loss.
    figures : Path
        CSV file of every epoch's figures.
    logs : Path
        Folder of the TensorBoard files.
    fresh : bool
        Start anew; what an earlier training left is replaced when the first epoch is finished.
    progress : callable, optional
        Called after each step with epoch, step, number of steps and loss.
    strategy : tf.distribute.Strategy, optional
        Of :func:`deepprofiler.learning.distribute.make_strategy`, where the network was built in
        its scope. Of several machines only the chief writes files; all must see them.
    callbacks : sequence of keras.callbacks.Callback
        Told of the beginning, of each epoch with its figures, and of the end.

    Returns
    -------
    History

    Raises
    ------
    ConfigError
        A batch cannot be divided among the devices, or does not fit into their memory.
    DataError
        A class has no cells; the crops lack margin; the checkpoint was made for something else;
        the loss became infinite or undefined (with epoch, step, and the batch's wells).
    PluginError
        Generator and model do not fit each other.
    """
    absent = [name for name, count in zip(classes, training.counts, strict=True) if count == 0]
    if absent:
        raise DataError(f"{len(absent)} classes have no cells to train on: {', '.join(absent)}")
    about = {**about, "classes": list(classes)}
    if hasattr(generator, "epoch_end"):
        # A checkpoint's labels are of just these cells.
        about["cells"] = f"{len(training)} ({training.digest()[:12]})"
    strategy = strategy or tf.distribute.get_strategy()
    record = Record(last, best, figures, logs) if is_chief(strategy) else None
    with strategy.scope():
        run = _Run(network, generator, gather, training, validation, look, recipe, last, strategy)
        state = run.begin(about) if fresh or not last.exists() else run.resume(about)
        resumed = state.epoch
        if resumed and record:
            record.resume(state.history)
        watching = keras.callbacks.CallbackList(
            list(callbacks), model=network.train, epochs=recipe.epochs, steps=run.steps, verbose=0
        )
        watching.on_train_begin()
        try:
            while state.epoch < recipe.epochs and not is_over(state.history, recipe.patience):
                # Keras counts epochs from 0.
                watching.on_epoch_begin(state.epoch)
                row, labels = run.epoch(state, progress)
                state = Checkpoint(state.epoch + 1, about, [*state.history, row], labels)
                if record:
                    record.write(state, network, run.optimizer, recipe.epochs)
                watching.on_epoch_end(state.epoch - 1, row)
        finally:
            if record:
                record.close()
            watching.on_train_end()
    # The files are there for all machines that go on from here.
    wait(strategy)
    return History(
        state.history,
        best_epoch(state.history),
        resumed,
        stopped=is_over(state.history, recipe.patience) and state.epoch < recipe.epochs,
    )


class _Run:
    """The parts of one training that stay the same from epoch to epoch."""

    def __init__(
        self,
        network: Network,
        generator: CropGenerator,
        gather: Gather,
        training: Cells,
        validation: Cells | None,
        look: Look,
        recipe: Recipe,
        last: Path,
        strategy: tf.distribute.Strategy,
    ) -> None:
        require_equal_shares(strategy, recipe.batch_size)
        self.network = network
        self.generator = generator
        self.recipe = recipe
        self.last = last
        self.strategy = strategy
        self.training = Batches(generator, network, gather, training, look, recipe.batch_size)
        self.validation = (
            replace(self.training, cells=validation, flat=[])
            if validation is not None and len(validation)
            else None
        )
        self.training.check()
        shown = recipe.batch_size * self.training.width
        self.steps = recipe.steps or math.ceil(len(training) / shown)
        if strategy.num_replicas_in_sync > 1:
            synchronize(network)
        self.optimizer = make_optimizer(recipe, network.train)
        loss = make_loss(recipe, network.target)
        # Only for callbacks, which look for the optimizer there.
        network.train.compile(self.optimizer, auto_scale_loss=False)
        self.trainer = Trainer(network, self.optimizer, loss, strategy)
        self.validator = Validator(network, loss, recipe.top_k)

    def begin(self, about: Mapping[str, Any]) -> Checkpoint:
        """Give the state before the first epoch."""
        changes = hasattr(self.generator, "epoch_end")
        codes, classes = self.training.cells.label, self.training.cells.classes
        labels = np.eye(classes, dtype=np.float32)[codes] if changes else None
        return Checkpoint(0, dict(about), [], labels)

    def resume(self, about: Mapping[str, Any]) -> Checkpoint:
        """Load the last checkpoint."""
        path = self.last
        state = checkpoints.read(path)
        checkpoints.require(path, state.about, about)
        checkpoints.load(path, self.network, self.optimizer)
        LOG.info("going on from epoch %d in %s", state.epoch, path)
        return state

    def epoch(
        self, state: Checkpoint, progress: Progress | None
    ) -> tuple[dict[str, float], np.ndarray | None]:
        """Train and validate once; give the figures and the labels of the next epoch."""
        number, recipe = state.epoch + 1, self.recipe
        start = time.perf_counter()
        self.training.labels = state.labels
        self.training.flat.clear()
        set_seeds(self.network, self.strategy, recipe.seed, number)
        losses = watched_losses(state.history)

        def rate(step: int) -> float:
            passed = state.epoch * self.steps + step
            return recipe.schedule.rate(
                recipe.learning_rate, recipe.epochs, self.steps, passed, losses
            )

        def tell(step: int, loss: float) -> None:
            if progress is not None:
                progress(number, step, self.steps, loss)

        batches = self.training.training(recipe.seed, number, self.steps)
        try:
            passed = self._guarded(lambda: self.trainer.epoch(batches, rate, tell))
        except NotFiniteError as error:
            raise self.broken(number, error.step, f"the loss is {error.loss}") from None
        seconds = time.perf_counter() - start
        # Now: what is shown for new labels would count too.
        flat = sum(self.training.flat)
        row: dict[str, float] = {"epoch": number, "loss": passed.loss}
        if self.network.target == "label":
            row["accuracy"] = passed.accuracy
        if not all(np.isfinite(np.asarray(weight)).all() for weight in self.network.train.weights):
            raise self.broken(number, self.steps, "the weights are not finite")
        if self.validation is not None:
            row |= self._validate(self.validation)
            if not math.isfinite(row["val_loss"]):
                raise self.broken(number, self.steps, f"the validation loss is {row['val_loss']}")
        labels = state.labels
        if labels is not None:
            labels = self._relabel(labels)
        shown = self.steps * recipe.batch_size * self.training.width
        return row | {
            "learning_rate": passed.rate,
            "flat_crops": flat,
            "seconds": seconds,
            "cells_per_second": shown / seconds,
            "waiting": passed.waited / seconds,
        }, labels

    def broken(self, epoch: int, step: int, what: str) -> DataError:
        """Make the error of a training that cannot go on."""
        wells = self.training.wells(self.recipe.seed, epoch, step)
        kept = f"{self.last} holds epoch {epoch - 1}" if epoch > 1 else "no epoch was finished"
        return DataError(
            f"training stopped at epoch {epoch}, step {step}: {what}. The batch's cells are from "
            f"plate/well {wells}. {kept}. Look at these crops, or lower train.learning_rate."
        )

    def _validate(self, batches: Batches) -> dict[str, float]:
        """Figures of the validation cells; the chief's, so that all machines decide alike."""
        found = self._guarded(lambda: self.validator.figures(batches))
        values = agreed(self.strategy, np.array(list(found.values())))
        return dict(zip(found, values.tolist(), strict=True))

    def _relabel(self, labels: np.ndarray) -> np.ndarray:
        """Labels (N, K) of the next epoch, the chief's."""
        kind, change = type(self.generator), self.generator.epoch_end  # type: ignore[attr-defined]
        with plugin_code(kind, f"{kind.__name__} cannot be used"):
            found = np.asarray(change(self._probabilities, labels), np.float32)
        if found.shape != labels.shape or not np.isfinite(found).all():
            raise PluginError(
                f"crop generator {kind.__name__}: epoch_end gives {found.shape}; it must give "
                f"{labels.shape} finite numbers"
            )
        return agreed(self.strategy, found)

    def _probabilities(self, positions: np.ndarray) -> np.ndarray:
        """Class probabilities (n, K) of training cells, shown without augmentation."""
        return self._guarded(lambda: self.validator.probabilities(self.training, positions))

    def _guarded(self, action: Callable[[], Any]) -> Any:
        size = self.recipe.batch_size
        with reading(self.training, self.validation), enough_memory("train.batch_size", size):
            return action()
