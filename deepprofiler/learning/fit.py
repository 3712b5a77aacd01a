"""Training: epochs of batches, validation, checkpoints and logs."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deepprofiler.errors import DataError
from deepprofiler.learning import checkpoint as checkpoints
from deepprofiler.learning.batches import Batches, Gather, Look
from deepprofiler.learning.checkpoint import Checkpoint
from deepprofiler.learning.generator import CropGenerator
from deepprofiler.learning.history import History, best_epoch, is_over, log_line, write_csv
from deepprofiler.learning.network import Network
from deepprofiler.learning.recipe import Recipe, make_optimizer
from deepprofiler.learning.sampling import Cells
from deepprofiler.learning.watch import Progress, Watch

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

    Returns
    -------
    History

    Raises
    ------
    DataError
        A class has no cells; the crops lack margin; the checkpoint was made for something else;
        the loss became infinite or undefined (with epoch, step, and the batch's wells).
    PluginError
        Generator and model do not fit each other.
    """
    absent = [name for name, count in zip(classes, training.counts, strict=True) if count == 0]
    if absent:
        raise DataError(f"{len(absent)} classes have no cells to train on: {', '.join(absent)}")
    run = _Run(network, generator, gather, training, validation, look, recipe, last)
    about = {**about, "classes": list(classes)}
    state = run.begin(about) if fresh or not last.exists() else run.resume(about)
    resumed = state.epoch
    if resumed:
        write_csv(figures, state.history)
    writer = None
    while state.epoch < recipe.epochs and not is_over(state.history, recipe.patience):
        row, labels = run.epoch(state, progress)
        state = Checkpoint(state.epoch + 1, about, [*state.history, row], labels)
        if state.epoch == 1:
            _clear(last, logs)
        # The best first: should the process end in between, the epoch is repeated as it was.
        if best_epoch(state.history) == state.epoch:
            checkpoints.save(best, state, network, run.optimizer)
        checkpoints.save(last, state, network, run.optimizer)
        write_csv(figures, state.history)
        # Not before the first save, which removes the logs of an earlier training.
        writer = writer or tf.summary.create_file_writer(str(logs))
        with writer.as_default(step=state.epoch):
            for name, value in row.items():
                tf.summary.scalar(name, value)
        writer.flush()
        LOG.info(log_line(row, recipe.epochs))
    if writer is not None:
        writer.close()
    return History(
        state.history,
        best_epoch(state.history),
        resumed,
        stopped=is_over(state.history, recipe.patience) and state.epoch < recipe.epochs,
    )


def _clear(last: Path, logs: Path) -> None:
    """Remove what an earlier training left, now that a first epoch can replace it."""
    last.unlink(missing_ok=True)
    for path in logs.glob("events.out.tfevents*"):
        path.unlink()


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
    ) -> None:
        self.network = network
        self.generator = generator
        self.recipe = recipe
        self.last = last
        self.training = Batches(generator, network, gather, training, look, recipe.batch_size)
        self.validation = (
            replace(self.training, cells=validation, flat=[])
            if validation is not None and len(validation)
            else None
        )
        self.training.check()
        width = self.training.drawn(recipe.seed, 1, 1).shape[1]
        self.steps = recipe.steps or math.ceil(len(training) / (recipe.batch_size * width))
        self.optimizer = make_optimizer(recipe, self.steps)
        self.loss = (
            keras.losses.MeanSquaredError()
            if network.target == "input"
            else keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=recipe.label_smoothing
            )
        )
        metrics = [keras.metrics.CategoricalAccuracy("accuracy")]
        # XLA makes convolutions on processors twenty times slower.
        network.train.compile(
            self.optimizer,
            self.loss,
            metrics=metrics if network.target == "label" else [],
            jit_compile=False,
        )
        self._predict = tf.function(
            lambda x: network.train(x, training=False),
            input_signature=[tf.TensorSpec(network.train.input_shape, network.train.input.dtype)],
        )

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
        if self.recipe.schedule == "constant":
            # The config's value holds, not the one that was stored.
            self.optimizer.learning_rate = self.recipe.learning_rate
        LOG.info("going on from epoch %d in %s", state.epoch, path)
        return state

    def epoch(
        self, state: Checkpoint, progress: Progress | None
    ) -> tuple[dict[str, float], np.ndarray | None]:
        """Train and validate once; give the figures and the labels of the next epoch."""
        number = state.epoch + 1
        start = time.perf_counter()
        self.training.labels = state.labels
        self.training.flat.clear()
        self.network.set_seeds(self.recipe.seed, number)
        watch = Watch(self.training, number, self.steps, self.broken, progress)
        fitted = self._guarded(
            lambda: self.network.train.fit(
                self.training.training(self.recipe.seed, number, self.steps),
                initial_epoch=number - 1,
                epochs=number,
                shuffle=False,
                verbose=0,
                callbacks=[watch],
            )
        )
        seconds = time.perf_counter() - start
        row: dict[str, float] = {"epoch": number}
        row |= {name: float(values[-1]) for name, values in fitted.history.items()}
        if not all(np.isfinite(np.asarray(weight)).all() for weight in self.network.train.weights):
            raise self.broken(number, self.steps, "the weights are not finite")
        if self.validation is not None:
            row |= self._validate(self.validation)
            if not math.isfinite(row["val_loss"]):
                raise self.broken(number, self.steps, f"the validation loss is {row['val_loss']}")
        labels = state.labels
        if labels is not None:
            labels = self.generator.epoch_end(self._probabilities, labels)  # type: ignore[attr-defined]
        shown = self.steps * self.training.drawn(self.recipe.seed, number, 1).size
        return row | {
            "learning_rate": float(self.optimizer.learning_rate),
            "flat_crops": sum(self.training.flat),
            "seconds": seconds,
            "cells_per_second": shown / seconds,
            "waiting": watch.waited / seconds,
        }, labels

    def broken(self, epoch: int, step: int, what: str) -> DataError:
        """Make the error of a training that cannot go on."""
        cells = self.training.cells
        drawn = self.training.drawn(self.recipe.seed, epoch, step).reshape(-1)
        counts = Counter(cells.well[drawn])
        wells = ", ".join(
            f"{plate}/{well} ({count})"
            for (plate, well), count in ((cells.places[code], n) for code, n in counts.items())
        )
        kept = f"{self.last} holds epoch {epoch - 1}" if epoch > 1 else "no epoch was finished"
        return DataError(
            f"training stopped at epoch {epoch}, step {step}: {what}. The batch's cells are from "
            f"plate/well {wells}. {kept}. Look at these crops, or lower train.learning_rate."
        )

    def _validate(self, batches: Batches) -> dict[str, float]:
        """Loss and, for labels, micro and macro accuracy of the validation cells."""
        losses, right = [], []
        for x, y in self._guarded(batches.validation):
            logits = self._predict(x)
            losses.append(float(self.loss(y, logits)) * len(logits))
            if self.network.target == "label":
                right.append(np.argmax(logits, axis=1) == np.argmax(y, axis=1))
        cells = batches.cells
        figures = {"val_loss": sum(losses) / len(cells)}
        if self.network.target == "label":
            correct = np.bincount(cells.label, np.concatenate(right), minlength=cells.classes)
            present = cells.counts > 0
            figures["val_accuracy"] = float(correct.sum() / len(cells))
            figures["val_macro_accuracy"] = float(np.mean(correct[present] / cells.counts[present]))
        return figures

    def _probabilities(self, positions: np.ndarray) -> np.ndarray:
        """Class probabilities (n, K) of training cells, shown without augmentation."""
        batches = self.training.validation(positions)
        return np.concatenate([tf.nn.softmax(self._predict(x)).numpy() for x, _ in batches])

    def _guarded(self, action: Callable[[], Any]) -> Any:
        """Raise what really went wrong while a batch was read."""
        try:
            return action()
        except tf.errors.OpError:
            for batches in (self.training, self.validation):
                if batches is not None and batches.error is not None:
                    raise batches.error from None
            raise
