"""Training: epochs of steps, each followed by validation, a checkpoint and a row of metrics.

:func:`fit` is read from top to bottom: what it takes and returns, the epochs, one epoch
(:class:`Training`), its steps (:class:`Trainer`), validation (:class:`Validator`), and the files
(:class:`TrainingFiles`). Why this is not Keras's ``fit`` stands in docs/design.md.
"""

from __future__ import annotations

import csv
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
from deepprofiler.learning.batches import Batches, CropView, Gather, reading_errors
from deepprofiler.learning.checkpoint import Checkpoint, Description
from deepprofiler.learning.crop_generator import CropGenerator
from deepprofiler.learning.devices import (
    enough_memory,
    from_chief,
    is_chief,
    own_share,
    require_equal_shares,
    set_seeds,
    synchronize,
    wait,
)
from deepprofiler.learning.learning_settings import Train
from deepprofiler.learning.metrics import (
    Classification,
    EpochMetrics,
    ValidationMetrics,
    best_epoch,
    stops_early,
)
from deepprofiler.learning.network import Network
from deepprofiler.learning.optimizer import make_loss, make_optimizer
from deepprofiler.learning.sampling import Cells


@dataclass(frozen=True)
class TrainingData:
    """Cells to learn from, and how they become network inputs.

    Attributes
    ----------
    gather : callable
        Reads crops, as :meth:`deepprofiler.learning.cell_store.CellStore.gather`.
    training : Cells
        Every class must have one.
    validation : Cells, optional
        Each is predicted once an epoch.
    classes : sequence of str
        Names of the K classes by code.
    view : CropView
        Crop side, rescale rule, augmentation and input side.
    """

    gather: Gather
    training: Cells
    validation: Cells | None
    classes: Sequence[str]
    view: CropView


@dataclass(frozen=True)
class Destination:
    """The files of a training.

    Attributes
    ----------
    last, best : Path
        Checkpoints of the last finished epoch, and of the one with the lowest loss.
    history : Path
        CSV file with the metrics of every epoch.
    logs : Path
        Folder of the TensorBoard files.
    """

    last: Path
    best: Path
    history: Path
    logs: Path


@dataclass(frozen=True)
class Listeners:
    """What is called while a network is trained.

    Attributes
    ----------
    on_step : callable, optional
        After each step, with epoch and step (both from 1), the number of steps in an epoch, and
        the epoch's mean loss so far.
    on_epoch : callable, optional
        After each epoch, when its files are written, with its metrics.
    callbacks : sequence of keras.callbacks.Callback
        At the beginning, before and after each epoch, and at the end.
    """

    on_step: Callable[[int, int, int, float], None] | None = None
    on_epoch: Callable[[EpochMetrics], None] | None = None
    callbacks: Sequence[keras.callbacks.Callback] = ()


@dataclass(frozen=True)
class History:
    """What :func:`fit` returns.

    Attributes
    ----------
    epochs : list of EpochMetrics
        Metrics of every finished epoch, those before a resume too.
    best : int
        The epoch with the lowest loss, on validation cells if there are any.
    resumed : int
        Number of epochs that were finished before.
    stopped : bool
        Training ended early, since the loss no longer fell.
    """

    epochs: list[EpochMetrics]
    best: int
    resumed: int
    stopped: bool


class DivergedError(DataError):
    """Training cannot go on: a loss or a weight is infinite or not a number.

    Attributes
    ----------
    epoch, step : int
        Both from 1.
    problem : str
        Such as ``the loss is nan``.
    wells : dict
        Plate and well to the number of cells in the step's batch.
    last : Path
        Checkpoint of the epoch before, if there was one.
    """

    def __init__(
        self, epoch: int, step: int, problem: str, wells: Mapping[tuple[str, str], int], last: Path
    ) -> None:
        listing = ", ".join(f"{'/'.join(place)} ({count})" for place, count in wells.items())
        kept = f"{last} holds epoch {epoch - 1}" if epoch > 1 else "No epoch was finished"
        super().__init__(
            f"training stopped at epoch {epoch}, step {step}: {problem}. The batch's cells are "
            f"from plate/well {listing}. {kept}. Check these crops, or lower train.learning_rate."
        )
        self.epoch = epoch
        self.step = step
        self.problem = problem
        self.wells = dict(wells)
        self.last = last


def fit(
    network: Network,
    generator: CropGenerator,
    data: TrainingData,
    settings: Train,
    destination: Destination,
    description: Description | None = None,
    *,
    resume: bool = True,
    listeners: Listeners | None = None,
) -> History:
    """Train a network, from scratch or from its last checkpoint.

    Resumed training gives the same weights, bit for bit on one machine, as uninterrupted training:
    everything random depends on seed, epoch and step alone. To train on several devices, call this
    in the scope of the strategy (:func:`deepprofiler.learning.devices.make_strategy`) in which the
    network was built; of several machines only the chief writes files, and all must see them.

    Parameters
    ----------
    network : Network
        Its weights are changed.
    generator : CropGenerator
        Chooses and combines cells.
    data : TrainingData
    settings : Train
        Epochs, batch size, optimizer and schedule; its model, generator, validation and
        augmentation are not used here.
    destination : Destination
    description : Description, optional
        What the weights belong to; stored in the checkpoints, with the classes. Training is
        resumed only where it is the same. Its seed decides cells, augmentation and dropout; None:
        0.
    resume : bool
        Go on from ``destination.last`` where it exists. Otherwise what an earlier training left
        is replaced when the first epoch is finished.
    listeners : Listeners, optional

    Returns
    -------
    History

    Raises
    ------
    ConfigError
        A batch cannot be divided among the devices, or does not fit into their memory.
    DataError
        A class has no cells; the crops lack margin; the checkpoint belongs to other settings.
    DivergedError
        A loss or a weight became infinite or not a number.
    PluginError
        Generator and model do not fit each other.
    """
    _require_cells(data)
    listeners = listeners or Listeners()
    description = _complete(description or Description(), data, generator)
    strategy = tf.distribute.get_strategy()
    files = TrainingFiles(destination) if is_chief(strategy) else None
    with strategy.scope():
        training = Training(network, generator, data, settings, description, destination.last)
        has_checkpoint = resume and destination.last.exists()
        state = training.load() if has_checkpoint else training.initial_state()
        epochs_before = state.epoch
        if epochs_before and files:
            files.complete(state.history)
        callbacks = keras.callbacks.CallbackList(
            list(listeners.callbacks),
            model=network.train,
            epochs=settings.epochs,
            steps=training.steps,
            verbose=0,
        )
        callbacks.on_train_begin()
        try:
            while state.epoch < settings.epochs and not stops_early(
                state.history, settings.early_stopping
            ):
                # Keras counts epochs from 0.
                callbacks.on_epoch_begin(state.epoch)
                state = training.epoch(state, listeners.on_step)
                if files:
                    files.write(state, network, training.optimizer)
                if listeners.on_epoch is not None:
                    listeners.on_epoch(state.history[-1])
                callbacks.on_epoch_end(state.epoch - 1, state.history[-1].to_row())
        finally:
            if files:
                files.close()
            callbacks.on_train_end()
    # The files are there for all machines that go on from here.
    wait(strategy)
    return History(
        state.history,
        best_epoch(state.history),
        epochs_before,
        stopped=state.epoch < settings.epochs,
    )


def _require_cells(data: TrainingData) -> None:
    counts = zip(data.classes, data.training.counts, strict=True)
    missing = [name for name, count in counts if count == 0]
    if missing:
        raise DataError(f"{len(missing)} classes have no training cells: {', '.join(missing)}")


def _complete(
    description: Description, data: TrainingData, generator: CropGenerator
) -> Description:
    """Add what the data decide."""
    cells = None
    if hasattr(generator, "epoch_end"):
        # The labels in a checkpoint are of just these cells.
        cells = f"{len(data.training)} ({data.training.digest()[:12]})"
    seed = 0 if description.seed is None else description.seed
    return replace(description, classes=tuple(data.classes), cells=cells, seed=seed)


class Training:
    """What stays the same from epoch to epoch.

    Parameters
    ----------
    network : Network
    generator : CropGenerator
    data : TrainingData
    settings : Train
    description : Description
        Complete: with classes and seed.
    last : Path
        The checkpoint to resume from.

    Attributes
    ----------
    steps : int
        Number of steps in an epoch.
    optimizer : keras.Optimizer
    """

    def __init__(
        self,
        network: Network,
        generator: CropGenerator,
        data: TrainingData,
        settings: Train,
        description: Description,
        last: Path,
    ) -> None:
        self.strategy = tf.distribute.get_strategy()
        require_equal_shares(self.strategy, settings.batch_size)
        self.network = network
        self.generator = generator
        self.settings = settings
        self.description = description
        self.seed = description.seed or 0
        self.last = last
        self.training = Batches(
            generator, network, data.gather, data.training, data.view, settings.batch_size
        )
        self.validation = (
            replace(self.training, cells=data.validation, flat_crops=[])
            if data.validation is not None and len(data.validation)
            else None
        )
        self.training.check()
        cells_per_step = settings.batch_size * self.training.width
        self.steps = settings.steps or math.ceil(len(data.training) / cells_per_step)
        if self.strategy.num_replicas_in_sync > 1:
            synchronize(network)
        self.optimizer = make_optimizer(settings, network.train)
        loss = make_loss(settings, network.target)
        # Only for callbacks, which look for the optimizer there.
        network.train.compile(self.optimizer, auto_scale_loss=False)
        self.trainer = Trainer(network, self.optimizer, loss, self.strategy)
        self.validator = Validator(network, loss, settings.top_k)

    def initial_state(self) -> Checkpoint:
        """Return the state before the first epoch."""
        labels = None
        if hasattr(self.generator, "epoch_end"):
            cells = self.training.cells
            labels = np.eye(cells.classes, dtype=np.float32)[cells.label]
        return Checkpoint(0, self.description, [], labels)

    def load(self) -> Checkpoint:
        """Load the last checkpoint."""
        state = checkpoints.read(self.last)
        checkpoints.require(self.last, state.description, self.description)
        checkpoints.load(self.last, self.network, self.optimizer)
        return state

    def epoch(
        self, state: Checkpoint, on_step: Callable[[int, int, int, float], None] | None
    ) -> Checkpoint:
        """Train and validate for one epoch; return the state after it."""
        number = state.epoch + 1
        start = time.perf_counter()
        self.training.labels = state.labels
        self.training.flat_crops.clear()
        set_seeds(self.network, self.strategy, self.seed, number)
        losses = [metrics.monitored_loss for metrics in state.history]

        def learning_rate(step: int) -> float:
            return self.settings.schedule.rate(
                self.settings.learning_rate,
                self.settings.epochs,
                self.steps,
                state.epoch * self.steps + step,
                losses,
            )

        def report(step: int, loss: float) -> None:
            if on_step is not None:
                on_step(number, step, self.steps, loss)

        batches = self.training.training(self.seed, number, self.steps)
        try:
            steps = self._guarded(lambda: self.trainer.epoch(batches, learning_rate, report))
        except NotFiniteError as error:
            raise self._diverged(number, error.step, f"the loss is {error.loss}") from None
        seconds = time.perf_counter() - start
        # Before validation: crops that are read for new labels would count too.
        flat_crops = sum(self.training.flat_crops)
        self._require_finite_weights(number)
        cells = self.steps * self.settings.batch_size * self.training.width
        metrics = EpochMetrics(
            epoch=number,
            loss=steps.loss,
            accuracy=steps.accuracy if self.network.target == "label" else None,
            validation=self._validate(number),
            learning_rate=steps.learning_rate,
            flat_crops=flat_crops,
            seconds=seconds,
            cells_per_second=cells / seconds,
            waiting=steps.waiting / seconds,
        )
        labels = None if state.labels is None else self._next_labels(state.labels)
        return Checkpoint(number, self.description, [*state.history, metrics], labels)

    def _require_finite_weights(self, epoch: int) -> None:
        for weight in self.network.train.weights:
            if not np.isfinite(np.asarray(weight)).all():
                raise self._diverged(epoch, self.steps, "the weights are not finite")

    def _validate(self, epoch: int) -> ValidationMetrics | None:
        """Compute the metrics of the validation cells; the chief's, so that all machines agree."""
        batches = self.validation
        if batches is None:
            return None
        row = self._guarded(lambda: self.validator.metrics(batches)).to_row()
        values = from_chief(self.strategy, np.array(list(row.values())))
        metrics = ValidationMetrics.from_row(dict(zip(row, values.tolist(), strict=True)))
        assert metrics is not None
        if not math.isfinite(metrics.loss):
            raise self._diverged(epoch, self.steps, f"the validation loss is {metrics.loss}")
        return metrics

    def _next_labels(self, labels: np.ndarray) -> np.ndarray:
        """Return the labels (N, K) of the next epoch; the chief's."""
        kind, epoch_end = type(self.generator), self.generator.epoch_end  # type: ignore[attr-defined]
        with plugin_code(kind, f"{kind.__name__} cannot be used"):
            changed = np.asarray(epoch_end(self._probabilities, labels), np.float32)
        if changed.shape != labels.shape or not np.isfinite(changed).all():
            raise PluginError(
                f"crop generator {kind.__name__}: epoch_end gives {changed.shape}; it must give "
                f"{labels.shape} finite numbers"
            )
        return from_chief(self.strategy, changed)

    def _probabilities(self, positions: np.ndarray) -> np.ndarray:
        """Predict the class probabilities (n, K) of training cells, without augmentation."""
        probabilities: np.ndarray = self._guarded(
            lambda: self.validator.probabilities(self.training, positions)
        )
        return probabilities

    def _guarded(self, action: Callable[[], Any]) -> Any:
        size = self.settings.batch_size
        with (
            reading_errors(self.training, self.validation),
            enough_memory("train.batch_size", size),
        ):
            return action()

    def _diverged(self, epoch: int, step: int, problem: str) -> DivergedError:
        wells = self.training.wells(self.seed, epoch, step)
        return DivergedError(epoch, step, problem, wells, self.last)


class NotFiniteError(Exception):
    """The loss of a step is infinite or not a number.

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
class StepMetrics:
    """Metrics of the steps of an epoch.

    Attributes
    ----------
    loss : float
        Mean over steps.
    accuracy : float
        Share of examples whose predicted class is the one with the largest label.
    waiting : float
        Seconds spent waiting for batches.
    learning_rate : float
        Of the last step.
    """

    loss: float
    accuracy: float
    waiting: float
    learning_rate: float


class Trainer:
    """A network, its optimizer and its loss, as one compiled step.

    Parameters
    ----------
    network : Network
        Built within the strategy's scope.
    optimizer : keras.Optimizer
        Built.
    loss : callable
        Of targets (B, …) and outputs; the mean over examples.
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
        self._step = tf.function(self._on_all_devices, autograph=False, jit_compile=False)

    def epoch(
        self,
        batches: Iterable[tuple[Any, Any]],
        learning_rate: Callable[[int], float],
        on_step: Callable[[int, float], None],
    ) -> StepMetrics:
        """Take a step with each batch.

        Parameters
        ----------
        batches : iterable of (x, y)
            Whole batches; each device takes its share.
        learning_rate : callable
            Learning rate of each step, counted from 1.
        on_step : callable
            Called with the number of each step and the mean loss so far.

        Raises
        ------
        NotFiniteError
            At the first step whose loss is not finite.
        """
        total = correct = examples = waiting = rate = 0.0
        step = 0
        ready = time.perf_counter()
        for step, (x, y) in enumerate(batches, 1):
            waiting += time.perf_counter() - ready
            rate = learning_rate(step)
            self._optimizer.learning_rate = rate
            loss, correct_here = (float(value) for value in self._step(x, y))
            if not math.isfinite(loss):
                raise NotFiniteError(step, loss)
            total += loss
            correct += correct_here
            examples += len(x)
            on_step(step, total / step)
            ready = time.perf_counter()
        return StepMetrics(total / step, correct / examples, waiting, rate)

    def _on_all_devices(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Take a step; return the batch's loss and its number of correct predictions."""
        results = self._strategy.run(self._on_one_device, args=(x, y))
        loss, correct = (
            self._strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None) for value in results
        )
        return loss, correct

    def _on_one_device(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Take one device's part of a step."""
        model = self._network.train
        count = tf.distribute.get_replica_context().num_replicas_in_sync
        x, y = own_share(x), own_share(y)
        with tf.GradientTape() as tape:
            outputs = tf.cast(model(x, training=True), tf.float32)
            # With what layers add to the loss, such as weight penalties. Shares are equal, so the
            # mean over all devices is that over the batch.
            loss = tf.add_n([self._loss(y, outputs), *model.losses]) / count
            scaled = self._optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        if count > 1 and isinstance(self._optimizer, keras.optimizers.LossScaleOptimizer):
            gradients = share_overflow(gradients)
        self._optimizer.apply(gradients, model.trainable_variables)
        correct = tf.zeros([])
        if self._network.target == "label":
            equal = tf.equal(tf.argmax(outputs, axis=-1), tf.argmax(y, axis=-1))
            correct = tf.reduce_sum(tf.cast(equal, tf.float32))
        return loss, correct


def share_overflow(gradients: list[Any]) -> list[Any]:
    """Make the gradients of all devices not finite where those of one are not.

    The optimizer checks each device's own before it sums them, and skips the step.
    """
    zeros = [tf.reduce_sum(0 * gradient) for gradient in gradients if gradient is not None]
    # 0, or not a number where a gradient is not finite.
    overflow = tf.distribute.get_replica_context().all_reduce(
        tf.distribute.ReduceOp.SUM, tf.add_n(zeros)
    )
    return [None if gradient is None else gradient + overflow for gradient in gradients]


class Validator:
    """A network's predictions, compiled once.

    Parameters
    ----------
    network : Network
    loss : callable
        Of targets (B, …) and outputs; the mean over examples.
    top_k : int
        See :class:`deepprofiler.learning.metrics.Classification`.
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

    def metrics(self, batches: Batches) -> ValidationMetrics:
        """Compute the mean loss over all cells and, for labels, the classification metrics."""
        cells = batches.cells
        total, predictions = 0.0, []
        for x, y in batches.validation():
            outputs = self._predict(x)
            total += float(self._loss(y, outputs)) * len(outputs)
            if self._target == "label":
                predictions.append(outputs.numpy())
        classification = None
        if self._target == "label":
            logits = np.concatenate(predictions)
            classification = Classification.of(logits, cells.label, self._top_k)
        return ValidationMetrics(total / len(cells), classification)

    def probabilities(self, batches: Batches, positions: np.ndarray) -> np.ndarray:
        """Predict the class probabilities (n, K) of the cells at some positions."""
        shown = batches.validation(positions)
        return np.concatenate([tf.nn.softmax(self._predict(x)).numpy() for x, _ in shown])


@dataclass
class TrainingFiles:
    """Writes the files of a training.

    Attributes
    ----------
    destination : Destination
    """

    destination: Destination
    _writer: tf.summary.SummaryWriter | None = field(default=None, init=False)

    def write(self, state: Checkpoint, network: Network, optimizer: keras.Optimizer) -> None:
        """Write checkpoints, history and logs after an epoch.

        Should the process end in between, both checkpoints are of one training: after the first
        epoch the best checkpoint of an earlier training is removed before there is a new last one;
        later the best one is written first, and the epoch is repeated with the same result.
        """
        last, best = self.destination.last, self.destination.best
        if state.epoch == 1:
            with replacing(last) as temporary:
                checkpoints.save(temporary, state, network, optimizer)
                best.unlink(missing_ok=True)
            self._clear_logs()
        if best_epoch(state.history) == state.epoch:
            checkpoints.save(best, state, network, optimizer)
        if state.epoch > 1:
            checkpoints.save(last, state, network, optimizer)
        self._write_history(state.history)
        # Not before the logs of an earlier training are removed.
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.destination.logs))
        with self._writer.as_default(step=state.epoch):
            for name, value in state.history[-1].to_row().items():
                tf.summary.scalar(name, value)
        self._writer.flush()

    def complete(self, history: Sequence[EpochMetrics]) -> None:
        """Write what is missing where a process ended within :meth:`write`."""
        self._write_history(history)
        if best_epoch(history) == len(history) and not self.destination.best.exists():
            with replacing(self.destination.best) as temporary:
                shutil.copyfile(self.destination.last, temporary)

    def close(self) -> None:
        """Close the TensorBoard file."""
        if self._writer is not None:
            self._writer.close()

    def _write_history(self, history: Sequence[EpochMetrics]) -> None:
        rows = [metrics.to_row() for metrics in history]
        with replacing(self.destination.history) as temporary, temporary.open("w", newline="") as f:
            table = csv.DictWriter(f, list(rows[-1]), restval="", extrasaction="ignore")
            table.writeheader()
            table.writerows(rows)

    def _clear_logs(self) -> None:
        """Remove the logs of an earlier training, now that a first epoch has replaced it."""
        for path in self.destination.logs.glob("events.out.tfevents*"):
            path.unlink()
