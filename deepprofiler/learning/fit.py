"""Training: epochs of batches, validation, checkpoints and logs."""

from __future__ import annotations

import csv
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deepprofiler.errors import DataError, PluginError, plugin_code
from deepprofiler.files import replacing
from deepprofiler.learning import checkpoint as checkpoints
from deepprofiler.learning.batches import (
    Batches,
    Gather,
    Look,
    reading,
)
from deepprofiler.learning.checkpoint import Checkpoint
from deepprofiler.learning.crop_generator import CropGenerator
from deepprofiler.learning.devices import (
    agreed,
    enough_memory,
    is_chief,
    own_share,
    require_equal_shares,
    set_seeds,
    synchronize,
    wait,
)
from deepprofiler.learning.network import Network
from deepprofiler.learning.optimizer import Recipe, make_loss, make_optimizer
from deepprofiler.learning.sampling import Cells


def accuracies(logits: np.ndarray, label: np.ndarray, top_k: int) -> dict[str, float]:
    """Compare what a network says with what is true.

    Parameters
    ----------
    logits : (N, K) array
        The largest of a row is the network's choice, the first of equals.
    label : (N,) int array
        True classes; those without cells are left out of every mean over classes.
    top_k : int
        For ``val_top_<k>_accuracy``, which is left out where k classes are all there are.

    Returns
    -------
    dict
        ``val_accuracy``
            Share of cells whose class is the network's choice.
        ``val_top_<k>_accuracy``
            Share of cells whose class is among its k likeliest.
        ``val_macro_accuracy``
            Mean over classes of the share of a class's cells that are found (mean recall).
        ``val_macro_precision``
            Mean over classes of the share of right choices among those of a class; 0 for a class
            that is never chosen.
        ``val_macro_f1``
            Mean over classes of the harmonic mean of both.
    """
    classes = logits.shape[1]
    order = np.argsort(-logits, axis=1, kind="stable")
    chosen = order[:, 0]
    cells = np.bincount(label, minlength=classes)
    choices = np.bincount(chosen, minlength=classes)
    right = np.bincount(label[chosen == label], minlength=classes)
    present = cells > 0
    figures = {"val_accuracy": right.sum() / len(label)}
    if top_k < classes:
        among = (order[:, :top_k] == label[:, np.newaxis]).any(axis=1)
        figures[f"val_top_{top_k}_accuracy"] = among.mean()
    figures |= {
        "val_macro_accuracy": np.mean(right[present] / cells[present]),
        "val_macro_precision": np.mean(right[present] / np.maximum(choices[present], 1)),
        "val_macro_f1": np.mean(2 * right[present] / (cells + choices)[present]),
    }
    return {name: float(value) for name, value in figures.items()}


@dataclass(frozen=True)
class History:
    """What training came to.

    Attributes
    ----------
    epochs : list of dict
        Figures of every finished epoch, those of earlier runs too: ``epoch``, ``loss``,
        ``accuracy``, with validation cells ``val_loss`` and those of
        :func:`deepprofiler.learning.fit.accuracies`, ``learning_rate`` (of the last step),
        ``flat_crops``, ``seconds``, ``cells_per_second``, ``waiting`` (share of time spent on
        data).
    best : int
        The epoch with the lowest loss, on validation cells if there are any.
    resumed : int
        Epochs that were finished before.
    stopped : bool
        Training ended early, since the loss did not fall any more.
    """

    epochs: list[dict[str, float]]
    best: int
    resumed: int
    stopped: bool


def watched_losses(history: Sequence[Mapping[str, float]]) -> list[float]:
    """Loss of each epoch, on validation cells if there are any: what every decision is based on."""
    return [row.get("val_loss", row["loss"]) for row in history]


def best_epoch(history: Sequence[Mapping[str, float]]) -> int:
    """Epoch with the lowest loss, the first of equals; 0 before the first."""
    losses = watched_losses(history)
    return losses.index(min(losses)) + 1 if losses else 0


def is_over(history: Sequence[Mapping[str, float]], patience: int | None) -> bool:
    """Whether the loss has not fallen for so many epochs."""
    return patience is not None and len(history) - best_epoch(history) >= patience


def write_csv(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write one line an epoch."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, list(history[-1]), restval="", extrasaction="ignore")
        table.writeheader()
        table.writerows(history)


def log_line(row: Mapping[str, float], epochs: int) -> str:
    """One log line of an epoch."""
    parts = [f"epoch {row['epoch']} of {epochs}: loss {row['loss']:.4g}"]
    if "accuracy" in row:
        parts.append(f"accuracy {row['accuracy']:.3f}")
    if "val_loss" in row:
        parts.append(f"validation loss {row['val_loss']:.4g}")
    parts += [
        f"{name.removeprefix('val_').replace('_', ' ')} {value:.3f}"
        for name, value in row.items()
        if name.startswith("val_") and name != "val_loss"
    ]
    parts.append(f"{row['flat_crops']} crops with a flat channel")
    parts.append(f"{row['cells_per_second']:.0f} cells/s, {row['waiting']:.0%} waiting for data")
    return ", ".join(parts)


LOG = logging.getLogger("deepprofiler")


@dataclass
class Record:
    """The files of one training.

    Attributes
    ----------
    last, best : Path
        Checkpoints of the last finished epoch, and of the one with the lowest loss.
    figures : Path
        CSV file of every epoch's figures.
    logs : Path
        Folder of the TensorBoard files.
    """

    last: Path
    best: Path
    figures: Path
    logs: Path
    _writer: tf.summary.SummaryWriter | None = field(default=None, init=False)

    def write(
        self, state: Checkpoint, network: Network, optimizer: keras.Optimizer, epochs: int
    ) -> None:
        """Write what there is after an epoch, and tell it.

        Should the process end in between, the two checkpoints are of one training: after the
        first epoch the best of an earlier one goes before there is a new last; later on the best
        comes first, and the epoch is repeated as it was.
        """
        if state.epoch == 1:
            with replacing(self.last) as temporary:
                checkpoints.save(temporary, state, network, optimizer)
                self.best.unlink(missing_ok=True)
            self._clear_logs()
        if best_epoch(state.history) == state.epoch:
            checkpoints.save(self.best, state, network, optimizer)
        if state.epoch > 1:
            checkpoints.save(self.last, state, network, optimizer)
        write_csv(self.figures, state.history)
        row = state.history[-1]
        # Not before the logs of an earlier training are removed.
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.logs))
        with self._writer.as_default(step=state.epoch):
            for name, value in row.items():
                tf.summary.scalar(name, value)
        self._writer.flush()
        LOG.info(log_line(row, epochs))

    def resume(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write what a training that ended within :meth:`write` did not come to."""
        write_csv(self.figures, history)
        if best_epoch(history) == len(history) and not self.best.exists():
            with replacing(self.best) as temporary:
                shutil.copyfile(self.last, temporary)

    def close(self) -> None:
        """Close the TensorBoard file."""
        if self._writer is not None:
            self._writer.close()

    def _clear_logs(self) -> None:
        """Remove what an earlier training left, now that a first epoch has replaced it."""
        for path in self.logs.glob("events.out.tfevents*"):
            path.unlink()


class Validator:
    """A network's answers, compiled once.

    Parameters
    ----------
    network : Network
    loss : callable
        Targets (B, …) and what the network gives to the mean loss.
    top_k : int
        See :func:`deepprofiler.learning.fit.accuracies`.
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
        Of :func:`deepprofiler.learning.devices.make_strategy`, where the network was built in
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
