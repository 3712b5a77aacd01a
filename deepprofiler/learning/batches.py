"""From cells to network inputs: which crops are read, and how they become batches.

Each epoch is one ``tf.data`` dataset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from deepprofiler.errors import DataError, PluginError, plugin_code
from deepprofiler.learning.augment import augment, centre, rescale, resize
from deepprofiler.learning.cell_store import margin
from deepprofiler.learning.crop_generator import CropGenerator
from deepprofiler.learning.learning_settings import Augmentation, Rescale
from deepprofiler.learning.network import Network
from deepprofiler.learning.sampling import Cells

# Rows (n,) to crops (n, M, M, C) uint8 and their minimum and maximum (n, C) float32.
Gather = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
_AHEAD = 4


@dataclass(frozen=True)
class CropView:
    """How stored crops become the input of a network.

    Attributes
    ----------
    size : int
        Side S of a crop in pixels, without its margin.
    rescale : str
        How each channel of a crop is scaled; see :func:`deepprofiler.learning.augment.rescale`.
    augmentation : Augmentation
        Random changes of training crops.
    resize : int, optional
        Side R of the network's input in pixels; None: S.
    """

    size: int
    rescale: Rescale = "min-max"
    augmentation: Augmentation = field(default_factory=Augmentation)
    resize: int | None = None


@contextmanager
def reading_errors(*sets: Batches | None) -> Iterator[None]:
    """Raise the error that occurred while a batch was read, in place of TensorFlow's error."""
    try:
        yield
    except tf.errors.OpError:
        for batches in sets:
            if batches is not None and batches.error is not None:
                raise batches.error from None
        raise


def random_numbers(*key: int) -> np.random.Generator:
    """Random numbers that depend on ``(seed, epoch, step)`` alone."""
    return np.random.default_rng(key)


@dataclass
class Batches:
    """The training or validation cells as datasets of batches.

    Attributes
    ----------
    generator : CropGenerator
        Chooses and combines cells.
    network : Network
        Decides what the target is: labels, or the input itself.
    gather : callable
        Reads crops by the rows in ``cells.row``.
    cells : Cells
        Training or validation cells.
    view : CropView
        How crops become network inputs.
    size : int
        Examples a batch, B.
    labels : (N, K) float32 array, optional
        Labels that replace the one-hot ones of ``cells``.
    flat_crops : list of int
        For each batch read so far, the number of its crops with a constant channel.
    error : Exception, optional
        The error that occurred while a batch was read; TensorFlow only keeps its text.
    """

    generator: CropGenerator
    network: Network
    gather: Gather
    cells: Cells
    view: CropView
    size: int
    labels: np.ndarray | None = None
    flat_crops: list[int] = field(default_factory=list)
    error: Exception | None = None

    def __post_init__(self) -> None:
        crops = self.gather(self.cells.row[:1])[0]
        self._stored = crops.shape[1:]
        view = self.view
        needed = view.size + margin(
            view.size, shift=view.augmentation.shift, rotations=view.augmentation.rotations
        )
        stored = crops.shape[1]
        if stored < needed or (stored - view.size) % 2:
            raise DataError(
                f"crops are stored with side {stored}; size {view.size} with this augmentation "
                f"needs {needed}: set crops.margin to auto or at least {needed - view.size} and "
                "run export-sc again, or lower train.augment"
            )
        # A tf.function is traced once and then part of every epoch's dataset.
        self._inputs = tf.function(self._make_inputs)

    def drawn(self, seed: int, epoch: int, step: int) -> np.ndarray:
        """Return the positions (B, T) of the cells of one training batch.

        Raises
        ------
        PluginError
            The crop generator does not give valid positions.
        """
        rows = self._draw(seed, epoch, step)
        if rows.shape[1] != self.width:
            raise PluginError(
                f"crop generator {type(self.generator).__name__}: draw gives {rows.shape[1]} cells "
                f"an example, and gave {self.width} before; it must give the same number each time"
            )
        return rows

    @cached_property
    def width(self) -> int:
        """Number of cells of a training example, T; it must stay the same."""
        return self._draw(0, 0, 1).shape[1]

    def _draw(self, seed: int, epoch: int, step: int) -> np.ndarray:
        kind = type(self.generator)
        rng = random_numbers(seed, epoch, step)
        with plugin_code(kind, f"{kind.__name__} cannot be used"):
            rows = np.asarray(self.generator.draw(self.cells, self.size, rng))
            if not np.issubdtype(rows.dtype, np.integer):
                raise PluginError(
                    f"crop generator {kind.__name__}: draw gives {rows.dtype}; it must give "
                    "positions, which are whole numbers (int64)"
                )
            whole = rows.ndim == 2 and len(rows) == self.size
            # A negative position would be another cell, and no error.
            if not whole or not 0 <= rows.min() <= rows.max() < len(self.cells):
                raise PluginError(
                    f"crop generator {kind.__name__}: draw gives {rows.shape} from {rows.min()} to "
                    f"{rows.max()}; it must give (B, T) = ({self.size}, T) positions from 0 to "
                    f"{len(self.cells) - 1}"
                )
        return rows.astype(np.int64)

    def wells(self, seed: int, epoch: int, step: int) -> dict[tuple[str, str], int]:
        """Return the number of cells in one training batch for each plate and well in it."""
        codes = self.cells.well[self.drawn(seed, epoch, step).reshape(-1)]
        places = (tuple(self.cells.places[code].tolist()) for code in codes)
        return dict(Counter((plate, well) for plate, well in places))

    def training(self, seed: int, epoch: int, steps: int) -> tf.data.Dataset:
        """Return the augmented batches of one epoch; epochs and steps count from 1."""

        def load(step: Any) -> tuple[np.ndarray, ...]:
            return self._load(
                self.drawn(seed, epoch, int(step)),
                random_numbers(seed, epoch, int(step), 1).integers(2**31, size=2, dtype=np.int32),
            )

        return self._dataset(tf.data.Dataset.range(1, steps + 1), load, self.width, True)

    def validation(self, positions: np.ndarray | None = None) -> tf.data.Dataset:
        """Return every cell once, in order and not augmented."""
        if positions is None:
            positions = np.arange(len(self.cells))
        width = self.generator.show(positions[:1]).shape[1]

        def load(first: Any) -> tuple[np.ndarray, ...]:
            rows = positions[int(first) : int(first) + self.size]
            return self._load(np.asarray(self.generator.show(rows)), np.zeros(2, np.int32))

        starts = tf.data.Dataset.range(0, len(positions), self.size)
        return self._dataset(starts, load, width, False)

    def check(self) -> None:
        """Raise PluginError unless what the generator gives fits the network."""
        kind = type(self.generator)
        names = f"crop generator {kind.__name__} and {self.network.train.name}"
        with plugin_code(kind, f"{kind.__name__} cannot be used"):
            x, y = self.training(0, 0, 1).element_spec
        given, taken = x.shape, self.network.train.input_shape
        if not given.is_compatible_with(taken):
            raise PluginError(f"{names} do not fit: inputs are {given}, the model takes {taken}")
        target, output = y.shape, self.network.train.output_shape
        if not target.is_compatible_with(output):
            raise PluginError(f"{names} do not fit: targets are {target}, the model gives {output}")

    def _dataset(
        self,
        source: tf.data.Dataset,
        load: Callable[[Any], tuple[np.ndarray, ...]],
        width: int,
        training: bool,
    ) -> tf.data.Dataset:
        side, _, channels = self._stored

        def guarded(number: Any) -> tuple[np.ndarray, ...]:
            try:
                return load(number)
            except Exception as error:
                self.error = error
                raise

        def read(number: Any) -> tuple[Any, ...]:
            types = (tf.uint8, tf.float32, tf.float32, tf.float32, tf.int32)
            values = tf.numpy_function(guarded, [number], types, stateful=False)
            shapes = (
                (None, width, side, side, channels),
                (None, width, channels),
                (None, width, channels),
                (None, width, self.cells.classes),
                (2,),
            )
            return tuple(tf.ensure_shape(v, s) for v, s in zip(values, shapes, strict=True))

        def make(*values: Any) -> tuple[Any, Any]:
            return self._inputs(*values, training=training)

        # The second reads while the first waits for the disk; order is kept.
        read_ahead = source.map(read, num_parallel_calls=2, deterministic=True)
        return read_ahead.map(make, num_parallel_calls=2, deterministic=True).prefetch(_AHEAD)

    def _load(self, positions: np.ndarray, seed: np.ndarray) -> tuple[np.ndarray, ...]:
        """Read the crops of (B, T) positions, with their limits and labels."""
        flat = positions.reshape(-1)
        crops, minimum, maximum = self.gather(self.cells.row[flat])
        self.flat_crops.append(int(np.count_nonzero((maximum <= minimum).any(axis=1))))
        if self.labels is None:
            labels = np.eye(self.cells.classes, dtype=np.float32)[self.cells.label[flat]]
        else:
            labels = self.labels[flat]
        shape = positions.shape
        return (
            crops.reshape(*shape, *crops.shape[1:]),
            minimum.reshape(*shape, -1),
            maximum.reshape(*shape, -1),
            labels.reshape(*shape, -1),
            seed,
        )

    def _make_inputs(
        self, crops: Any, minimum: Any, maximum: Any, labels: Any, seed: Any, training: bool
    ) -> tuple[Any, Any]:
        width, channels, size = crops.shape[1], crops.shape[-1], self.view.size
        crops = tf.reshape(crops, [-1, *crops.shape[2:]])
        augmenting, combining = tf.unstack(tf.random.split(seed, 2))
        if training:
            crops = augment(crops, size, self.view.augmentation, augmenting)
        else:
            crops = centre(crops, size)
        crops = rescale(
            crops,
            self.view.rescale,
            tf.reshape(minimum, [-1, channels]),
            tf.reshape(maximum, [-1, channels]),
        )
        crops = resize(crops, self.view.resize)
        side = self.view.resize or size
        crops = tf.reshape(crops, [-1, width, side, side, channels])
        x, y = self.generator.combine(crops, labels, combining)
        return x, (x if self.network.target == "input" else y)
